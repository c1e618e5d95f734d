#include "layer/apart.h"

#include <algorithm>

#include "operations.h"

namespace ml {

std::optional<std::pair<size_t, size_t>> find_overlap(const std::vector<Tensor>& tensors) {
  struct Placed {
    Memory memory;
    size_t position;
  };
  std::vector<Placed> placed(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) placed[i] = {Memory(tensors[i].view()), i};
  const auto by_address = [](const Placed& a, const Placed& b) {
    return a.memory.begin < b.memory.begin;
  };
  if (!std::is_sorted(placed.begin(), placed.end(), by_address))
    std::sort(placed.begin(), placed.end(), by_address);
  // Sorted, an overlap of any two is an overlap of two neighbours.
  for (size_t i = 1; i < placed.size(); ++i)
    if (placed[i].memory.overlaps(placed[i - 1].memory))
      return std::minmax(placed[i - 1].position, placed[i].position);
  return std::nullopt;
}

}  // namespace ml
