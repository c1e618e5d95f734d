#include "fiber.h"

#include <sys/mman.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include <cstdlib>
#include <new>

namespace simt {
namespace {

constexpr size_t kGuardBytes = 4096;
// Stacks start at different cache lines: else all would compete for a few sets of the cache.
constexpr size_t kStagger = 192;
constexpr int kStaggered = 16;
[[maybe_unused]] constexpr size_t kLastFrames = 4096;

}  // namespace

uintptr_t stacks = 0;

void make_stacks() {
  if (stacks != 0) return;
  void* memory = mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  for (int i = 0; i < kMaxThreads; i++)
    mprotect(static_cast<char*>(memory) + i * kStackBytes, kGuardBytes, PROT_NONE);
  stacks = reinterpret_cast<uintptr_t>(memory);
}

namespace {

uintptr_t top_of(int number) {
  const uintptr_t top = stacks + static_cast<size_t>(number + 1) * kStackBytes -
                        static_cast<size_t>(number % kStaggered) * kStagger;
#ifdef __SANITIZE_ADDRESS__
  // The last frames of the thread that had this stack before never returned.
  __asan_unpoison_memory_region(reinterpret_cast<void*>(top - kLastFrames), kLastFrames);
#endif
  return top;
}

}  // namespace

#if defined(__x86_64__)

// Callee-saved registers only; the compiler has saved the rest around the call.
asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch, @function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch, .-simt_switch
)");
constexpr int kSavedWords = 6;

void* fresh_stack(int number, void (*entry)()) {
  const uintptr_t top = top_of(number);
  void** sp = reinterpret_cast<void**>(top);
  *--sp = nullptr;  // where entry would return to, which keeps its frame aligned
  *--sp = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedWords; i++) *--sp = nullptr;
  return sp;
}

#elif defined(__aarch64__)

asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch, %function
simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size simt_switch, .-simt_switch
)");
constexpr int kSavedWords = 20;
constexpr int kReturnWord = 11;  // x30

void* fresh_stack(int number, void (*entry)()) {
  const uintptr_t top = top_of(number);
  void** sp = reinterpret_cast<void**>(top) - kSavedWords;
  for (int i = 0; i < kSavedWords; i++) sp[i] = nullptr;
  sp[kReturnWord] = reinterpret_cast<void*>(entry);
  return sp;
}

#else
#error "The emulator switches stacks by hand: x86-64 and aarch64 only."
#endif

}  // namespace simt
