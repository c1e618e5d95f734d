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
  write(t.view(), values.data(), true);
  return t;
}

// The earliest fault of all work so far that was not reported.
inline FaultPtr fault_of(Device& device) {
  device.stream().wait();
  return device.stream().report_fault(device.stream().submitted());
}

inline void wait(Device& device) { require(!fault_of(device), "no fault"); }

// The fault for which a tensor is void, or nullptr; what it holds goes to `host`.
inline FaultPtr read_now(const Tensor& t, void* host) {
  FaultPtr fault;
  read(host, t.view(), [&fault](const FaultPtr& f) { fault = f; });
  t.device().stream().wait();
  if (fault) fault->report();
  return fault;
}

}  // namespace ml
