#pragma once
// Races: accesses without an order between them. Every word of memory has shadow cells with its
// last accesses, each with block, thread and the thread's clock. Two accesses of one launch, not
// both reads and not both atomic, need an order:
//   in a block      block_sync
//   in a warp       block_sync or warp_sync
//   between blocks  atomic_add_acq_rel
// Shuffles and votes order nothing, as on the GPU.

#include <cstddef>

#include "access.h"

namespace simt {

void race_launch_begins();
void check_race(const void* at, size_t bytes, Use use, const Site& site, bool shared);
void release_and_acquire(const void* at);  // by the current thread, through the number at `at`

}  // namespace simt
