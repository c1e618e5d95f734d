#pragma once
// Checks whose errors name the operation, the argument, what it must be and what it is.

#include <string>

#include "core/error.h"
#include "core/view.h"

namespace ml {

// embeddingBag: "weights" must have shape [4, 32], got [4, 31].
//   hint, on a line of its own
[[noreturn]] inline void fail(Code code, const char* op, const char* arg, const std::string& wanted,
                              const std::string& got, const std::string& hint = "") {
  const std::string sentence =
      std::string(op) + ": \"" + arg + "\" must " + wanted + ", got " + got + ".";
  throw Error(code, sentence + (hint.empty() ? "" : "\n  " + hint));
}

inline void expect_shape(const char* op, const char* arg, const View& v, const Shape& wanted) {
  if (!(v.shape == wanted))
    fail(Code::shape, op, arg, "have shape " + to_string(wanted), to_string(v.shape));
}

// For tensors that are made.
inline void expect_valid(const char* op, const char* arg, const Shape& shape) {
  if (!is_valid(shape))
    fail(Code::shape, op, arg, "have at most 2^50 elements, sizes of 0 counted as 1",
         to_string(shape));
}

// For shapes with free sizes: `wanted` names them, e.g. "[tokens, heads, 2, d]".
inline void expect_rank(const char* op, const char* arg, const View& v, int rank,
                        const char* wanted) {
  if (v.shape.rank != rank)
    fail(Code::shape, op, arg, std::string("have shape ") + wanted, to_string(v.shape));
}

inline void expect_dtype(const char* op, const char* arg, const View& v, DType wanted) {
  if (v.dtype != wanted)
    fail(Code::dtype, op, arg, std::string("be ") + name_of(wanted), name_of(v.dtype));
}

inline void expect_float(const char* op, const char* arg, const View& v) {
  if (v.dtype != DType::f32 && v.dtype != DType::f16 && v.dtype != DType::bf16)
    fail(Code::dtype, op, arg, "be float32, float16 or bfloat16", name_of(v.dtype));
}

inline void expect(bool ok, Code code, const char* op, const char* arg, const std::string& wanted,
                   const std::string& got, const std::string& hint = "") {
  if (!ok) fail(code, op, arg, wanted, got, hint);
}

// Tensors of one dtype and shape.
inline void expect_same(const char* op, const char* arg, const View& v, const View& like) {
  expect_dtype(op, arg, v, like.dtype);
  expect_shape(op, arg, v, like.shape);
}

inline void expect_float32(const char* op, const char* arg, const View& v, const Shape& shape) {
  expect_dtype(op, arg, v, DType::f32);
  expect_shape(op, arg, v, shape);
}

}  // namespace ml
