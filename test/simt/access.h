#pragma once
// Every access of memory by a kernel that the emulator is told of: by the compiler's
// instrumentation (-fsanitize=thread), by the vector loads and stores, the atomics and the
// asynchronous copies.

#include <cstddef>
#include <cstdint>
#include <string>

#include "machine.h"

namespace simt {

enum class Use : uint8_t { read, write, atomic };

// Checks bounds; in an instrumented kernel also that what is read was written, and that no other
// thread is in a race with it; counts.
void access(const void* at, size_t bytes, Use use, const Site& site);

// The same without counting: for what the copy engine does behind the threads.
void access_uncounted(const void* at, size_t bytes, Use use, const Site& site);

// Marks memory as never written, which nobody may read before somebody writes it.
void forget(const void* at, size_t bytes);

// Of the schedule. A warp converges where all of its lanes that are left have met.
void launch_begins();
void block_begins();
void block_synced();
void warp_synced(int warp, uint32_t mask);
void warp_converged(int warp);

Counts* counts_of(const std::string& kernel);

}  // namespace simt
