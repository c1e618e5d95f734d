// The functions that the compiler calls for each access when a kernel is compiled with
// -fsanitize=thread. Host code of the same file calls them, too, on any thread: kernels are
// recognised by the stack that they run on.

#include <atomic>
#include <cstddef>

#include "access.h"
#include "machine.h"

namespace {

using simt::Use;

inline void observe(const void* at, size_t bytes, Use use, const void* pc) {
  if (simt::in_kernel()) simt::access(at, bytes, use, pc);
}

}  // namespace

extern "C" {

#define OBSERVE(name, bytes, use) \
  void __tsan_##name##bytes(void* at) { observe(at, bytes, use, __builtin_return_address(0)); }
#define OBSERVE_SIZES(name, use) \
  OBSERVE(name, 1, use)          \
  OBSERVE(name, 2, use) OBSERVE(name, 4, use) OBSERVE(name, 8, use) OBSERVE(name, 16, use)
OBSERVE_SIZES(read, Use::read)
OBSERVE_SIZES(write, Use::write)
OBSERVE_SIZES(unaligned_read, Use::read)
OBSERVE_SIZES(unaligned_write, Use::write)
OBSERVE_SIZES(volatile_read, Use::read)
OBSERVE_SIZES(volatile_write, Use::write)
#undef OBSERVE_SIZES
#undef OBSERVE

void __tsan_read_range(void* at, size_t bytes) {
  observe(at, bytes, Use::read, __builtin_return_address(0));
}
void __tsan_write_range(void* at, size_t bytes) {
  observe(at, bytes, Use::write, __builtin_return_address(0));
}
void __tsan_vptr_read(void*) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}

// Atomics of the standard library in the host code.
#define ATOMICS(bits, type)                                                                       \
  type __tsan_atomic##bits##_load(const volatile type* at, int) {                                 \
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                                 \
  }                                                                                               \
  void __tsan_atomic##bits##_store(volatile type* at, type v, int) {                              \
    __atomic_store_n(at, v, __ATOMIC_SEQ_CST);                                                    \
  }                                                                                               \
  type __tsan_atomic##bits##_exchange(volatile type* at, type v, int) {                           \
    return __atomic_exchange_n(at, v, __ATOMIC_SEQ_CST);                                          \
  }                                                                                               \
  type __tsan_atomic##bits##_fetch_add(volatile type* at, type v, int) {                          \
    return __atomic_fetch_add(at, v, __ATOMIC_SEQ_CST);                                           \
  }                                                                                               \
  type __tsan_atomic##bits##_fetch_sub(volatile type* at, type v, int) {                          \
    return __atomic_fetch_sub(at, v, __ATOMIC_SEQ_CST);                                           \
  }                                                                                               \
  type __tsan_atomic##bits##_fetch_and(volatile type* at, type v, int) {                          \
    return __atomic_fetch_and(at, v, __ATOMIC_SEQ_CST);                                           \
  }                                                                                               \
  type __tsan_atomic##bits##_fetch_or(volatile type* at, type v, int) {                           \
    return __atomic_fetch_or(at, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                               \
  type __tsan_atomic##bits##_fetch_xor(volatile type* at, type v, int) {                          \
    return __atomic_fetch_xor(at, v, __ATOMIC_SEQ_CST);                                           \
  }                                                                                               \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* at, type* expected, type v,    \
                                                    int, int) {                                   \
    return __atomic_compare_exchange_n(at, expected, v, false, __ATOMIC_SEQ_CST,                  \
                                       __ATOMIC_SEQ_CST);                                         \
  }                                                                                               \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile type* at, type* expected, type v, int, \
                                                  int) {                                          \
    return __atomic_compare_exchange_n(at, expected, v, false, __ATOMIC_SEQ_CST,                  \
                                       __ATOMIC_SEQ_CST);                                         \
  }                                                                                               \
  type __tsan_atomic##bits##_compare_exchange_val(volatile type* at, type expected, type v, int,  \
                                                  int) {                                          \
    __atomic_compare_exchange_n(at, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);     \
    return expected;                                                                              \
  }
ATOMICS(8, unsigned char)
ATOMICS(16, unsigned short)
ATOMICS(32, unsigned int)
ATOMICS(64, unsigned long)
#undef ATOMICS
void __tsan_atomic_thread_fence(int) { std::atomic_thread_fence(std::memory_order_seq_cst); }
void __tsan_atomic_signal_fence(int) { std::atomic_signal_fence(std::memory_order_seq_cst); }
}
