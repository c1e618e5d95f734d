#include "ops/attention.h"

#ifdef ML_ISA
#include "ops/attention_cpu.h"
#include "ops/attention_few_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

// Of one thread.
struct AttentionWorkspace {
  float* keys;       // the transpose of k [keys, d] in panels
  float* values;     // v [keys, d] in panels
  float* queries;    // q [kBlock, kRowPitch], times scale
  float* y;          // [kBlock, padded d]: sums of p v
  float* scores;     // [kTileRows, kScorePitch]
  float* max;        // [kBlock]: of the scores so far
  float* sum;        // [kBlock]: of exp(score - max)
  int64_t capacity;  // keys, in whole panels

  AttentionWorkspace(float* at, const AttentionSizes& n) : capacity(round_up(n.K, kTileColumns)) {
    const auto take = [&at](int64_t floats) { return (at += floats) - floats; };
    keys = take(capacity * n.d);
    values = take(capacity * n.padded());
    queries = take(kBlock * kRowPitch);
    y = take(kBlock * n.padded());
    scores = take(kTileRows * kScorePitch);
    max = take(kBlock);
    sum = take(kBlock);
  }
};

int64_t attention_floats(const Attention& a) {
  const AttentionSizes n = sizes_of(a);
  const int64_t capacity = round_up(n.K, kTileColumns);
  return capacity * (n.d + n.padded()) + kBlock * (kRowPitch + n.padded() + 2) +
         kTileRows * kScorePitch;
}

// Scores of a tile to weights: new maxima and sums, and rescale [kTileRows], the factor of the sums
// so far. Query r sees first + r * step of the keys.
void update_softmax(float* s, float* max, float* sum, float* rescale, int64_t first, int64_t step,
                    int64_t keys) {
  float shift[kTileRows];
  for (int r = 0; r < kTileRows; ++r) {
    const float row = max_row(s + r * kScorePitch, clamp64(first + r * step, keys));
    const float before = max[r];
    max[r] = row > before ? row : before;
    shift[r] = shift_of(max[r]);
    rescale[r] = before - shift[r];
  }
  for (int r = 0; r < kTileRows; r += kWidth) store(rescale + r, exp_of_score(load(rescale + r)));
  for (int r = 0; r < kTileRows; ++r)
    sum[r] = sum[r] * rescale[r] +
             exp_row(s + r * kScorePitch, clamp64(first + r * step, keys), shift[r]);
}

// One tile of queries, the i-th row of the block on, and the keys [u, u + keys).
void add_keys(const AttentionWorkspace& w, const AttentionSizes& n, int64_t i, int64_t u,
              int64_t first, int64_t keys) {
  const int64_t step = n.causal ? 1 : 0, ldy = n.padded();
  alignas(64) float rescale[(kTileRows + kWidth - 1) / kWidth * kWidth] = {};
  multiply_scores(w.scores, w.queries + i * kRowPitch, w.keys + u * n.d, keys, n.d);
  update_softmax(w.scores, w.max + i, w.sum + i, rescale, first, step, keys);
  for (int64_t c = 0; c < n.d; c += kTileColumns) {
    float* y = w.y + i * ldy + c;
    RegisterTile acc;
    load_tile(acc, y, ldy);
    for (int r = 0; r < kTileRows; ++r)
      for (int v = 0; v < kTileVectors; ++v) acc[r][v] *= rescale[r];
    add_seen_keys(acc, w.scores, w.values + c * w.capacity + u * kTileColumns, first, step, keys);
    store_tile(y, ldy, acc);
  }
}

// y and lse of the queries [t, t + rows) of a head, rows <= kBlock.
void attend_block(const Attention& a, const AttentionWorkspace& w, const AttentionSizes& n,
                  int64_t b, int64_t h, int64_t t, int64_t rows) {
  const int64_t padded_rows = round_up(rows, kTileRows), ldy = n.padded(),
                keys = n.seen(t + rows - 1);
  copy_rows(w.queries, a.q.as<float>() + n.query(b, t, h), n.query_stride(), rows, n.d, a.scale);
  for (int64_t i = 0; i < padded_rows * ldy; ++i) w.y[i] = 0;
  for (int64_t i = 0; i < padded_rows; ++i) w.max[i] = -__builtin_inff(), w.sum[i] = 0;
  for (int64_t u = 0; u < keys; u += kBlock)
    for (int64_t i = 0; i < rows; i += kTileRows) {
      const int64_t last = min64(i + kTileRows, rows) - 1,
                    seen = min64(n.seen(t + last) - u, kBlock);
      if (seen > 0) add_keys(w, n, i, u, n.seen(t + i) - u, seen);
    }
  for (int64_t i = 0; i < rows; ++i) {
    float* y = a.y.as<float>() + n.query(b, t + i, h);
    copy_row(y, w.y + i * ldy, n.d, n.seen(t + i) > 0 ? 1 / w.sum[i] : 0.0f);
    a.lse.as<float>()[(b * n.H + h) * n.T + t + i] = w.max[i] + __builtin_logf(w.sum[i]);
  }
}

// y and lse of the queries [t0, t1) of the heads that share the keys of head g.
void attend_range(const Attention& a, int64_t b, int64_t g, int64_t t0, int64_t t1, float* work) {
  const AttentionSizes n = sizes_of(a);
  const AttentionWorkspace w(work, n);
  const int64_t keys = clamp64(n.seen(t1 - 1), n.K);
  pack_transposed(w.keys, a.k.as<float>() + n.key(b, 0, g), n.key_stride(), keys, n.d);
  pack_straight(w.values, w.capacity, a.v.as<float>() + n.key(b, 0, g), n.key_stride(), keys, n.d,
                1);
  for (int64_t h = g * n.group(); h < (g + 1) * n.group(); ++h)
    for (int64_t t = t0; t < t1; t += kBlock) attend_block(a, w, n, b, h, t, min64(t1 - t, kBlock));
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include "cpu/prefetch.h"
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/attention.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

}  // namespace

void attention(KernelContext& ctx, const Attention& a) {
  if (a.q.size() == 0) return;  // another axis may be huge
  const int64_t B = a.q.dim(0), T = a.q.dim(1), G = a.k.dim(2),
                blocks = divide_up(T, kAttentionBlock);
  // No range changes a result: it decides only how often keys are packed.
  int64_t ranges = divide_up(kAttentionTasksPerThread * ctx.threads(), B * G);
  if (ranges > blocks / kAttentionRangeBlocks) ranges = blocks / kAttentionRangeBlocks;
  if (ranges < 1) ranges = 1;
  if (T <= kAttentionFewQueries) {
    const int64_t row = a.k.dim(1) + 2 * kFloatsPerLine;
    float* scores = ctx.scratch<float>(ctx.threads() * row);
    const auto few = ML_DISPATCH(attend_few);
    return ctx.parallel_for(B * G, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) few(a, i / G, i % G, scores + worker * row);
    });
  }
  const int64_t floats = ML_DISPATCH(attention_floats)(a);
  float* work = ctx.scratch<float>(ctx.threads() * floats);
  const auto range = ML_DISPATCH(attend_range);
  ctx.parallel_for(B * G * ranges, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t r = i % ranges, t0 = r * blocks / ranges * kAttentionBlock,
                    t1 = (r + 1) * blocks / ranges * kAttentionBlock;
      range(a, i / ranges / G, i / ranges % G, t0, t1 < T ? t1 : T, work + worker * floats);
    }
  });
}

}  // namespace ml::cpu
#endif
