#include "count.h"

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "access.h"
#include "machine.h"

namespace simt {
namespace {

constexpr uintptr_t kSector = 32;  // bytes
constexpr int kBanks = 32;
constexpr int kBankBytes = 4;

struct Gathered {
  uint32_t lanes;  // 0: free
  uintptr_t address[kWarp];
};

// Executions by which one lane may be ahead of the others of its warp: bounds the rings.
constexpr uint32_t kAhead = 32;

// One instruction of one warp. Gathered accesses are in a ring; an access with all lanes is counted
// at once.
struct Instruction {
  const void* pc = nullptr;
  uint64_t launch = 0;  // that used this entry last
  size_t bytes;
  bool write, shared;
  uint32_t times[kWarp];       // executions by each lane since the warp converged
  uint32_t first, end;         // occurrences in the ring
  std::vector<Gathered> ring;  // a power of two
};

constexpr size_t kMaxInstructions = 1024;  // of a kernel, that access memory

struct Table {
  std::vector<Instruction> entries;
  std::vector<Instruction*> touched;
};
// never destroyed: the process may exit while kernels run
auto& tables = *new std::array<Table, kMaxThreads / kWarp>;

Instruction& find(Table& table, const void* pc, size_t bytes, bool write, bool shared) {
  if (table.entries.empty()) table.entries.resize(kMaxInstructions);
  size_t i = (reinterpret_cast<uintptr_t>(pc) * 0x9e3779b97f4a7c15u >> 40) % kMaxInstructions;
  for (size_t tried = 0; tried < kMaxInstructions; tried++, i = (i + 1) % kMaxInstructions) {
    Instruction& n = table.entries[i];
    const bool used = n.launch == machine.launches;
    if (used && n.pc == pc && n.bytes == bytes && n.write == write && n.shared == shared) return n;
    if (used) continue;
    n.launch = machine.launches;
    n.pc = pc;
    n.bytes = bytes;
    n.write = write;
    n.shared = shared;
    n.first = n.end = 0;
    std::fill(n.times, n.times + kWarp, 0u);
    if (n.ring.empty()) n.ring.resize(kAhead);
    return n;
  }
  fault_after("more than %zu instructions that access memory", kMaxInstructions);
}

Gathered& at(Instruction& n, uint32_t time) { return n.ring[time & (n.ring.size() - 1)]; }

void grow(Instruction& n) {
  std::vector<Gathered> larger(2 * n.ring.size());
  for (uint32_t t = n.first; t != n.end; t++) larger[t & (larger.size() - 1)] = at(n, t);
  n.ring = std::move(larger);
}

uint64_t sectors(const Gathered& g, size_t bytes) {
  uintptr_t distinct[2 * kWarp];
  int count = 0;
  for (int lane = 0; lane < kWarp; lane++) {
    if (!(g.lanes >> lane & 1)) continue;
    for (uintptr_t s = g.address[lane] / kSector; s <= (g.address[lane] + bytes - 1) / kSector;
         s++) {
      bool found = false;
      for (int i = count - 1; i >= 0 && !found; i--) found = distinct[i] == s;
      if (!found) distinct[count++] = s;
    }
  }
  return static_cast<uint64_t>(count);
}

// One pass serves 32 lanes of up to 4 bytes, 16 of 8 or 8 of 16 bytes, if no two of them access
// different words of one bank.
uint64_t conflicts(const Gathered& g, size_t bytes) {
  const int lanes = bytes <= 4 ? kWarp : bytes == 8 ? kWarp / 2 : kWarp / 4;
  uint64_t beyond = 0;
  for (int first = 0; first < kWarp; first += lanes) {
    uintptr_t words[kBanks][kWarp];
    int count[kBanks] = {};
    int passes = 1;
    for (int lane = first; lane < first + lanes; lane++) {
      if (!(g.lanes >> lane & 1)) continue;
      for (uintptr_t w = g.address[lane] / kBankBytes;
           w <= (g.address[lane] + bytes - 1) / kBankBytes; w++) {
        const int bank = static_cast<int>(w % kBanks);
        bool found = false;
        for (int i = 0; i < count[bank] && !found; i++) found = words[bank][i] == w;
        if (!found) words[bank][count[bank]++] = w;
        passes = std::max(passes, count[bank]);
      }
    }
    beyond += static_cast<uint64_t>(passes - 1);
  }
  return beyond;
}

std::map<std::string, Counts>& all() {
  static auto& counts = *new std::map<std::string, Counts>;
  return counts;
}

}  // namespace

void count_launch_begins() {
  if (!machine.checked) return;
  for (Table& t : tables) t.touched.clear();
}

namespace {

void count(const Instruction& n, const Gathered& g) {
  Counts& c = *machine.counts;
  const uint64_t bytes = static_cast<uint64_t>(__builtin_popcount(g.lanes)) * n.bytes;
  if (n.shared) {
    Shared& s = n.write ? c.shared_stores : c.shared_loads;
    s.accesses++;
    s.bytes += bytes;
    s.conflicts += conflicts(g, n.bytes);
  } else {
    Access& a = n.write ? c.stores : c.loads;
    a.accesses++;
    a.bytes += bytes;
    a.sectors += sectors(g, n.bytes);
  }
}

}  // namespace

void count_access(const void* address, size_t bytes, bool write, const void* pc, bool shared) {
  const Thread& t = current_thread();
  const int lane = lane_of(t);
  const Warp& w = warp_of(t);
  Table& table = tables[t.number / kWarp];
  Instruction& n = find(table, pc, bytes, write, shared);
  if (n.end == 0) table.touched.push_back(&n);
  const uint32_t time = n.times[lane]++;
  while (time - n.first >= n.ring.size()) grow(n);
  for (; n.end <= time; n.end++) at(n, n.end).lanes = 0;
  Gathered& g = at(n, time);
  g.lanes |= 1u << lane;
  g.address[lane] = reinterpret_cast<uintptr_t>(address);
  if (g.lanes == w.present) {
    count(n, g);
    g.lanes = 0;
    while (n.first != n.end && at(n, n.first).lanes == 0) n.first++;
  } else if (time - n.first >= kAhead - 1 && w.ready != 0) {
    let_others_run();
  }
}

void warp_converged(int warp) {
  if (!machine.checked) return;
  Table& table = tables[warp];
  for (Instruction* n : table.touched) {
    for (; n->first != n->end; n->first++)
      if (at(*n, n->first).lanes != 0) count(*n, at(*n, n->first));
    n->first = n->end = 0;
    std::fill(n->times, n->times + kWarp, 0u);
  }
  table.touched.clear();
}

Counts* counts_of(const std::string& kernel) {
  Counts& c = all()[bare_name(kernel)];
  if (c.kernel.empty()) c.kernel = bare_name(kernel);
  return &c;
}

Counts counts(const std::string& kernel) {
  const std::lock_guard hold(machine.running);
  const auto found = all().find(kernel);
  return found == all().end() ? Counts{} : found->second;
}

std::vector<Counts> all_counts() {
  const std::lock_guard hold(machine.running);
  std::vector<Counts> list;
  for (const auto& [name, c] : all()) list.push_back(c);
  return list;
}

void reset_counts() {
  const std::lock_guard hold(machine.running);
  for (auto& [name, c] : all()) {
    c = Counts{};
    c.kernel = name;
  }
}

std::string counts_json() {
  std::string text = "[";
  for (const Counts& c : all_counts()) {
    if (c.launches == 0) continue;
    const auto number = [&](const char* name, uint64_t v) {
      text += std::string("\"") + name + "\": " + std::to_string(v) + ", ";
    };
    const auto global = [&](const char* name, const Access& a) {
      text += std::string("\"") + name + "\": {\"accesses\": " + std::to_string(a.accesses) +
              ", \"bytes\": " + std::to_string(a.bytes) +
              ", \"sectors\": " + std::to_string(a.sectors) + "}, ";
    };
    const auto shared = [&](const char* name, const Shared& s) {
      text += std::string("\"") + name + "\": {\"accesses\": " + std::to_string(s.accesses) +
              ", \"bytes\": " + std::to_string(s.bytes) +
              ", \"conflicts\": " + std::to_string(s.conflicts) + "}, ";
    };
    text +=
        (text.size() > 1 ? ",\n  {" : "\n  {") + std::string("\"kernel\": \"") + c.kernel + "\", ";
    number("launches", c.launches);
    number("blocks", c.blocks);
    number("threads", c.threads);
    number("maxThreads", c.max_threads);
    number("maxSharedBytes", c.max_shared_bytes);
    global("loads", c.loads);
    global("stores", c.stores);
    shared("sharedLoads", c.shared_loads);
    shared("sharedStores", c.shared_stores);
    number("atomics", c.atomics);
    number("barriers", c.barriers);
    number("warpSyncs", c.warp_syncs);
    number("shuffles", c.shuffles);
    number("votes", c.votes);
    number("products", c.products);
    number("matrixLoads", c.matrix_loads);
    text.resize(text.size() - 2);
    text += "}";
  }
  return text + (text.size() > 1 ? "\n]" : "]");
}

}  // namespace simt
