#include "access.h"

#include <link.h>

#include <cstring>
#include <vector>

#include "count.h"
#include "host_memory.h"
#include "memory.h"
#include "race.h"

namespace simt {
namespace {

struct Image {
  uintptr_t begin, end;
};

// Whether the address is in the code or the constants of this process.
bool in_image(uintptr_t address) {
  static const auto& images = *[] {
    auto* found = new std::vector<Image>;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* out) {
          for (int i = 0; i < info->dlpi_phnum; i++) {
            const auto& segment = info->dlpi_phdr[i];
            if (segment.p_type != PT_LOAD) continue;
            const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
            static_cast<std::vector<Image>*>(out)->push_back({begin, begin + segment.p_memsz});
          }
          return 0;
        },
        found);
    return found;
  }();
  for (const Image& image : images)
    if (address >= image.begin && address < image.end) return true;
  return false;
}

// Neither device nor shared memory: the thread's own stack, the kernel's arguments, constants,
// pinned host memory.
void check_other(const void* at, size_t bytes, Use use, const Site& site) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(at);
  const Machine& m = machine;
  if (on_stacks(address)) {
    if (stack_owner(address) != m.current->number)
      fault(site, "access to a local variable of thread %d of the block", stack_owner(address));
    return;
  }
  const uintptr_t arguments = reinterpret_cast<uintptr_t>(m.call->arguments.get());
  if (address >= arguments && address + bytes <= arguments + m.call->argument_bytes) return;
  if (use == Use::read && in_image(address)) return;
  if (is_pinned(at, bytes)) return;
  fault(site, "%s of %zu bytes of host memory at %p", use == Use::read ? "read" : "write", bytes,
        at);
}

template <class Word>
bool is(const uint8_t* state, Word written) {
  Word found;
  std::memcpy(&found, state, sizeof(Word));
  return found == written;
}

// Fast path for the usual sizes.
bool all_written(const uint8_t* state, size_t bytes) {
  constexpr uint64_t kAll = 0x0101010101010101u * kWritten;
  switch (bytes) {
    case 2: return is<uint16_t>(state, static_cast<uint16_t>(kAll));
    case 4: return is<uint32_t>(state, static_cast<uint32_t>(kAll));
    case 8: return is<uint64_t>(state, kAll);
    case 16: return is<uint64_t>(state, kAll) && is<uint64_t>(state + 8, kAll);
    default: return false;
  }
}

void access_known(const void* at, size_t bytes, Use use, const Site& site, bool shared) {
  uint8_t* state = shared ? shared_area().state(reinterpret_cast<uintptr_t>(at))
                          : device_memory().state(reinterpret_cast<uintptr_t>(at));
  bool unwritten = false;
  if (!all_written(state, bytes)) {
    for (size_t i = 0; i < bytes; i++) {
      if (state[i] == kOutside)
        fault(site, "%s of %zu bytes out of bounds at byte %zu: %s",
              use == Use::read    ? "read"
              : use == Use::write ? "write"
                                  : "atomic",
              bytes, i, describe_address(static_cast<const char*>(at) + i));
      unwritten |= state[i] == kUnwritten;
    }
  }
  if (!machine.checked) return;
  if (use != Use::write && unwritten)
    fault(site, "read of %zu bytes that were never written: %s", bytes, describe_address(at));
  if (use != Use::read && unwritten) std::memset(state, kWritten, bytes);
  check_race(at, bytes, use, site, shared);
}

}  // namespace

void access_uncounted(const void* at, size_t bytes, Use use, const Site& site) {
  const bool shared = shared_area().holds(at);
  if (!shared && !device_memory().holds(at)) return check_other(at, bytes, use, site);
  access_known(at, bytes, use, site, shared);
}

void access(const void* at, size_t bytes, Use use, const Site& site) {
  const bool shared = shared_area().holds(at);
  if (!shared && !device_memory().holds(at)) return check_other(at, bytes, use, site);
  access_known(at, bytes, use, site, shared);
  if (machine.checked && use != Use::atomic)
    count_access(at, bytes, use == Use::write, site.pc, shared);
}

void forget(const void* at, size_t bytes) {
  fill(const_cast<void*>(at), bytes, kFreshPattern);
  std::memset(shared_area().state(reinterpret_cast<uintptr_t>(at)), kUnwritten, bytes);
}

void load_vector(void* to, const void* from, size_t bytes, CallSite site) {
  if (reinterpret_cast<uintptr_t>(from) % bytes != 0)
    fault(site, "load of %zu bytes at %p, which is not a multiple of them", bytes, from);
  access(from, bytes, Use::read, {__builtin_return_address(0), site});
  std::memcpy(to, from, bytes);
}

void store_vector(void* to, const void* from, size_t bytes, CallSite site) {
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0)
    fault(site, "store of %zu bytes at %p, which is not a multiple of them", bytes, to);
  access(to, bytes, Use::write, {__builtin_return_address(0), site});
  std::memcpy(to, from, bytes);
}

void launch_begins() {
  race_launch_begins();
  count_launch_begins();
}

}  // namespace simt
