#include "ops/embedding.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

template <class T>
void copy_rows(const Embedding& a, int64_t begin, int64_t end) {
  const int64_t V = a.table.dim(1);
  const int32_t* indices = a.indices.as<int32_t>();
  for (int64_t t = begin; t < end; ++t) {
    float* y = a.y.as<float>() + t * V;
    const int64_t index = indices[t];
    if (index < 0) {
      for_vectors(V, [&](int64_t i, int n) { store_n(y + i, Vec{}, n); });
      continue;
    }
    const T* row = a.table.as<T>() + index * V;
    const float scale = a.scales ? a.scales.as<float>()[index] : 1.0f;
    int64_t i = 0;
    for (; i + kWidth <= V; i += kWidth) store(y + i, load(row + i) * scale);
    for (; i < V; ++i) y[i] = load_one(row + i) * scale;
  }
}

void embedding_rows(const Embedding& a, int64_t begin, int64_t end) {
  if (a.table.dtype == DType::i8) return copy_rows<int8_t>(a, begin, end);
  dispatch_float(a.table.dtype, [&](auto t) { copy_rows<decltype(t)>(a, begin, end); });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/index_check.h"
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/embedding.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void embedding(KernelContext& ctx, const Embedding& a) {
  validate_indices(ctx, "embedding", "indices", a.indices, a.table.dim(0));
  if (a.y.size() == 0) return;  // another axis may be huge
  const auto rows = ML_DISPATCH(embedding_rows);
  ctx.parallel_for(a.indices.size(), std::max<int64_t>(1, kRowGrain / a.table.dim(1)),
                   [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

}  // namespace ml::cpu
#endif
