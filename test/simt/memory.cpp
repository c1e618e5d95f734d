#include "memory.h"

#include <sys/mman.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "machine.h"

namespace simt {
namespace {

constexpr size_t kAlign = 256;  // of allocations, as cudaMalloc's
// bytes that stay unused after they were freed
constexpr size_t kQuarantine = size_t{64} << 20;
constexpr size_t kGrowth = size_t{64} << 20;  // of the accessible range
// larger blocks return to the system when freed
constexpr size_t kKeptBytes = size_t{16} << 20;

struct Range {
  uintptr_t begin;
  size_t bytes;
};

std::mutex mutex;  // of what follows
// never destroyed: the process may exit while kernels run
auto& live = *new std::map<uintptr_t, size_t>;  // data address -> bytes asked for
auto& free_ranges = *new std::map<uintptr_t, size_t>;
auto& quarantine = *new std::deque<Range>;
size_t quarantined = 0;
size_t used_bytes = 0;
uintptr_t top = 0;         // addresses from here on were never used
uintptr_t accessible = 0;  // end of the accessible range

// Bytes of an allocation with its red zones, one on each side.
size_t footprint(size_t bytes) {
  return kRedZone + (bytes + kRedZone + kAlign - 1) / kAlign * kAlign;
}

void add_free(Range r) {
  auto next = free_ranges.lower_bound(r.begin);
  if (next != free_ranges.end() && r.begin + r.bytes == next->first) {
    r.bytes += next->second;
    next = free_ranges.erase(next);
  }
  if (next != free_ranges.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == r.begin) {
      before->second += r.bytes;
      return;
    }
  }
  free_ranges[r.begin] = r.bytes;
}

uintptr_t allocate_range(size_t bytes) {
  for (auto it = free_ranges.begin(); it != free_ranges.end(); ++it) {
    if (it->second < bytes) continue;
    const uintptr_t begin = it->first;
    const size_t rest = it->second - bytes;
    free_ranges.erase(it);
    if (rest > 0) free_ranges[begin + bytes] = rest;
    return begin;
  }
  const uintptr_t begin = top;
  if (begin + bytes > device_memory().base() + device_memory().reach()) return 0;
  top += bytes;
  if (top > accessible) {
    const size_t more = (top - accessible + kGrowth - 1) / kGrowth * kGrowth;
    if (mprotect(reinterpret_cast<void*>(accessible), more, PROT_READ | PROT_WRITE) != 0) return 0;
    accessible += more;
  }
  return begin;
}

// Under AddressSanitizer every access outside of an allocation is reported at once.
void poison(const void* p, size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(p, bytes);
#else
  (void)p, (void)bytes;
#endif
}
void unpoison(const void* p, size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(p, bytes);
#else
  (void)p, (void)bytes;
#endif
}
#ifdef __SANITIZE_ADDRESS__
constexpr bool kPoisoned = true;
#else
constexpr bool kPoisoned = false;
#endif

bool intact(uintptr_t begin, size_t bytes, uintptr_t* where) {
  if (kPoisoned) return true;  // reported already
  // Red zones begin at any byte, the pattern at even ones.
  static const auto& expected = *[] {
    auto* v = new std::vector<char>(2 * kRedZone + kAlign + 2);
    for (size_t i = 0; i < v->size(); i++)
      (*v)[i] = static_cast<char>(i % 2 == 0 ? kRedZonePattern & 0xff : kRedZonePattern >> 8);
    return v;
  }();
  const char* pattern = expected.data() + begin % 2;
  if (std::memcmp(reinterpret_cast<const char*>(begin), pattern, bytes) == 0) return true;
  for (*where = begin; *reinterpret_cast<const char*>(*where) == pattern[*where - begin];
       ++*where) {
  }
  return false;
}

void check_red_zones_of(uintptr_t data, size_t bytes) {
  uintptr_t where = 0;
  if (!intact(data - kRedZone, kRedZone, &where) || !intact(data + bytes, kRedZone, &where))
    fault_after(
        "device memory was written out of bounds: %ld bytes from the start of an allocation of %zu "
        "bytes",
        static_cast<long>(where - data), bytes);
}

}  // namespace

void fill(void* p, size_t bytes, uint16_t pattern) {
  auto* to = static_cast<uint8_t*>(p);
  const uint8_t low = static_cast<uint8_t>(pattern & 0xff),
                high = static_cast<uint8_t>(pattern >> 8);
  size_t i = 0;
  for (; i < bytes && reinterpret_cast<uintptr_t>(to + i) % 8 != 0; i++)
    to[i] = reinterpret_cast<uintptr_t>(to + i) % 2 ? high : low;
  const uint64_t word = 0x0001000100010001u * pattern;
  for (; i + 8 <= bytes; i += 8) std::memcpy(to + i, &word, 8);
  for (; i < bytes; i++) to[i] = reinterpret_cast<uintptr_t>(to + i) % 2 ? high : low;
}

void* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return p;
}

DeviceMemory& device_memory() {
  static DeviceMemory& memory = *new DeviceMemory;  // never destroyed: streams outlive statics
  return memory;
}

DeviceMemory::DeviceMemory() : reach_((2 * settings().memory / kGrowth + 2) * kGrowth) {
  void* p = mmap(nullptr, reach_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  base_ = reinterpret_cast<uintptr_t>(p);
  states_ = static_cast<uint8_t*>(reserve(reach_));
  top = accessible = base_;
}

void* DeviceMemory::allocate(size_t bytes) {
  const std::lock_guard hold(mutex);
  if (used_bytes + bytes > settings().memory) return nullptr;
  const uintptr_t begin = allocate_range(footprint(bytes));
  if (begin == 0) return nullptr;
  const uintptr_t data = begin + kRedZone;
  const size_t behind = footprint(bytes) - kRedZone - bytes;
  unpoison(reinterpret_cast<void*>(begin), footprint(bytes));
  fill(reinterpret_cast<void*>(begin), kRedZone, kRedZonePattern);
  fill(reinterpret_cast<void*>(data), bytes, kFreshPattern);
  fill(reinterpret_cast<void*>(data + bytes), behind, kRedZonePattern);
  poison(reinterpret_cast<void*>(begin), kRedZone);
  poison(reinterpret_cast<void*>(data + bytes), behind);
  std::memset(state(begin), kOutside, footprint(bytes));
  std::memset(state(data), kUnwritten, bytes);
  live[data] = bytes;
  used_bytes += bytes;
  return reinterpret_cast<void*>(data);
}

bool DeviceMemory::release(void* p) {
  const std::lock_guard hold(mutex);
  const auto it = live.find(reinterpret_cast<uintptr_t>(p));
  if (it == live.end()) return false;
  const auto [data, bytes] = *it;
  check_red_zones_of(data, bytes);
  live.erase(it);
  used_bytes -= bytes;
  std::memset(state(data), kOutside, bytes);
  const Range r{data - kRedZone, footprint(bytes)};
  if (bytes < kKeptBytes) {
    fill(p, bytes, kRedZonePattern);
  } else {
    const uintptr_t first = (data + 4095) / 4096 * 4096, last = (data + bytes) / 4096 * 4096;
    madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  }
  poison(p, bytes);
  quarantine.push_back(r);
  quarantined += r.bytes;
  while (quarantined > kQuarantine) {
    quarantined -= quarantine.front().bytes;
    add_free(quarantine.front());
    quarantine.pop_front();
  }
  return true;
}

bool DeviceMemory::covers(const void* p, size_t bytes) const {
  const std::lock_guard hold(mutex);
  const uintptr_t begin = reinterpret_cast<uintptr_t>(p);
  auto it = live.upper_bound(begin);
  if (it == live.begin()) return false;
  --it;
  return begin + bytes <= it->first + it->second;
}

void DeviceMemory::wrote(void* p, size_t bytes) {
  std::memset(state(reinterpret_cast<uintptr_t>(p)), kWritten, bytes);
}

void wrote(void* at, size_t bytes) {
  if (bytes == 0) return;
  if (!device_memory().covers(at, bytes))
    fault_after("a host stand-in wrote %zu bytes out of bounds: %s", bytes, describe_address(at));
  device_memory().wrote(at, bytes);
}

void check_red_zones() {
  const std::lock_guard hold(mutex);
  for (const auto& [data, bytes] : live) check_red_zones_of(data, bytes);
}

const char* describe_address(const void* p) {
  static char text[160];
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  if (shared_area().holds(p)) {
    std::snprintf(text, sizeof(text), "shared memory, byte %zu of %zu",
                  address - reinterpret_cast<uintptr_t>(shared_area().base()),
                  machine.shared_bytes);
    return text;
  }
  const std::lock_guard hold(mutex);
  auto it = live.upper_bound(address);
  if (it != live.begin() && address - std::prev(it)->first < std::prev(it)->second + kRedZone) {
    --it;
    std::snprintf(text, sizeof(text), "device memory, byte %zu of an allocation of %zu bytes",
                  address - it->first, it->second);
  } else if (it != live.end() && it->first - address <= kRedZone) {
    std::snprintf(text, sizeof(text), "device memory, %zu bytes before an allocation of %zu bytes",
                  it->first - address, it->second);
  } else {
    std::snprintf(text, sizeof(text), "device memory that is free");
  }
  return text;
}

SharedArea& shared_area() {
  static SharedArea& area = *new SharedArea;
  return area;
}

SharedArea::SharedArea()
    : base_(static_cast<char*>(reserve(kBytes))), states_(static_cast<uint8_t*>(reserve(kBytes))) {}

void SharedArea::begin_block(size_t bytes) {
  if (bytes != bytes_) std::memset(states_, kOutside, kBytes);
  bytes_ = bytes;
  unpoison(base_, kBytes);
  fill(base_, bytes, kFreshPattern);
  fill(base_ + bytes, kRedZone, kRedZonePattern);
  poison(base_ + bytes, kBytes - bytes);
  std::memset(states_, kUnwritten, bytes);
}

void SharedArea::check_red_zone() {
  uintptr_t where = 0;
  if (!intact(reinterpret_cast<uintptr_t>(base_) + bytes_, kRedZone, &where))
    fault_after("shared memory was written out of bounds: byte %zu of %zu",
                where - reinterpret_cast<uintptr_t>(base_), bytes_);
}

}  // namespace simt
