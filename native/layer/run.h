#pragma once
// The one way to do an operation: check the contract, then hand it to the device's backend.

#include "device/device.h"
#include "operations.h"

namespace ml {

template <class Args>
void run(Device& device, const Args& args) {
  check(args);
  device.operations.of(args)(device.stream(), args);
}

inline void fill(const Tensor& t, double value) { run(t.device(), Fill{t.view(), value}); }

inline Tensor zeros(Device& device, const Shape& shape, DType dtype = DType::f32) {
  Tensor t = empty(device, shape, dtype);
  fill(t, 0);
  return t;
}

}  // namespace ml
