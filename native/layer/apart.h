#pragma once
// Tensors that are written one after another, by an optimizer, a clipping or the loading of a
// state, share no memory: else the second write would depend on the first.

#include <optional>
#include <utility>
#include <vector>

#include "device/device.h"

namespace ml {

// Two of the tensors, by position, that share memory.
std::optional<std::pair<size_t, size_t>> find_overlap(const std::vector<Tensor>& tensors);

// Positions of the sources that share memory with a target, unless that is exactly the target of
// the same position: what is copied to one target would change them.
std::vector<size_t> find_overwritten(const std::vector<Tensor>& targets,
                                     const std::vector<Tensor>& sources);

}  // namespace ml
