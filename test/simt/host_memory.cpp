#include "host_memory.h"

#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>

#include "memory.h"

namespace simt {
namespace {

std::mutex mutex;
std::map<uintptr_t, size_t>& blocks() {
  static auto& all = *new std::map<uintptr_t, size_t>;
  return all;
}

}  // namespace

void* pin(size_t bytes) {
  void* p = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!p) return nullptr;
  fill(p, bytes, kFreshPattern);
  const std::lock_guard hold(mutex);
  blocks()[reinterpret_cast<uintptr_t>(p)] = bytes;
  return p;
}

bool unpin(void* p) {
  {
    const std::lock_guard hold(mutex);
    if (blocks().erase(reinterpret_cast<uintptr_t>(p)) == 0) return false;
  }
  std::free(p);
  return true;
}

bool is_pinned(const void* p, size_t bytes) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(p);
  const std::lock_guard hold(mutex);
  auto it = blocks().upper_bound(begin);
  if (it == blocks().begin()) return false;
  --it;
  return begin + bytes <= it->first + it->second;
}

}  // namespace simt
