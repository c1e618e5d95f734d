#pragma once
// Tensors that are written one after another, by an optimizer or a clipping, share no memory: else
// the second write would depend on the first.

#include <optional>
#include <utility>
#include <vector>

#include "device/device.h"

namespace ml {

// Two of the tensors, by position, that share memory.
std::optional<std::pair<size_t, size_t>> find_overlap(const std::vector<Tensor>& tensors);

}  // namespace ml
