// The second step of the product-key lookup: the k best pairs of two sorted half lists, and their
// weights. Included inside an instruction-set pass.

#if defined(ML_OPS_PRODUCT_KEY_COMBINE_CPU_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_OPS_PRODUCT_KEY_COMBINE_CPU_H
#undef ML_OPS_PRODUCT_KEY_COMBINE_CPU_H
#else
#define ML_OPS_PRODUCT_KEY_COMBINE_CPU_H
#endif

#include "cpu/rows.h"
#include "ops/product_key_plan_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

using ml::clamp_finite;
inline Vec clamp_finite(Vec x) {
  return x > kMaxFloat ? set1(kMaxFloat) : (x < -kMaxFloat ? set1(-kMaxFloat) : x);  // NaN stays
}

// The best of one half of a row: score descending, then half-key ascending.
struct HalfList {
  float* scores;
  const int32_t* ids;
  int64_t found;
};

// weights [k] = the gate over the `found` scores of one (token, head), and zeros behind them; all
// NaN if `nan`.
inline void write_weights(Gate gate, const float* scores, int64_t found, int64_t k, bool nan,
                          float* weights) {
  if (nan) {
    for (int64_t r = 0; r < k; ++r) weights[r] = __builtin_nanf("");
    return;
  }
  if (gate == Gate::softmax) {
    const Vec total = set1(exp_sum(scores, found, scores[0], weights));
    for_vectors(found,
                [&](int64_t i, int n) { store_n(weights + i, load_n(weights + i, n) / total, n); });
  } else {
    const auto sigmoid_of = [](float s) { return sigmoid(set1(s))[0]; };
    for (int64_t r = 0; r < found; ++r) weights[r] = gate_weight(gate, scores[r], sigmoid_of);
  }
  for (int64_t r = found; r < k; ++r) weights[r] = 0;
}

// Writes the candidate pairs of two half lists of finite scores in ascending (i, j), so that ties
// fall by position. Returns how many.
inline int64_t add_pairs(const LookupPlan& plan, int64_t n, const LookupWorkspace& workspace,
                         const HalfList (&half)[2]) {
  // Copies: the compiler can't know that what is written leaves them alone.
  float* const sums = workspace.pair_sums;
  int32_t* const slots = workspace.pair_slots;
  const HalfList first = half[0], second = half[1];
  int64_t count = 0;
  for (int64_t i = 0; i < first.found; ++i) {
    const int64_t width = plan.pair_width[i] < second.found ? plan.pair_width[i] : second.found;
    const Vec score = set1(first.scores[i]);
    const IVec base = IVec{} + static_cast<int32_t>(first.ids[i] * n);
    for (int64_t j = 0; j < width; j += kWidth) {
      // What is written past the width is overwritten by the next i, or is the vector more.
      store(sums + count + j, clamp_finite(score + load(second.scores + j)));
      IVec slot;
      __builtin_memcpy(&slot, second.ids + j, sizeof(slot));
      slot += base;
      __builtin_memcpy(slots + count + j, &slot, sizeof(slot));
    }
    count += width;
  }
  return count;
}

// A sum that at least k candidates reach: (i + 1)(j + 1) pairs come before the pair (i, j) or are
// it. -FLT_MAX if a list is short.
inline float pair_threshold(const LookupPlan& plan, const HalfList (&half)[2]) {
  if (half[0].found < plan.k || half[1].found < plan.k) return -kMaxFloat;
  constexpr int kChains = 4;  // of comparisons, so that they need not wait for each other
  const float *const first = half[0].scores, *const second = half[1].scores;
  float best[kChains];
  for (float& b : best) b = -kMaxFloat;
  for (int64_t i = 0; i < plan.k; ++i) {
    const float sum = first[i] + second[plan.pair_reach[i]];
    float& b = best[i % kChains];
    b = sum > b ? sum : b;
  }
  for (float b : best) best[0] = b > best[0] ? b : best[0];
  return clamp_finite(best[0]);
}

// Scores, indices and weights of one (token, head) from its half lists. th: t * H + h. nan: one of
// its half scores is NaN.
inline void combine_halves(const ProductKeyLookup& a, const LookupWorkspace& workspace,
                           const LookupPlan& plan, int64_t th, const HalfList (&half)[2],
                           bool nan) {
  const int64_t k = plan.k;
  for (const HalfList& list : half)
    for (int64_t r = 0; r < list.found; ++r) list.scores[r] = clamp_finite(list.scores[r]);
  const int64_t count = add_pairs(plan, a.keys.dim(2), workspace, half);
  float* scores = a.scores.as<float>() + th * k;
  int32_t* indices = a.indices.as<int32_t>() + th * k;
  int64_t found = count < k ? count : k;
  if (nan || k > kMaxVectorK ||
      !select_above(workspace.pair_sums, count, k, pair_threshold(plan, half), scores, indices))
    found = sort_top(workspace.pair_sums, count, k, false, scores, indices, workspace.sort_keys);
  for (int64_t r = 0; r < found; ++r) indices[r] = workspace.pair_slots[indices[r]];
  for (int64_t r = found; r < k; ++r) {
    scores[r] = -__builtin_inff();
    indices[r] = -1;
  }
  write_weights(a.gate, scores, found, k, nan, a.weights.as<float>() + th * k);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
