#include "cpu/matrix_product.h"

#ifdef ML_ISA
#include "cpu/gemm_batch.h"
#else
#define ML_ISA_SOURCE "cpu/matrix_product.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void multiply(KernelContext& ctx, const Product& p) { ML_DISPATCH(run_product)(ctx, p); }

void multiply_all(KernelContext& ctx, const Product* products, int64_t count) {
  ML_DISPATCH(run_products)(ctx, products, count);
}

void multiply_batch(KernelContext& ctx, const Product& first, const Loops<3>& kept,
                    const Loops<2>& summed) {
  ML_DISPATCH(run_batch)(ctx, first, kept, summed);
}

}  // namespace ml::cpu
#endif
