#pragma once
// Exact counts of a kernel's memory accesses. The accesses of a warp's lanes by one instruction,
// its n-th execution since the warp converged, are one access of the warp: they are gathered by
// instruction and execution, and counted when the warp converges again.

#include <cstddef>

namespace simt {

void count_launch_begins();
void count_access(const void* at, size_t bytes, bool write, const void* pc, bool shared);

}  // namespace simt
