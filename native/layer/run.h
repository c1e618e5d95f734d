#pragma once
// The one way to do an operation: check the contract, then hand it to the device's backend.

#include "device/device.h"
#include "ops/ops.h"

namespace ml {

template <class Args>
void run(Device& device, Slot<Args> Operations::* slot, const Args& args) {
  check(args);
  (device.operations.*slot)(device.stream(), args);
}

inline void fill(const Tensor& t, double value) {
  run(t.device(), &Operations::fill, Fill{t.view(), value});
}

inline Tensor zeros(Device& device, const Shape& shape, DType dtype = DType::f32) {
  Tensor t = empty(device, shape, dtype);
  fill(t, 0);
  return t;
}

}  // namespace ml
