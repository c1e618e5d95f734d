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

// One access, in 64 bits. Block 0: none.
struct Cell {
  uint64_t block : 30;  // number of the run of a block, over all launches
  uint64_t thread : 10;
  uint64_t clock : 18;
  uint64_t bytes : 4;  // which of the word
  uint64_t write : 1;
  uint64_t atomic : 1;
};
static_assert(sizeof(Cell) == 8);
constexpr uint32_t kLastClock = (1u << 18) - 1;
constexpr uint32_t kLastBlock = (1u << 30) - 1;

// The last accesses to four bytes. A new access replaces one that is ordered before it, else a
// read.
constexpr uintptr_t kWord = 4;
struct Cells {
  Cell cell[3];
};

// What an atomic_add_acq_rel has made known: its thread's accesses up to `clock`, its block's
// before `floor`, its warp's up to `warp`.
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
// never destroyed: the process may exit while kernels run
auto& releases = *new std::unordered_map<const void*, Releases>;
auto& block_knows = *new std::vector<Known>;
auto& thread_knows = *new std::array<std::vector<Known>, kMaxThreads>;
bool threads_know = false;

uint32_t clocks[kMaxThreads];              // each thread's own: counts what it synchronises in
uint32_t block_floor;                      // accesses of the block before are seen by all of it
uint32_t warp_floor[kMaxThreads / kWarp];  // accesses of the warp before are seen by all of it
// the clock up to which this thread sees a lane of its warp
uint32_t seen[kMaxThreads][kWarp];
bool partial[kMaxThreads / kWarp];  // some of `seen` is set

bool known(const Cell& c, const std::vector<Known>& all) {
  for (const Known& k : all) {
    const auto end = k.releases->begin() + static_cast<ptrdiff_t>(k.count);
    auto r = std::lower_bound(k.releases->begin(), end, c.block,
                              [](const Release& a, uint32_t b) { return a.block < b; });
    for (; r != end && r->block == c.block; ++r)
      if (c.clock < r->floor || (c.thread == r->thread && c.clock <= r->clock) ||
          (c.thread / kWarp == r->thread / kWarp && c.clock <= r->warp[c.thread % kWarp]))
        return true;
  }
  return false;
}

// The access happened before what the thread does now. It is of this launch and, if in shared
// memory, of this block.
bool ordered(const Cell& c, uint32_t thread) {
  if (c.block == block_run) {
    if (c.thread == thread || c.clock < block_floor) return true;
    const uint32_t warp = thread / kWarp;
    if (c.thread / kWarp != warp) return false;
    return c.clock < warp_floor[warp] ||
           (partial[warp] && c.clock <= seen[thread][c.thread % kWarp]);
  }
  if (!block_knows.empty() && known(c, block_knows)) return true;
  return threads_know && known(c, thread_knows[thread]);
}

std::string who(const Cell& c) {
  if (c.block == block_run) return "thread " + std::to_string(c.thread) + " of this block";
  return "thread " + std::to_string(c.thread) + " of the block that ran " +
         std::to_string(block_run - c.block) + " before this one";
}

[[noreturn]] void race(const Cell& c, const void* at, Use use, const Site& site) {
  const char* what = c.atomic ? "atomic" : c.write ? "write" : "read";
  fault(site, "race: %s at %s, and %s by %s, without a barrier or an atomic between them",
        use == Use::read    ? "read"
        : use == Use::write ? "write"
                            : "atomic",
        describe_address(at), what, who(c).c_str());
}

void tick(uint32_t& clock) {
  if (++clock > kLastClock)
    fault_after("a thread synchronises more than %u times: too often for the race detector",
                kLastClock);
}

}  // namespace

void race_launch_begins() {
  if (!machine.checked) return;
  if (!device_cells) {
    device_cells = static_cast<Cells*>(reserve(device_memory().reach() / kWord * sizeof(Cells)));
    shared_cells = static_cast<Cells*>(reserve(SharedArea::kBytes / kWord * sizeof(Cells)));
  }
  launch_first = block_run + 1;
  releases.clear();
}

void block_begins() {
  if (!machine.checked) return;
  if (++block_run > kLastBlock)
    fault_after("more than %u blocks have run: too many for the race detector", kLastBlock);
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
    for (uint32_t left = mask; left != 0; left &= left - 1)
      latest = std::max(latest, clocks[first + std::countr_zero(left)]);
    tick(latest);
    warp_floor[warp] = latest;
    for (uint32_t left = mask; left != 0; left &= left - 1)
      clocks[first + std::countr_zero(left)] = latest;
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
    for (uint32_t left = mask; left != 0; left &= left - 1)
      thread_knows[first + std::countr_zero(left)] = joint;
  }
}

void release_and_acquire(const void* at) {
  if (!machine.checked) return;
  const Thread& t = current_thread();
  const uint32_t thread = static_cast<uint32_t>(t.number), warp = thread / kWarp;
  Releases& all = releases[at];
  Release r{block_run, thread, clocks[thread], block_floor, {}};
  for (int i = 0; i < kWarp; i++)
    r.warp[i] = std::max(partial[warp] ? seen[thread][i] : 0, warp_floor[warp] - 1);
  all.push_back(r);
  thread_knows[thread].push_back({&all, all.size()});
  threads_know = true;
  tick(clocks[thread]);
}

void check_race(const void* at, size_t bytes, Use use, const Site& site, bool shared) {
  const uint32_t thread = static_cast<uint32_t>(current_thread().number);
  const uint32_t oldest = shared ? block_run : launch_first;  // before it all is over
  const uintptr_t base =
      shared ? reinterpret_cast<uintptr_t>(shared_area().base()) : device_memory().base();
  Cells* cells = shared ? shared_cells : device_cells;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(at) - base, end = begin + bytes;
  Cell now{block_run, thread, clocks[thread], 0, use != Use::read, use == Use::atomic};
  for (uintptr_t word = begin / kWord; word * kWord < end; word++) {
    const uintptr_t first = word * kWord;
    uint32_t touched = 15;
    if (begin > first) touched &= 15u << (begin - first);
    if (end < first + kWord) touched &= 15u >> (first + kWord - end);
    now.bytes = touched;
    Cells& c = cells[word];
    int chosen = -1;
    for (int i = 0; i < 3; i++) {
      Cell& old = c.cell[i];
      if (old.block < oldest) {
        if (chosen < 0) chosen = i;
        continue;
      }
      const bool over = ordered(old, thread);
      const bool conflict =
          (old.bytes & touched) && (old.write || now.write) && !(old.atomic && now.atomic);
      if (conflict && !over) race(old, at, use, site);
      // Whatever would be in a race with the old access would be in one with this, too.
      if ((old.bytes & ~uint64_t{touched}) == 0 && (now.write || !old.write) &&
          (over || (old.atomic && now.atomic))) {
        if (chosen < 0)
          chosen = i;
        else
          old = Cell{};
      }
    }
    if (chosen < 0)
      for (int i = 0; i < 3; i++)
        if (!c.cell[i].write) chosen = i;
    if (chosen < 0 && now.write) chosen = 2;
    if (chosen >= 0) c.cell[chosen] = now;
  }
}

}  // namespace simt
