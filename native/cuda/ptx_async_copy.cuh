#pragma once
// Asynchronous copies from global to shared memory (cp.async, from sm_80). The thread itself sees
// what it copied after copy_async_wait, the others after one more barrier. `bytes` of the source
// are read, the rest of the target becomes zero.

#include <cstdint>
#include <type_traits>

#include "cuda/namespace.h"
#include "cuda/ptx_architecture.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// Whether the copies below are asynchronous.
inline constexpr bool kAsyncCopies = !kForTuring;

namespace detail {
template <int kBytes>
__device__ inline void copy_async(void* shared, const void* global, int bytes,
                                  [[maybe_unused]] CallSite site) {
#ifdef ML_SIMT
  ::simt::copy_async(shared, global, kBytes, bytes, site);
#elif __CUDA_ARCH__ >= 800
  const uint32_t target = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global),
                 "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(global),
                 "r"(bytes)
                 : "memory");
#else
  using Words = std::conditional_t<kBytes == 16, uint4, uint32_t>;
  if (bytes == kBytes) {
    *static_cast<Words*>(shared) = *static_cast<const Words*>(global);
  } else {
    for (int i = 0; i < kBytes; i++)
      static_cast<char*>(shared)[i] = i < bytes ? static_cast<const char*>(global)[i] : 0;
  }
#endif
}
}  // namespace detail

// `bytes` in [0, 16]; both addresses aligned to 16.
__device__ inline void copy_async16(void* shared, const void* global, int bytes = 16,
                                    CallSite site = CallSite::here()) {
  detail::copy_async<16>(shared, global, bytes, site);
}
// `bytes` in [0, 4]; both addresses aligned to 4.
__device__ inline void copy_async4(void* shared, const void* global, int bytes = 4,
                                   CallSite site = CallSite::here()) {
  detail::copy_async<4>(shared, global, bytes, site);
}
// Ends a group of copies.
__device__ inline void copy_async_commit([[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::copy_async_commit(site);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most n of this thread's groups are under way.
template <int n>
__device__ inline void copy_async_wait([[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::copy_async_wait(n, site);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
#endif
}

}  // namespace ml::ML_CUDA_NAMESPACE
