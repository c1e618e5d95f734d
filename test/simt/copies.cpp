// Asynchronous copies. The bytes arrive at the wait, not before: until then the target holds NaNs
// and counts as unwritten, so that a kernel that forgets to wait is caught.

#include <array>
#include <cstring>
#include <deque>
#include <vector>

#include "access.h"
#include "machine.h"
#include "memory.h"

namespace simt {
namespace {

struct Copy {
  void* to;
  const void* from;
  int bytes, bytes_read;
};

struct Copies {
  uint64_t launch = 0;
  toolkit::uint3 block{};
  std::vector<Copy> open;                // not committed
  std::deque<std::vector<Copy>> groups;  // committed, oldest first
};
// never destroyed: the process may exit while kernels run
auto& all = *new std::array<Copies, kMaxThreads>;

Copies& copies_of(const Thread& t) {
  Copies& c = all[t.number];
  const auto& b = machine.block_index;
  if (c.launch != machine.launches || c.block.x != b.x || c.block.y != b.y || c.block.z != b.z) {
    c.launch = machine.launches;
    c.block = b;
    c.open.clear();
    c.groups.clear();
  }
  return c;
}

}  // namespace

void copy_async(void* shared, const void* global, int bytes, int bytes_read, CallSite site) {
  const uintptr_t size = static_cast<uintptr_t>(bytes);
  if (reinterpret_cast<uintptr_t>(shared) % size != 0 ||
      reinterpret_cast<uintptr_t>(global) % size != 0)
    fault(site, "copy_async of %d bytes from %p to %p, which are not multiples of them", bytes,
          global, shared);
  if (bytes_read < 0 || bytes_read > bytes)
    fault(site, "copy_async of %d bytes reads %d", bytes, bytes_read);
  const Site from{__builtin_return_address(0), site};
  if (bytes_read > 0) access(global, static_cast<size_t>(bytes_read), Use::read, from);
  access(shared, size, Use::write, from);
  forget(shared, size);
  copies_of(current_thread()).open.push_back({shared, global, bytes, bytes_read});
}

void copy_async_commit(CallSite) {
  Copies& c = copies_of(current_thread());
  c.groups.push_back(std::move(c.open));
  c.open.clear();
}

void copy_async_wait(int groups, CallSite site) {
  Copies& c = copies_of(current_thread());
  while (c.groups.size() > static_cast<size_t>(groups)) {
    for (const Copy& copy : c.groups.front()) {
      access_uncounted(copy.to, static_cast<size_t>(copy.bytes), Use::write,
                       {__builtin_return_address(0), site});
      std::memset(copy.to, 0, static_cast<size_t>(copy.bytes));
      std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes_read));
    }
    c.groups.pop_front();
  }
}

}  // namespace simt
