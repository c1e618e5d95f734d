// Product-key lookup (ops/product_key_lookup.h): half_lists.cuh finds the best half-keys,
// product_key_combine.cuh the best pairs of them.

#include "ops/product_key_lookup.h"

#include "ops/compute_operand.cuh"
#include "ops/half_lists.cuh"
#include "ops/product_key_combine.cuh"

namespace ml::ML_CUDA_NAMESPACE {

void product_key_lookup(CudaStream& stream, const ProductKeyLookup& args) {
  ProductKeyLookup a = args;
  // few tokens read every key once: a copy would be as long as the lookup
  const bool round = a.compute == Compute::bfloat16 && args.query.dim(0) <= kFewRows &&
                     args.query.dtype == DType::f32 && args.keys.dtype == DType::f32;
  if (!round) compute_operands(stream, a.compute, {&a.query, &a.keys});
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2),
                k = a.scores.dim(2);
  if (T == 0 || H == 0) return;
  const int64_t length = k < n ? k : n;
  HalfLists half{.lists = nullptr,
                 .mask = a.mask ? a.mask.as<uint8_t>() : nullptr,
                 .T = T,
                 .H = H,
                 .n = n,
                 .d = d,
                 .k = length,
                 .chunk = n,
                 .chunks = 1};
  const auto list_halves = [&]<class Element>(Element) {
    find_half_lists(stream, a.query.as<Element>(), a.keys.as<Element>(), half);
  };
  if (round)
    list_halves(RoundedFloat{});
  else
    dispatch_operand(a.compute, a.query.dtype, list_halves);
  const Combination c{.scores = a.scores.as<float>(),
                      .indices = a.indices.as<int32_t>(),
                      .weights = a.weights.as<float>(),
                      .lists = half.lists,
                      .chunks = half.chunks,
                      .TH = T * H,
                      .k = k,
                      .n = n,
                      .length = length,
                      .gate = a.gate};
  combine(stream, c);
}

}  // namespace ml::ML_CUDA_NAMESPACE
