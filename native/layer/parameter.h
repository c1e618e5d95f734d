#pragma once
// Dense parameters of a layer, by their published names, with gradients that add up until zeroGrad.

#include <string>

#include "layer/run.h"

namespace ml {

struct Parameter {
  std::string name;
  Tensor value, grad;

  explicit operator bool() const { return static_cast<bool>(value); }
};

// Makes the parameters of a layer one after another from one seed, so that their numbers depend on
// the layer's options alone.
class Initializer {
 public:
  Initializer(Device& device, uint64_t seed) : device_(device), seed_(seed) {}

  // uniform in [-bound, bound)
  Parameter uniform(std::string name, const Shape& shape, float bound) {
    Parameter p{std::move(name), empty(device_, shape), zeros(device_, shape)};
    // Odd multiples keep the seeds of neighbouring parameters and neighbouring layers apart.
    const uint64_t seed = seed_ * 0x9e3779b97f4a7c15ull + ++count_;
    run(device_, RandomFill{.out = p.value.view(), .a = -bound, .b = bound, .seed = seed});
    return p;
  }
  Parameter constant(std::string name, const Shape& shape, double value) {
    Parameter p{std::move(name), empty(device_, shape), zeros(device_, shape)};
    fill(p.value, value);
    return p;
  }

 private:
  Device& device_;
  uint64_t seed_;
  uint64_t count_ = 0;  // uniform parameters so far
};

}  // namespace ml
