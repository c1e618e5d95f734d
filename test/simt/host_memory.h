#pragma once
// Pinned host memory, which kernels may touch and asynchronous copies read late.

#include <cstddef>

namespace simt {

void* pin(size_t bytes);
bool unpin(void* p);
bool is_pinned(const void* p, size_t bytes);

}  // namespace simt
