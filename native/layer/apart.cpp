#include "layer/apart.h"

#include <algorithm>

#include "operations.h"

namespace ml {

namespace {

struct Placed {
  Memory memory;
  size_t position;
};

std::vector<Placed> by_address(const std::vector<Tensor>& tensors) {
  std::vector<Placed> placed(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) placed[i] = {Memory(tensors[i].view()), i};
  const auto before = [](const Placed& a, const Placed& b) {
    return a.memory.begin < b.memory.begin;
  };
  if (!std::is_sorted(placed.begin(), placed.end(), before))
    std::sort(placed.begin(), placed.end(), before);
  return placed;
}

}  // namespace

std::optional<std::pair<size_t, size_t>> find_overlap(const std::vector<Tensor>& tensors) {
  const std::vector<Placed> placed = by_address(tensors);
  // Sorted, an overlap of any two is an overlap of two neighbours.
  for (size_t i = 1; i < placed.size(); ++i)
    if (placed[i].memory.overlaps(placed[i - 1].memory))
      return std::minmax(placed[i - 1].position, placed[i].position);
  return std::nullopt;
}

std::vector<size_t> find_overwritten(const std::vector<Tensor>& targets,
                                     const std::vector<Tensor>& sources) {
  const std::vector<Placed> placed = by_address(targets);
  std::vector<uintptr_t> last_end;  // of the targets so far
  for (const Placed& p : placed)
    last_end.push_back(std::max(p.memory.end, last_end.empty() ? 0 : last_end.back()));
  std::vector<size_t> found;
  for (size_t i = 0; i < sources.size(); ++i) {
    const Memory source(sources[i].view());
    const auto overwrites = [&](const Placed& p) {
      return p.memory.overlaps(source) && !(p.position == i && p.memory == source);
    };
    const auto end = std::lower_bound(
        placed.begin(), placed.end(), source.end,
        [](const Placed& p, uintptr_t address) { return p.memory.begin < address; });
    for (auto p = end; p != placed.begin() && last_end[p - placed.begin() - 1] > source.begin; --p)
      if (overwrites(*(p - 1))) {
        found.push_back(i);
        break;
      }
  }
  return found;
}

}  // namespace ml
