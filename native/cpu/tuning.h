#pragma once
// The CPU's constants: block sizes, grains and thresholds, each with what chose it. Numbers that
// follow from the arithmetic stand where they are used.

#include <cstdint>

namespace ml::cpu {

// ---- Machinery (cpu/)

// ---- Operations (ops/, optim/)

}  // namespace ml::cpu
