#pragma once
// Stacks for a block's threads, and the switch between them: a few nanoseconds, no system call.

#include <cstddef>
#include <cstdint>

namespace simt {

inline constexpr int kMaxThreads = 1024;  // of a block

// Thread `number` of a block always has the same stack; between two of them lies a page that nobody
// may touch.
#ifdef __SANITIZE_ADDRESS__
inline constexpr size_t kStackBytes = 512 * 1024;
#else
inline constexpr size_t kStackBytes = 128 * 1024;
#endif

extern uintptr_t stacks;  // their first byte; 0 before make_stacks
void make_stacks();       // once; they are kept for ever
inline bool on_stacks(uintptr_t address) { return address - stacks < kStackBytes * kMaxThreads; }
inline int stack_owner(uintptr_t address) {
  return static_cast<int>((address - stacks) / kStackBytes);
}

inline const void* stack_bottom(int number) {
  return reinterpret_cast<const void*>(stacks + static_cast<size_t>(number) * kStackBytes);
}

// The stack pointer of thread `number` before it has run; it will begin with `entry`, which must
// not return.
void* fresh_stack(int number, void (*entry)());

// Saves the running stack in *from and goes on where `to` was left.
extern "C" void simt_switch(void** from, void* to);

}  // namespace simt
