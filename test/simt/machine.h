#pragma once
// The one multiprocessor that runs: one block at a time, one fiber per thread, on whichever host
// thread drives the stream.

#include <cstdint>
#include <mutex>
#include <string>

#include "fiber.h"
#include "simt/control.h"
#include "simt/device.h"
#include "simt/launch.h"

namespace simt {

inline constexpr int kWarp = 32;

// What lanes do together.
enum class Kind : uint8_t {
  sync,
  ballot,
  shuffle,
  shuffle_xor,
  redux_min,
  redux_max,
  mma_bfloat16,
  mma_half,
  mma_tf32,
  ldmatrix,
  ldmatrix_transposed
};
const char* name_of(Kind kind);

// One lane's operands and result.
struct Request {
  uint64_t value = 0;
  int operand = 0;
  void* out = nullptr;
  const void* in[2] = {};
  uint64_t result = 0;
};

struct Thread {
  enum class State : uint8_t { ready, in_warp, in_barrier, done };
  void* stack_pointer;
  int number;  // in the block
  toolkit::uint3 index;
  State state;
  CallSite site;  // of the primitive it waits in, or last called
};

// Lanes that wait in the same primitive with the same mask.
struct Group {
  uint32_t mask, arrived;
  Kind kind;
  CallSite site;
};

struct Warp {
  uint32_t present, exited;
  uint32_t ready;  // lanes that can go on
  int open;        // groups
  Group groups[kWarp];
  Request* requests[kWarp];
};

struct Machine {
  // Never destroyed, as nothing of the emulator is: the process may exit while kernels run.
  Machine() : kernel(*new std::string) {}

  std::mutex running;  // held while a kernel runs

  // The launch.
  const Call* call = nullptr;
  std::string& kernel;  // its name, with template arguments
  uint64_t launches = 0;
  toolkit::dim3 grid, block;
  size_t shared_bytes = 0;
  bool checked = false;  // the kernel is instrumented
  Counts* counts = nullptr;
  Settings settings;
  uint64_t random = 1;

  // The block.
  toolkit::uint3 block_index{};
  int thread_count = 0;
  int in_barrier = 0;
  int done = 0;
  CallSite barrier{};
  Thread* current = nullptr;
  void* driver = nullptr;  // stack of the host thread that runs the block
  Thread threads[kMaxThreads];
  Warp warps[kMaxThreads / kWarp];

  uint32_t ready = 0;  // warps that have such lanes
};
extern Machine machine;

inline bool in_kernel() {
  return on_stacks(reinterpret_cast<uintptr_t>(__builtin_frame_address(0)));
}
inline Thread& current_thread() { return *machine.current; }
inline Warp& warp_of(const Thread& t) { return machine.warps[t.number / kWarp]; }
inline int lane_of(const Thread& t) { return t.number % kWarp; }

uint64_t next_random();                     // from the launch's seed
void make_ready(int warp, uint32_t lanes);  // they may go on
void leave(Thread::State why);              // the current thread waits; returns when it goes on
void let_others_run();                      // the current thread goes on later

// Runs the grid, block by block, in the order of the settings.
void run_grid(const Call& call, const toolkit::cudaLaunchConfig_t& config);

// Where in the kernel: a call site, or an instruction.
struct Site {
  const void* pc = nullptr;
  CallSite site{};
  Site(const void* pc) : pc(pc) {}
  Site(CallSite site) : site(site) {}
  Site(const void* pc, CallSite site) : pc(pc), site(site) {}
};
std::string describe(const Site& site);

// A mistake of the kernel: names kernel, block, thread and call site, and ends the process.
[[noreturn]] void fault(Site site, const char* format, ...) __attribute__((format(printf, 2, 3)));
// of the launch as a whole
[[noreturn]] void fault_after(const char* format, ...) __attribute__((format(printf, 1, 2)));

// "bag_kernel<float, 4>" and "bag_kernel" of a function's address.
std::string kernel_name(const void* function);
std::string bare_name(const std::string& name);

}  // namespace simt
