// Matrix products with a float32 operand.

#include "cuda/product_kernel.cuh"

namespace ml::ML_CUDA_NAMESPACE {

template void multiply<true, true>(CudaStream&, const MatrixProduct<float, float>&);
template void multiply<true, false>(CudaStream&, const MatrixProduct<float, float>&);
template void multiply<false, true>(CudaStream&, const MatrixProduct<float, float>&);
template void multiply<false, false>(CudaStream&, const MatrixProduct<float, float>&);

// of a float32 gradient with W or x, which are widened
template void multiply<true, false>(CudaStream&, const MatrixProduct<float, BFloat16>&);
template void multiply<false, false>(CudaStream&, const MatrixProduct<float, BFloat16>&);
template void multiply<true, false>(CudaStream&, const MatrixProduct<float, Half>&);
template void multiply<false, false>(CudaStream&, const MatrixProduct<float, Half>&);

}  // namespace ml::ML_CUDA_NAMESPACE
