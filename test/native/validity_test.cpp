// Validity beside an outcome for each byte: what bytes depend on after any overwrites, and that
// these take no memory after reserve().

#include "device/validity.h"

#include <algorithm>
#include <new>
#include <random>
#include <set>
#include <vector>

#include "device/work.h"
#include "require.h"

using namespace ml;

namespace {

bool out_of_memory = false;

constexpr int64_t kBytes = 24;

std::set<const Outcome*> needs_of(Validity& validity, int64_t begin, int64_t end) {
  Needs needs;
  validity.collect(begin, end, needs);
  std::set<const Outcome*> found;
  needs.each([&](const OutcomePtr& outcome) { found.insert(outcome.get()); });
  return found;
}

std::set<const Outcome*> pending_of(const std::vector<OutcomePtr>& bytes, int64_t begin,
                                    int64_t end) {
  std::set<const Outcome*> found;
  for (int64_t i = begin; i < end; ++i)
    if (bytes[i] && !bytes[i]->passed()) found.insert(bytes[i].get());
  return found;
}

void random_overwrites(uint32_t seed) {
  WorkMemory memory;
  std::minstd_rand random(seed);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % n); };
  Validity validity;
  std::vector<OutcomePtr> bytes(kBytes), pending;
  for (int step = 0; step < 60; ++step) {
    // an operation with one to four outputs that share nothing, or one that is the whole
    std::vector<int64_t> cuts{0, kBytes};
    if (below(4) > 0)
      for (int64_t i = below(7); i >= 0; --i) cuts.push_back(below(kBytes + 1));
    std::sort(cuts.begin(), cuts.end());
    pending.push_back(memory.new_outcome());
    if (cuts.size() > 2) validity.reserve();
    out_of_memory = true;
    for (size_t i = 0, outputs = 0; i + 1 < cuts.size() && outputs < 4; i += 1 + below(2)) {
      if (cuts.size() > 2 && below(2) == 0) continue;
      ++outputs;
      validity.overwrite(cuts[i], cuts[i + 1], pending.back());
      std::fill(bytes.begin() + cuts[i], bytes.begin() + cuts[i + 1], pending.back());
    }
    out_of_memory = false;
    if (below(3) == 0) {
      const size_t i = static_cast<size_t>(below(static_cast<int64_t>(pending.size())));
      pending[i]->settle(nullptr);
    }
    for (int read = 0; read < 4; ++read) {
      const int64_t begin = below(kBytes), end = begin + below(kBytes - begin + 1);
      require(needs_of(validity, begin, end) == pending_of(bytes, begin, end),
              "bytes depend on the work that wrote them last, until it has passed");
    }
  }
}

}  // namespace

// Overwrites must allocate nothing.
void* operator new(size_t bytes) {
  if (out_of_memory) throw std::bad_alloc();
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

int main() {
  for (uint32_t seed = 1; seed <= 2000; ++seed) random_overwrites(seed);
  report();
}
