#include "ops/product_key_lookup.h"

#ifdef ML_ISA
#include "cpu/rows.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int64_t kKeySumWinners = 1024;  // of a half-key, in one float32 sum

// One of the k winners of a (token, head), as one of its half-keys sees it.
struct Winner {
  int32_t token;
  float ds;
};

// What the passes pass on. The winners of one (head, half) are contiguous.
struct Workspace {
  float* ds;        // [T, H, k]
  int32_t* key;     // [2H, T, k]: the half-key of each winner, -1 for padding
  Winner* winners;  // [2H, T * k], by half-key, then by (t, r)
  int32_t* starts;  // [2H, n + 1]: of each half-key's winners
};

// kVectors vectors of y (+)= the sum over i of scale * row, in ascending i. term(i, add) calls
// add(scale, row), or leaves i out.
template <int kVectors, class Term>
inline void add_rows(float* y, int64_t count, bool accumulate, Term&& term) {
  Vec sum[kVectors] = {};
  for (int64_t i = 0; i < count; ++i)
    term(i, [&](float scale, const float* row) {
      const Vec x = set1(scale);
      for (int v = 0; v < kVectors; ++v) sum[v] = fma(x, load(row + v * kWidth), sum[v]);
    });
  for (int v = 0; v < kVectors; ++v)
    store(y + v * kWidth, accumulate ? load(y + v * kWidth) + sum[v] : sum[v]);
}

// y [d] (+)= such a sum, in blocks of columns that stay in registers.
template <class Term>
inline void add_weighted_rows(float* y, int64_t d, int64_t count, bool accumulate, Term&& term) {
  int64_t c = 0;
  const auto term_at_c = [&](int64_t i, auto&& add) {
    term(i, [&](float scale, const float* row) { add(scale, row + c); });
  };
  for (; c + 8 * kWidth <= d; c += 8 * kWidth) add_rows<8>(y + c, count, accumulate, term_at_c);
  for (; c + 4 * kWidth <= d; c += 4 * kWidth) add_rows<4>(y + c, count, accumulate, term_at_c);
  for (; c + kWidth <= d; c += kWidth) add_rows<1>(y + c, count, accumulate, term_at_c);
  if (c == d) return;
  const int rest = static_cast<int>(d - c);
  Vec sum{};
  for (int64_t i = 0; i < count; ++i)
    term_at_c(i, [&](float scale, const float* row) {
      sum = fma(set1(scale), load_partial(row, rest), sum);
    });
  store_partial(y + c, accumulate ? load_partial(y + c, rest) + sum : sum, rest);
}

// ds, the half-keys and dquery of (token, head) pairs begin … end.
void backward_queries(const ProductKeyLookupBackward& a, const Workspace& workspace, int64_t begin,
                      int64_t end) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2),
                k = a.weights.dim(2);
  for (int64_t th = begin; th < end; ++th) {
    const int64_t t = th / H, h = th % H;
    const float *w = a.weights.as<float>() + th * k, *dw = a.dweights.as<float>() + th * k,
                *scores = a.scores.as<float>() + th * k;
    const int32_t* index = a.indices.as<int32_t>() + th * k;
    float* ds = workspace.ds + th * k;
    int32_t* const key[2] = {workspace.key + (h * 2 * T + t) * k,
                             workspace.key + ((h * 2 + 1) * T + t) * k};
    const float mean = a.gate == Gate::softmax ? dot(w, dw, k) : 0;
    for (int64_t r = 0; r < k; ++r) {
      const uint32_t first = static_cast<uint32_t>(index[r]) / static_cast<uint32_t>(n);
      const bool padding = index[r] < 0;
      ds[r] = padding ? 0.0f : score_gradient(a.gate, dw[r], w[r], scores[r], mean);
      key[0][r] = padding ? -1 : static_cast<int32_t>(first);
      key[1][r] = padding ? -1
                          : static_cast<int32_t>(static_cast<uint32_t>(index[r]) -
                                                 first * static_cast<uint32_t>(n));
    }
    if (!a.dquery) continue;
    for (int p = 0; p < 2; ++p) {
      const float* keys = a.keys.as<float>() + (h * 2 + p) * n * d;
      add_weighted_rows(a.dquery.as<float>() + (th * 2 + p) * d, d, k, false,
                        [&](int64_t r, auto&& add) {
                          if (key[p][r] >= 0) add(ds[r], keys + key[p][r] * d);
                        });
    }
  }
}

// The winners of one (head, half) by half-key: a counting sort, so those of a half-key stay in
// ascending (t, r).
void sort_winners(const ProductKeyLookupBackward& a, const Workspace& workspace, int64_t hp) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), n = a.keys.dim(2), k = a.weights.dim(2);
  const int32_t* key = workspace.key + hp * T * k;
  int32_t* starts = workspace.starts + hp * (n + 1);
  Winner* winners = workspace.winners + hp * T * k;
  __builtin_memset(starts, 0, static_cast<size_t>(n + 1) * sizeof(int32_t));
  for (int64_t i = 0; i < T * k; ++i)
    if (key[i] >= 0) ++starts[key[i]];
  for (int64_t j = 0, sum = 0; j <= n; ++j) {
    sum += starts[j];
    starts[j] = static_cast<int32_t>(sum);  // where the half-key's winners end
  }
  for (int64_t t = T - 1; t >= 0; --t) {
    const float* ds = workspace.ds + (t * H + hp / 2) * k;
    for (int64_t r = k - 1; r >= 0; --r) {
      const int32_t j = key[t * k + r];
      if (j >= 0) winners[--starts[j]] = {static_cast<int32_t>(t), ds[r]};
    }
  }
}

// dkeys of half-keys j0 … j1 of one (head, half).
void backward_keys(const ProductKeyLookupBackward& a, const Workspace& workspace, int64_t hp,
                   int64_t j0, int64_t j1) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2),
                k = a.weights.dim(2);
  const int32_t* starts = workspace.starts + hp * (n + 1);
  const float* query = a.query.as<float>() + hp * d;
  for (int64_t j = j0; j < j1; ++j) {
    // Blocks of winners: a single float32 sum is off by 1 % after a million of them.
    for (int64_t begin = starts[j]; begin < starts[j + 1]; begin += kKeySumWinners) {
      const Winner* winners = workspace.winners + hp * T * k + begin;
      const int64_t left = starts[j + 1] - begin;
      add_weighted_rows(
          a.dkeys.as<float>() + (hp * n + j) * d, d, left < kKeySumWinners ? left : kKeySumWinners,
          true,
          [&](int64_t i, auto&& add) { add(winners[i].ds, query + winners[i].token * 2 * H * d); });
    }
  }
}

void lookup_backward(KernelContext& ctx, const ProductKeyLookupBackward& a) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), n = a.keys.dim(2), k = a.weights.dim(2);
  const int64_t winners = 2 * H * T * k;
  const Workspace workspace{.ds = ctx.scratch<float>(T * H * k),
                            .key = ctx.scratch<int32_t>(winners),
                            .winners = ctx.scratch<Winner>(winners),
                            .starts = ctx.scratch<int32_t>(2 * H * (n + 1))};
  ctx.parallel_for(T * H, kLookupBackwardGrain, [&](int64_t begin, int64_t end, int) {
    backward_queries(a, workspace, begin, end);
  });
  if (!a.dkeys) return;
  ctx.parallel_for(2 * H, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t hp = begin; hp < end; ++hp) sort_winners(a, workspace, hp);
  });
  const int64_t blocks = (n + kKeyGradientGrain - 1) / kKeyGradientGrain;
  ctx.parallel_for(2 * H * blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t j0 = u % blocks * kKeyGradientGrain;
      backward_keys(a, workspace, u / blocks, j0,
                    j0 + kKeyGradientGrain < n ? j0 + kKeyGradientGrain : n);
    }
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include "cpu/index_check.h"
#include "cpu/widen.h"

#define ML_ISA_SOURCE "ops/product_key_lookup_backward.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void product_key_lookup_backward(KernelContext& ctx, const ProductKeyLookupBackward& args) {
  ProductKeyLookupBackward a = args;
  if (a.dkeys) a.query = product_operand(ctx, args.query, a.compute);
  if (a.dquery) a.keys = product_operand(ctx, args.keys, a.compute);
  if (!a.indices_known)
    validate_indices(ctx, "productKeyLookupBackward", "lookup.indices", a.indices,
                     a.keys.dim(2) * a.keys.dim(2));
  if (a.weights.size() == 0) return;  // another axis may be huge
  ML_DISPATCH(lookup_backward)(ctx, a);
}

}  // namespace ml::cpu
#endif
