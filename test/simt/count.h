#pragma once
// Exact counts of what a kernel asks of memory. The lanes' accesses by one instruction, the n-th
// time since the warp converged, are one access of the warp: they are gathered by instruction and
// occurrence and counted when the warp converges again.

#include <cstddef>

namespace simt {

void count_launch_begins();
void count_access(const void* at, size_t bytes, bool write, const void* pc, bool shared);

}  // namespace simt
