#pragma once
// What a thread of a kernel can ask of the emulator. Kernels reach these through cuda/warp.cuh,
// block.cuh, vec.cuh and ptx_*.cuh only.

#include <cstddef>
#include <cstdint>

#include "simt/types.h"

namespace simt {

// A line of the source: where the outermost wrapper is called. In a namespace of its own, so that
// argument-dependent lookup by a CallSite finds the wrappers only.
namespace source {
struct CallSite {
  const char* file;
  int line;
  static constexpr CallSite here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};
}  // namespace source
using source::CallSite;

// A thread's indices never change while it lives, so these are constants to it.
__attribute__((const)) toolkit::uint3 thread_index();
__attribute__((const)) toolkit::uint3 block_index();
__attribute__((const)) toolkit::dim3 block_size();
__attribute__((const)) toolkit::dim3 grid_size();
__attribute__((const)) void* shared_memory();

void block_sync(CallSite site);
void warp_sync(uint32_t mask, CallSite site);
uint32_t ballot(bool v, uint32_t mask, CallSite site);
uint64_t shfl(uint64_t v, int source, uint32_t mask, CallSite site);
uint64_t shfl_xor(uint64_t v, int bits, uint32_t mask, CallSite site);

enum class Redux { min, max };
uint32_t redux(Redux operation, uint32_t v, CallSite site);

enum class Atomic { add, min };
// `bytes` is 4 or 8. Signed numbers may only be added. Returns the old value.
uint64_t atomic(Atomic operation, void* at, size_t bytes, uint64_t v, bool acquire_release,
                CallSite site);

void load_vector(void* to, const void* from, size_t bytes, CallSite site);
void store_vector(void* to, const void* from, size_t bytes, CallSite site);

enum class Operand { bfloat16, half, tf32 };
void mma(Operand operand, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
         CallSite site);
void ldmatrix(uint32_t (&r)[4], const void* row, bool transposed, CallSite site);

// For host stand-ins that run on the stream in place of a library's kernels: they have written this
// device memory.
void wrote(void* at, size_t bytes);

void copy_async(void* shared, const void* global, int bytes, int bytes_read, CallSite site);
void copy_async_commit(CallSite site);
void copy_async_wait(int groups, CallSite site);

}  // namespace simt
