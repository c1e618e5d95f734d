#include "ops/attention.h"

#ifdef ML_ISA
#include "ops/attention_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

// Of one thread. Keys are those of the task, queries those of one block.
struct BackwardWorkspace {
  float *keys_t, *values_t;  // k and v transposed, in panels
  float* keys;               // k in panels
  float *dk, *dv;            // [capacity, padded d]
  float *q, *dy;             // [kBlock, kRowPitch]; q times scale
  float* dq;                 // [kBlock, padded d], without the scale
  float *p, *ds;             // [kBlock, kScorePitch]
  float *lse, *D;            // [kBlock]; D: <dy[t], y[t]>
  int64_t capacity;          // keys, in whole blocks

  BackwardWorkspace(float* at, const AttentionSizes& n, int64_t keys_of_task)
      : capacity(round_up(keys_of_task, kBlock)) {
    const auto take = [&at](int64_t floats) { return (at += floats) - floats; };
    const int64_t padded = n.padded();
    keys_t = take(capacity * n.d);
    values_t = take(capacity * n.d);
    keys = take(capacity * padded);
    dk = take(capacity * padded);
    dv = take(capacity * padded);
    q = take(kBlock * kRowPitch);
    dy = take(kBlock * kRowPitch);
    dq = take(kBlock * padded);
    p = take(kBlock * kScorePitch);
    ds = take(kBlock * kScorePitch);
    lse = take(kBlock);
    D = take(kBlock);
  }
};

int64_t attention_backward_floats(const AttentionBackward& a) {
  const AttentionSizes n = sizes_of(a);
  return round_up(n.K, kBlock) * (2 * n.d + 3 * n.padded()) +
         kBlock * (2 * kRowPitch + n.padded() + 2 * kScorePitch + 2);
}

// A block of queries of one head: [t, t + rows).
struct QueryBlock {
  int64_t b, h, t, rows;
};

void copy_queries(const AttentionBackward& a, const BackwardWorkspace& w, const AttentionSizes& n,
                  const QueryBlock& at) {
  const int64_t first = n.query(at.b, at.t, at.h), stride = n.query_stride(), padded = n.padded(),
                row = (at.b * n.H + at.h) * n.T + at.t;
  const float *q = a.q.as<float>() + first, *dy = a.dy.as<float>() + first,
              *y = a.y.as<float>() + first;
  copy_rows(w.q, q, stride, at.rows, n.d, a.scale);
  copy_rows(w.dy, dy, stride, at.rows, n.d, 1);
  for (int64_t i = 0; i < round_up(at.rows, kTileRows); ++i) {
    const bool inside = i < at.rows;
    w.lse[i] = inside ? a.lse.as<float>()[row + i] : 0.0f;
    w.D[i] = inside ? dot(dy + i * stride, y + i * stride, n.d) : 0.0f;
  }
  for (int64_t i = 0; i < round_up(at.rows, kTileRows) * padded; ++i) w.dq[i] = 0;
}

// p = exp(s - lse) and ds = p (dp - D) of one query and n keys, in place; zeros up to the end of
// the last vector.
[[gnu::always_inline]] inline void score_gradients(float* p, float* ds, int64_t n, float lse,
                                                   float D) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const Vec e = exp_of_score(min(set1(89.0f), load(p + i) - lse));
    store(p + i, e);
    store(ds + i, e * (load(ds + i) - D));
  }
  if (i < n) {
    const Vec e = exp_of_score(min(set1(89.0f), load(p + i) - lse));
    store(p + i, first_lanes(e, n - i, 0));
    store(ds + i, first_lanes(e * (load(ds + i) - D), n - i, 0));
  }
}

// p and ds of a tile of queries, the i-th row of the block on, and of a block of keys, from key u
// of the task on; adds ds k to dq, if dq is wanted.
void add_tile(const BackwardWorkspace& w, const AttentionSizes& n, int64_t i, int64_t u,
              int64_t first, int64_t keys, bool dq) {
  const int64_t step = n.causal ? 1 : 0, padded = n.padded();
  float *p = w.p + i * kScorePitch, *ds = w.ds + i * kScorePitch;
  multiply_scores(p, w.q + i * kRowPitch, w.keys_t + u * n.d, keys, n.d);
  multiply_scores(ds, w.dy + i * kRowPitch, w.values_t + u * n.d, keys, n.d);
  for (int r = 0; r < kTileRows; ++r)
    score_gradients(p + r * kScorePitch, ds + r * kScorePitch, clamp64(first + r * step, keys),
                    w.lse[i + r], w.D[i + r]);
  if (!dq) return;
  for (int64_t c = 0; c < n.d; c += kTileColumns) {
    RegisterTile acc;
    load_tile(acc, w.dq + i * padded + c, padded);
    add_seen_keys(acc, ds, w.keys + c * w.capacity + u * kTileColumns, first, step, keys);
    store_tile(w.dq + i * padded + c, padded, acc);
  }
}

// dk and dv [kTileRows] of the keys from u of the task and column j of the block of pairs on: first
// is what the block's first query sees of them.
void add_key_gradients(const BackwardWorkspace& w, const AttentionSizes& n, int64_t u, int64_t j,
                       int64_t first, int64_t rows) {
  const int64_t step = n.causal ? 1 : 0, padded = n.padded();
  for (int64_t c = 0; c < n.d; c += kTileColumns) {
    float *dk = w.dk + u * padded + c, *dv = w.dv + u * padded + c;
    RegisterTile acc;
    load_tile(acc, dv, padded);
    add_seeing_queries(acc, w.p + j, w.dy + c, first, step, rows);
    store_tile(dv, padded, acc);
    load_tile(acc, dk, padded);
    add_seeing_queries(acc, w.ds + j, w.q + c, first, step, rows);
    store_tile(dk, padded, acc);
  }
}

// All pairs of a block of queries with the keys of the task.
void add_query_block(const AttentionBackward& a, const BackwardWorkspace& w,
                     const AttentionSizes& n, const AttentionPairs& task, const QueryBlock& at) {
  copy_queries(a, w, n, at);
  const int64_t end = min64(n.seen(at.t + at.rows - 1), task.u1);
  for (int64_t u = task.u0; u < end; u += kBlock) {
    for (int64_t i = 0; i < at.rows; i += kTileRows) {
      const int64_t last = min64(i + kTileRows, at.rows) - 1,
                    keys = min64(min64(n.seen(at.t + last), task.u1) - u, kBlock);
      if (keys > 0) add_tile(w, n, i, u - task.u0, n.seen(at.t + i) - u, keys, task.dq);
    }
    if (task.dkv)
      for (int64_t j = 0; j < min64(end - u, kBlock); j += kTileRows)
        add_key_gradients(w, n, u - task.u0 + j, j, n.seen(at.t) - u - j, at.rows);
  }
  if (!task.dq) return;
  float* dq = a.dq.as<float>() + n.query(at.b, at.t, at.h);
  for (int64_t i = 0; i < at.rows; ++i)
    copy_row(dq + i * n.query_stride(), w.dq + i * n.padded(), n.d, a.scale);
}

void attention_backward_pairs(const AttentionBackward& a, const AttentionPairs& task, float* work) {
  const AttentionSizes n = sizes_of(a);
  const int64_t keys = task.u1 - task.u0, first = n.key(task.b, task.u0, task.g),
                padded = n.padded();
  const BackwardWorkspace w(work, n, keys);
  const float *k = a.k.as<float>() + first, *v = a.v.as<float>() + first;
  pack_transposed(w.keys_t, k, n.key_stride(), keys, n.d);
  pack_transposed(w.values_t, v, n.key_stride(), keys, n.d);
  if (task.dq) pack_straight(w.keys, w.capacity, k, n.key_stride(), keys, n.d, 1);
  if (task.dkv)
    for (int64_t i = 0; i < round_up(keys, kTileRows) * padded; ++i) w.dk[i] = w.dv[i] = 0;
  for (int64_t h = task.g * n.group(); h < (task.g + 1) * n.group(); ++h)
    for (int64_t t = task.t0; t < task.t1; t += kBlock) {
      const QueryBlock at{task.b, h, t, min64(task.t1 - t, kBlock)};
      if (task.dq || n.seen(t + at.rows - 1) > task.u0) add_query_block(a, w, n, task, at);
    }
  if (!task.dkv) return;
  for (int64_t u = 0; u < keys; ++u) {
    copy_row(a.dk.as<float>() + first + u * n.key_stride(), w.dk + u * padded, n.d, 1);
    copy_row(a.dv.as<float>() + first + u * n.key_stride(), w.dv + u * padded, n.d, 1);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/tuning.h"

namespace ml::cpu {
namespace {

// A task: the pairs of the queries [t0, t1) and the keys [u0, u1) of one head of keys. It computes
// dq, where it has all keys, and dk and dv, where it has all queries.
struct AttentionPairs {
  int64_t b, g, t0, t1, u0, u1;
  bool dq, dkv;
};

}  // namespace
}  // namespace ml::cpu

#define ML_ISA_SOURCE "ops/attention_backward.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Where the r-th of `ranges` of nearly the same size begins: whole blocks of `rows` rows.
int64_t range_begin(int64_t rows, int64_t ranges, int64_t r) {
  return std::min(r * divide_up(rows, kAttentionBlock) / ranges * kAttentionBlock, rows);
}

// Of one pass, or of the two that take more work and leave fewer threads idle: one over ranges of
// queries, for dq, and one over ranges of keys, for dk and dv. The sums of an element are the same,
// in the same order, however a head is cut.
struct BackwardPlan {
  bool whole;
  int64_t q_ranges, k_ranges;

  BackwardPlan(int64_t heads, int64_t T, int64_t K, int threads) {
    const int64_t rounds = divide_up(heads, threads),
                  tasks = divide_up(kAttentionTasksPerThread * threads, heads);
    const auto ranges_of = [&](int64_t rows) {
      return std::clamp<int64_t>(divide_up(rows, kAttentionBlock) / kAttentionRangeBlocks, 1,
                                 tasks);
    };
    q_ranges = ranges_of(T);
    k_ranges = ranges_of(K);
    // five products, or seven
    whole = 7 * heads >= 5 * rounds * threads || q_ranges * k_ranges == 1;
  }
};

}  // namespace

void attention_backward(KernelContext& ctx, const AttentionBackward& a) {
  if (a.q.size() == 0 && a.k.size() == 0) return;  // another axis may be huge
  const int64_t T = a.q.dim(1), K = a.k.dim(1), G = a.k.dim(2), heads = a.q.dim(0) * G,
                floats = ML_DISPATCH(attention_backward_floats)(a);
  const BackwardPlan plan(heads, T, K, ctx.threads());
  float* work = ctx.scratch<float>(ctx.threads() * floats);
  const auto run = ML_DISPATCH(attention_backward_pairs);
  const auto pass = [&](int64_t ranges, auto pairs_of) {
    ctx.parallel_for(heads * ranges, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) {
        AttentionPairs pairs = pairs_of(i % ranges);
        pairs.b = i / ranges / G;
        pairs.g = i / ranges % G;
        run(a, pairs, work + worker * floats);
      }
    });
  };
  if (plan.whole)
    return pass(1,
                [&](int64_t) { return AttentionPairs{.t1 = T, .u1 = K, .dq = true, .dkv = true}; });
  pass(plan.q_ranges, [&](int64_t r) {
    return AttentionPairs{.t0 = range_begin(T, plan.q_ranges, r),
                          .t1 = range_begin(T, plan.q_ranges, r + 1),
                          .u1 = K,
                          .dq = true};
  });
  pass(plan.k_ranges, [&](int64_t r) {
    return AttentionPairs{.t1 = T,
                          .u0 = range_begin(K, plan.k_ranges, r),
                          .u1 = range_begin(K, plan.k_ranges, r + 1),
                          .dkv = true};
  });
}

}  // namespace ml::cpu
#endif
