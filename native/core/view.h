#pragma once
// A view: a pointer, an element type and a shape, without ownership; dense and row-major. Kernels
// see nothing else of a tensor.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/dtype.h"
#include "core/half.h"

namespace ml {

inline constexpr int kMaxRank = 6;

struct Shape {
  int rank = 0;
  std::array<int64_t, kMaxRank> dims{};

  Shape() = default;
  Shape(std::initializer_list<int64_t> list) : rank(static_cast<int>(list.size())) {
    int i = 0;
    for (int64_t d : list) dims[i++] = d;
  }
  int64_t operator[](int i) const { return dims[i < 0 ? rank + i : i]; }
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[i];
    return n;
  }
  bool operator==(const Shape& o) const {
    if (rank != o.rank) return false;
    for (int i = 0; i < rank; ++i)
      if (dims[i] != o.dims[i]) return false;
    return true;
  }
};

// Elements of a tensor, at most, with sizes of 0 counted as 1: so no product of its sizes
// overflows, nor do bytes or offsets, and a loop over one axis ends.
inline constexpr int64_t kMaxElements = int64_t{1} << 50;

constexpr bool is_valid(const Shape& s) {
  int64_t n = 1;
  for (int i = 0; i < s.rank; ++i) {
    const int64_t size = s.dims[i] == 0 ? 1 : s.dims[i];
    if (size < 0 || __builtin_mul_overflow(n, size, &n) || n > kMaxElements) return false;
  }
  return true;
}

inline std::string to_string(const Shape& s) {
  std::string out = "[";
  for (int i = 0; i < s.rank; ++i) out += (i ? ", " : "") + std::to_string(s.dims[i]);
  return out + "]";
}

class Storage;  // device/device.h

struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  bool given = false;  // false: the optional argument was left out
  Shape shape;
  Storage* storage = nullptr;  // whose memory it is, for the bookkeeping around an operation

  explicit operator bool() const { return given; }
  int64_t dim(int i) const { return shape[i]; }  // negative: from the end
  int64_t size() const { return shape.size(); }
  int64_t bytes() const { return size() * bytes_of(dtype); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// Calls f with a value of the C++ type that stores `dtype`: f(float{}), f(Half{}), f(BFloat16{}).
// Returns false for any other dtype.
template <class F>
bool dispatch_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: f(float{}); return true;
    case DType::f16: f(Half{}); return true;
    case DType::bf16: f(BFloat16{}); return true;
    default: return false;
  }
}

}  // namespace ml
