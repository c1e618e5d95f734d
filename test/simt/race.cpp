#include "race.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "memory.h"

namespace simt {
namespace {

// One access, in 64 bits. Zero: none.
struct Cell {
  uint64_t block : 32;  // number of the run of a block, over all launches
  uint64_t thread : 10;
  uint64_t clock : 19;
  uint64_t bytes : 2;  // which of the two
  uint64_t atomic : 1;
};
constexpr uint32_t kLastClock = (1u << 19) - 1;

struct Cells {
  Cell write, first_read, last_read;
};

// What an atomic_add_acq_rel has made known: its thread's accesses up to `clock`, its block's before `floor`, its warp's up to `warp`.
struct Release {
  uint32_t block;
  uint32_t thread;
  uint32_t clock, floor;
  std::array<uint32_t, kWarp> warp;
};
using Releases = std::vector<Release>;

// The first `count` releases through one number.
struct Known {
  const Releases* releases;
  size_t count;
};

Cells* device_cells = nullptr;
Cells* shared_cells = nullptr;
uint32_t block_run = 0;     // the running block
uint32_t launch_first = 0;  // the launch's first
std::unordered_map<const void*, Releases> releases;
std::vector<Known> block_knows;
std::vector<Known> thread_knows[kMaxThreads];
bool threads_know = false;

uint32_t clocks[kMaxThreads];                  // each thread's own: counts what it synchronises in
uint32_t block_floor;                          // accesses of the block before are seen by all of it
uint32_t warp_floor[kMaxThreads / kWarp];      // accesses of the warp before are seen by all of it
uint32_t seen[kMaxThreads][kWarp];             // the clock up to which this thread sees a lane of its warp
bool partial[kMaxThreads / kWarp];             // some of `seen` is set

bool known(const Cell& c, const std::vector<Known>& all) {
  for (const Known& k : all) {
    const auto end = k.releases->begin() + static_cast<ptrdiff_t>(k.count);
    auto r = std::lower_bound(k.releases->begin(), end, c.block, [](const Release& a, uint32_t b) { return a.block < b; });
    for (; r != end && r->block == c.block; ++r)
      if (c.clock < r->floor || (c.thread == r->thread && c.clock <= r->clock) ||
          (c.thread / kWarp == r->thread / kWarp && c.clock <= r->warp[c.thread % kWarp]))
        return true;
  }
  return false;
}

// The access happened before what the thread does now.
bool ordered(const Cell& c, uint32_t thread, bool shared) {
  if (c.block < launch_first || (shared && c.block != block_run)) return true;
  if (c.block == block_run) {
    if (c.thread == thread || c.clock < block_floor) return true;
    const uint32_t warp = thread / kWarp;
    if (c.thread / kWarp != warp) return false;
    return c.clock < warp_floor[warp] || (partial[warp] && c.clock <= seen[thread][c.thread % kWarp]);
  }
  if (!block_knows.empty() && known(c, block_knows)) return true;
  return threads_know && known(c, thread_knows[thread]);
}

std::string who(const Cell& c) {
  if (c.block == block_run) return "thread " + std::to_string(c.thread) + " of this block";
  return "thread " + std::to_string(c.thread) + " of the block that ran " + std::to_string(block_run - c.block) + " before this one";
}

[[noreturn]] void race(const Cell& c, const char* what, const void* at, Use use, const Site& site) {
  fault(site, "race: %s at %s, and %s by %s, without a barrier or an atomic between them",
        use == Use::read ? "read" : use == Use::write ? "write" : "atomic", describe_address(at), what, who(c).c_str());
}

void tick(uint32_t& clock) {
  if (++clock > kLastClock) fault_after("a thread synchronises more than %u times: too often for the race detector", kLastClock);
}

}  // namespace

void race_launch_begins() {
  if (!machine.checked) return;
  if (!device_cells) {
    device_cells = static_cast<Cells*>(reserve(device_memory().reach() / 2 * sizeof(Cells)));
    shared_cells = static_cast<Cells*>(reserve(SharedArea::kBytes / 2 * sizeof(Cells)));
  }
  launch_first = block_run + 1;
  releases.clear();
}

void block_begins() {
  if (!machine.checked) return;
  block_run++;
  block_floor = 1;
  const int warps = (machine.thread_count + kWarp - 1) / kWarp;
  for (int i = 0; i < machine.thread_count; i++) clocks[i] = 1;
  for (int i = 0; i < warps; i++) {
    warp_floor[i] = 1;
    if (partial[i]) std::memset(seen[i * kWarp], 0, sizeof(seen[0]) * kWarp);
    partial[i] = false;
  }
  if (threads_know)
    for (auto& k : thread_knows) k.clear();
  block_knows.clear();
  threads_know = false;
}

void block_synced() {
  const int warps = (machine.thread_count + kWarp - 1) / kWarp;
  for (int i = 0; i < warps; i++) warp_converged(i);
  if (!machine.checked) return;
  uint32_t latest = 0;
  for (int i = 0; i < machine.thread_count; i++) latest = std::max(latest, clocks[i]);
  tick(latest);
  block_floor = latest;
  for (int i = 0; i < machine.thread_count; i++) clocks[i] = latest;
  for (int i = 0; i < warps; i++) {
    if (partial[i]) std::memset(seen[i * kWarp], 0, sizeof(seen[0]) * kWarp);
    partial[i] = false;
  }
  if (threads_know) {
    for (auto& k : thread_knows) {
      block_knows.insert(block_knows.end(), k.begin(), k.end());
      k.clear();
    }
    threads_know = false;
  }
}

void warp_synced(int warp, uint32_t mask) {
  if (!machine.checked) return;
  const int first = warp * kWarp;
  if (mask == machine.warps[warp].present) {
    uint32_t latest = 0;
    for (uint32_t left = mask; left != 0; left &= left - 1) latest = std::max(latest, clocks[first + std::countr_zero(left)]);
    tick(latest);
    warp_floor[warp] = latest;
    for (uint32_t left = mask; left != 0; left &= left - 1) clocks[first + std::countr_zero(left)] = latest;
  } else {
    partial[warp] = true;
    uint32_t joint[kWarp] = {};
    for (uint32_t left = mask; left != 0; left &= left - 1) {
      const int lane = std::countr_zero(left);
      for (int i = 0; i < kWarp; i++) joint[i] = std::max(joint[i], seen[first + lane][i]);
      joint[lane] = std::max(joint[lane], clocks[first + lane]);
    }
    for (uint32_t left = mask; left != 0; left &= left - 1) {
      const int lane = std::countr_zero(left);
      std::memcpy(seen[first + lane], joint, sizeof(joint));
      tick(clocks[first + lane]);
    }
  }
  if (threads_know) {
    std::vector<Known> joint;
    for (uint32_t left = mask; left != 0; left &= left - 1) {
      const auto& k = thread_knows[first + std::countr_zero(left)];
      joint.insert(joint.end(), k.begin(), k.end());
    }
    for (uint32_t left = mask; left != 0; left &= left - 1) thread_knows[first + std::countr_zero(left)] = joint;
  }
}

void release_and_acquire(const void* at) {
  if (!machine.checked) return;
  const Thread& t = current_thread();
  const uint32_t thread = static_cast<uint32_t>(t.number), warp = thread / kWarp;
  Releases& all = releases[at];
  Release r{block_run, thread, clocks[thread], block_floor, {}};
  for (int i = 0; i < kWarp; i++) r.warp[i] = std::max(partial[warp] ? seen[thread][i] : 0, warp_floor[warp] - 1);
  all.push_back(r);
  thread_knows[thread].push_back({&all, all.size()});
  threads_know = true;
  tick(clocks[thread]);
}

void check_race(const void* at, size_t bytes, Use use, const Site& site, bool shared) {
  const uint32_t thread = static_cast<uint32_t>(current_thread().number);
  const uintptr_t begin = reinterpret_cast<uintptr_t>(at), end = begin + bytes;
  const uintptr_t base = shared ? reinterpret_cast<uintptr_t>(shared_area().base()) : device_memory().base();
  Cells* cells = shared ? shared_cells : device_cells;
  for (uintptr_t p = begin & ~uintptr_t{1}; p < end; p += 2) {
    Cells& c = cells[(p - base) / 2];
    const uint64_t touched = (p < begin ? 2u : p + 1 == end ? 1u : 3u);
    const Cell now{block_run, thread, clocks[thread], touched, use == Use::atomic};
    if ((c.write.bytes & touched) && !(c.write.atomic && now.atomic) && !ordered(c.write, thread, shared))
      race(c.write, c.write.atomic ? "atomic" : "write", at, use, site);
    if (use == Use::read) {
      if (c.first_read.block == 0 || ordered(c.first_read, thread, shared))
        c.first_read = now;
      else
        c.last_read = now;
    } else {
      for (const Cell& r : {c.first_read, c.last_read})
        if ((r.bytes & touched) && !ordered(r, thread, shared)) race(r, "read", at, use, site);
      c.write = now;
      c.first_read = c.last_read = Cell{};
    }
  }
}

}  // namespace simt
