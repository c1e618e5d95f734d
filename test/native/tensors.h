#pragma once
// Tensors of the native tests.

#include <vector>

#include "layer/run.h"
#include "require.h"

namespace ml {

inline Tensor random_normal(Device& device, const Shape& shape, uint64_t seed,
                            DType dtype = DType::f32) {
  Tensor t = empty(device, shape, dtype);
  run(device,
      RandomFill{.out = t.view(), .kind = RandomFill::Kind::normal, .a = 0, .b = 1, .seed = seed});
  return t;
}

template <class T>
Tensor from_host(Device& device, const Shape& shape, DType dtype, const std::vector<T>& values) {
  Tensor t = empty(device, shape, dtype);
  device.stream().write(t.view().data, values.data(), values.size() * sizeof(T), t.storage->idle());
  return t;
}

inline void wait(Device& device) { require(!device.stream().wait(), "no fault"); }

}  // namespace ml
