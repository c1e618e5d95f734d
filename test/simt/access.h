#pragma once
// The memory accesses of kernels that the emulator observes: through the compiler's instrumentation
// (-fsanitize=thread), the vector loads and stores, the atomics and the asynchronous copies.

#include <cstddef>
#include <cstdint>
#include <string>

#include "machine.h"

namespace simt {

enum class Use : uint8_t { read, write, atomic };

// Checks bounds; in an instrumented kernel also that what is read was written and that no other
// thread races with the access; counts it.
void access(const void* at, size_t bytes, Use use, const Site& site);

// The same without counting: for the writes of asynchronous copies.
void access_uncounted(const void* at, size_t bytes, Use use, const Site& site);

// Marks memory as unwritten: it must be written before it is read.
void forget(const void* at, size_t bytes);

// Events of the schedule. A warp converges where all of its lanes that have not exited meet.
void launch_begins();
void block_begins();
void block_synced();
void warp_synced(int warp, uint32_t mask);
void warp_converged(int warp);

Counts* counts_of(const std::string& kernel);

}  // namespace simt
