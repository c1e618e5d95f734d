#pragma once
// For tests and benchmarks: the machine the emulator pretends to be, the order in which it runs
// threads, and what it has counted.

#include <cstdint>
#include <string>
#include <vector>

namespace simt {

// Read from MEMORY_LAYERS_SIMT="order=reversed,compute=80,…" at first use; set() replaces them,
// between launches only.
struct Settings {
  enum class Order { forward, reversed, random };
  Order order = Order::forward;  // of blocks and threads: order=forward, order=reversed, order=SEED
  uint64_t seed = 0;
  int compute = 90;  // compute capability: 75, 80, 86, 89, 90, 100, 120
  int multiprocessors = 4;
  int devices = 1;                      // GPUs alike, which share the memory
  uint64_t memory = uint64_t{8} << 30;  // bytes of device memory
  // Freed memory is reused, as on a GPU; else each tensor has memory of its own, with its bounds.
  bool cached_blocks = false;
  // A matrix product truncates as tensor cores may; else its sums are rounded once.
  bool truncating_mma = false;
};
Settings settings();

// Calls of the runtime by all threads since the process began.
struct Calls {
  uint64_t launches = 0, allocations = 0, frees = 0;
  uint64_t timed_events = 0;  // records of events that keep the time
  uint64_t event_queries = 0, event_waits = 0;
};
Calls calls();
void set(const Settings& settings);

// One kernel's totals over all launches and template instances, exact. "Access": one instruction of
// a warp.
struct Access {
  uint64_t accesses = 0;
  uint64_t bytes = 0;    // of all lanes
  uint64_t sectors = 0;  // of 32 bytes, distinct within each access
};
struct Shared {
  uint64_t accesses = 0;
  uint64_t bytes = 0;
  uint64_t conflicts = 0;  // passes beyond the fewest that an access of its size needs
};
struct Counts {
  std::string kernel;
  uint64_t launches = 0, blocks = 0, threads = 0;
  uint64_t max_threads = 0, max_shared_bytes = 0;  // of one block
  Access loads, stores;                            // global memory, without atomics
  Shared shared_loads, shared_stores;
  uint64_t atomics = 0;                                                              // lanes
  uint64_t barriers = 0;                                                             // of a block
  uint64_t warp_syncs = 0, shuffles = 0, votes = 0, products = 0, matrix_loads = 0;  // of a warp
};

// Loads, stores and shared memory are counted for kernels compiled with -fsanitize=thread and for
// vector accesses only.
Counts counts(const std::string& kernel);  // by bare name: "bag_kernel"
std::vector<Counts> all_counts();
std::string counts_json();
void reset_counts();

}  // namespace simt
