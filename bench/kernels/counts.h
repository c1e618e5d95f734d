#pragma once
// What the cases of the kernels' counts share.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "cuda/backend.h"
#include "layer/run.h"
#include "simt/control.h"

namespace ml {

inline std::shared_ptr<Device> device;
inline bool first_case = true;

inline void wait() {
  device->stream().wait();
  const FaultPtr fault = device->stream().report_fault(device->stream().submitted());
  if (!fault) return;
  std::fprintf(stderr, "%s\n", fault->error.what());
  std::exit(1);
}

inline Tensor normal(const Shape& shape, DType dtype = DType::f32, uint64_t seed = 1) {
  Tensor t = empty(*device, shape, dtype);
  run(*device,
      RandomFill{.out = t.view(), .kind = RandomFill::Kind::normal, .a = 0, .b = 1, .seed = seed});
  return t;
}

inline Tensor integers(const Shape& shape, int64_t below) {
  std::vector<int32_t> values(static_cast<size_t>(shape.size()));
  uint64_t state = 1;
  for (int32_t& v : values)
    v = static_cast<int32_t>(((state = state * 6364136223846793005u + 1442695040888963407u) >> 33) %
                             static_cast<uint64_t>(below));
  Tensor t = empty(*device, shape, DType::i32);
  write(t.view(), values.data(), true);
  return t;
}

// Prints what one operation does. `floor`: the bytes that no schedule can do without.
template <class Args>
void count(const std::string& name, int64_t floor, const Args& args) {
  wait();
  ::simt::reset_counts();
  run(*device, args);
  wait();
  std::printf("%s\n  {\"name\": \"%s\", \"floor\": %lld, \"kernels\": %s}", first_case ? "" : ",",
              name.c_str(), static_cast<long long>(floor), ::simt::counts_json().c_str());
  first_case = false;
}

// Cases of the dense operations (dense_counts.cpp).
void dense_counts();
// Cases of what models of sequences need (sequence_counts.cpp).
void sequence_counts();
// Cases of experts and of what stands around a step (training_counts.cpp).
void training_counts();
// What a training step asks of the CUDA runtime (call_counts.cpp).
void call_counts();

}  // namespace ml
