// Matrix products by tensor cores.

#include "cuda/product_kernel.cuh"

namespace ml::ML_CUDA_NAMESPACE {

template void multiply<true, true>(CudaStream&, const MatrixProduct<BFloat16, BFloat16>&);
template void multiply<true, false>(CudaStream&, const MatrixProduct<BFloat16, BFloat16>&);
template void multiply<false, true>(CudaStream&, const MatrixProduct<BFloat16, BFloat16>&);
template void multiply<false, false>(CudaStream&, const MatrixProduct<BFloat16, BFloat16>&);

template void multiply<true, true>(CudaStream&, const MatrixProduct<Half, Half>&);
template void multiply<true, false>(CudaStream&, const MatrixProduct<Half, Half>&);
template void multiply<false, true>(CudaStream&, const MatrixProduct<Half, Half>&);
template void multiply<false, false>(CudaStream&, const MatrixProduct<Half, Half>&);

template void multiply<true, true>(CudaStream&, const MatrixProduct<TensorFloat32, TensorFloat32>&);
template void multiply<true, false>(CudaStream&,
                                    const MatrixProduct<TensorFloat32, TensorFloat32>&);
template void multiply<false, true>(CudaStream&,
                                    const MatrixProduct<TensorFloat32, TensorFloat32>&);
template void multiply<false, false>(CudaStream&,
                                     const MatrixProduct<TensorFloat32, TensorFloat32>&);

}  // namespace ml::ML_CUDA_NAMESPACE
