#pragma once
// Products of matrices, the last two axes, for each index of the axes before them (the batch),
// which are broadcast as in NumPy. X is x, or its transpose with `transpose_x`; Y likewise.
//   MatMul           out = X Y
//   MatMulBackward   dX = dout Y^T,   dY = X^T dout, summed over the axes that were broadcast
//     x       [..., M, K]   float32 | float16 | bfloat16  in, [..., K, M] if transposed
//     y       [..., K, N]   as x                          in, [..., N, K] if transposed
//     out     [..., M, N]   float32  out
//     dout    [..., M, N]   float32  in
//     dx, dy  [as x, y]     float32  out, optional
// Sums are float32. Each output element is summed in one fixed order: the bits do not depend on
// threads. `compute` bfloat16 rounds x, y and dout for their products, and y may then have a float
// dtype of its own.

#include "core/axes.h"
#include "core/compute.h"
#include "ops/operands.h"

namespace ml {

struct MatMul {
  View out, x, y;
  bool transpose_x = false, transpose_y = false;
  Compute compute = Compute::float32;
};

struct MatMulBackward {
  View dx, dy, dout, x, y;
  bool transpose_x = false, transpose_y = false;
  Compute compute = Compute::float32;
};

// A matrix in memory: `rows` or columns are contiguous, and the others are `stride` elements apart.
struct MatrixLayout {
  int64_t stride;
  bool rows;

  int64_t row_stride() const { return rows ? stride : 1; }
  int64_t column_stride() const { return rows ? 1 : stride; }
  MatrixLayout transposed() const { return {stride, !rows}; }
};

// C[M, N] = A[M, K] B[K, N] for each index of `kept`, summed over those of `summed`.
struct MatrixProducts {
  int64_t M, N, K;
  MatrixLayout a, b;  // C's rows are contiguous and one after another
  Loops<3> kept;      // elements of C, A and B
  Loops<2> summed;    // of A and B

  // Axes that continue the rows of A and C, or the inner dimension of A and B, become part of it.
  void merge_axes() {
    for (; kept.rank > 0; --kept.rank) {
      const int last = kept.rank - 1;
      if (kept.stride[2][last] != 0 || kept.stride[1][last] != M * a.row_stride() ||
          kept.stride[0][last] != M * N)
        break;
      M *= kept.size[last];
    }
    for (; summed.rank > 0; --summed.rank) {
      const int last = summed.rank - 1;
      if (summed.stride[0][last] != K * a.column_stride() ||
          summed.stride[1][last] != K * b.row_stride())
        break;
      K *= summed.size[last];
    }
    if (summed.count() > 0) return;
    K = 0;  // a sum of none
    summed.rank = 0;
  }
};

// The sizes of a call.
struct MatMulShape {
  int64_t M, N, K;
  Shape batch_x, batch_y, batch;  // of x, y and out

  Shape out() const {
    Shape s = batch;
    s.rank += 2;
    s.dims[s.rank - 2] = M;
    s.dims[s.rank - 1] = N;
    return s;
  }
};

// Checks x and y.
template <class Args>
MatMulShape matmul_shape(const char* op, const Args& a) {
  const View &x = a.x, &y = a.y;
  const bool transpose_x = a.transpose_x, transpose_y = a.transpose_y;
  const auto expect_matrix = [&](const char* arg, const View& v) {
    expect(v.shape.rank >= 2, Code::shape, op, arg, "have at least two axes", to_string(v.shape),
           "Reshape a vector to a matrix of one row or one column.");
  };
  expect_matrix("x", x);
  expect_matrix("y", y);
  expect_float(op, "x", x);
  expect_second_operand(op, "y", y, x.dtype, a.compute);
  const auto batch_of = [](const View& v) {
    Shape s = v.shape;
    s.rank -= 2;
    return s;
  };
  MatMulShape s{.M = x.dim(transpose_x ? -1 : -2),
                .N = y.dim(transpose_y ? -2 : -1),
                .K = x.dim(transpose_x ? -2 : -1),
                .batch_x = batch_of(x),
                .batch_y = batch_of(y),
                .batch = {}};
  const int axis = transpose_y ? -1 : -2;
  expect(y.dim(axis) == s.K, Code::shape, op, "y",
         "have size " + std::to_string(s.K) + " in axis " + std::to_string(axis) +
             ", which is multiplied with axis " + std::to_string(transpose_x ? -2 : -1) + " of x " +
             to_string(x.shape),
         to_string(y.shape));
  s.batch = broadcast(op, "y", s.batch_x, s.batch_y);
  return s;
}

// One factor of the products: its matrices lie one after another.
struct MatrixFactor {
  MatrixLayout layout;
  Shape batch;
  int64_t size;  // elements of a matrix

  MatrixFactor transposed() const { return {layout.transposed(), batch, size}; }
};

// C, of the axes `own`, is M by N. Axes of the batch that it lacks are summed over.
inline MatrixProducts products_of(const Shape& batch, const Shape& own, int64_t M, int64_t N,
                                  int64_t K, const MatrixFactor& a, const MatrixFactor& b) {
  MatrixProducts p{.M = M, .N = N, .K = K, .a = a.layout, .b = b.layout, .kept = {}, .summed = {}};
  for (int i = 0; i < batch.rank; ++i) {
    const int64_t step_a = broadcast_stride(a.batch, batch.rank, i, a.size),
                  step_b = broadcast_stride(b.batch, batch.rank, i, b.size);
    if (is_broadcast(own, batch.rank, i))
      p.summed.add(batch.dims[i], {step_a, step_b});
    else
      p.kept.add(batch.dims[i], {broadcast_stride(own, batch.rank, i, M * N), step_a, step_b});
  }
  p.merge_axes();
  return p;
}

inline MatrixProducts products_of(const MatMul& a) {
  const MatMulShape s = matmul_shape("matmul", a);
  return products_of(s.batch, s.batch, s.M, s.N, s.K,
                     {{a.x.dim(-1), !a.transpose_x}, s.batch_x, s.M * s.K},
                     {{a.y.dim(-1), !a.transpose_y}, s.batch_y, s.K * s.N});
}

// The products of a gradient, of x or of y. It lies in memory as the operand does: where that is
// transposed, C is the gradient's transpose.
struct GradientProducts {
  MatrixProducts products;
  bool dout_first;  // A is dout and B the other operand, else the other way
};

inline GradientProducts gradient_products(const MatMulBackward& a, bool of_x) {
  const MatMulShape s = matmul_shape("matmulBackward", a);
  const MatrixFactor x{{a.x.dim(-1), !a.transpose_x}, s.batch_x, s.M * s.K},
      y{{a.y.dim(-1), !a.transpose_y}, s.batch_y, s.K * s.N}, dout{{s.N, true}, s.batch, s.M * s.N};
  if (of_x) {
    const MatrixProducts p =
        a.transpose_x ? products_of(s.batch, s.batch_x, s.K, s.M, s.N, y, dout.transposed())
                      : products_of(s.batch, s.batch_x, s.M, s.K, s.N, dout, y.transposed());
    return {p, !a.transpose_x};
  }
  const MatrixProducts p =
      a.transpose_y ? products_of(s.batch, s.batch_y, s.N, s.K, s.M, dout.transposed(), x)
                    : products_of(s.batch, s.batch_y, s.K, s.N, s.M, x.transposed(), dout);
  return {p, a.transpose_y};
}

template <class Input>
constexpr void inputs(const MatMul& a, Input&& input) {
  input("x", a.x);
  input("y", a.y);
}

inline Outputs<MatMul, 1> outputs(const MatMul& a) {
  const MatMulShape s = matmul_shape("matmul", a);
  return {"matmul", {{&MatMul::out, "out", s.out()}}};
}

template <class Input>
constexpr void inputs(const MatMulBackward& a, Input&& input) {
  input("dOut", a.dout);
  input("x", a.x);
  input("y", a.y);
}

inline Outputs<MatMulBackward, 2> outputs(const MatMulBackward& a) {
  const char* op = "matmulBackward";
  const MatMulShape s = matmul_shape(op, a);
  expect_float32(op, "dOut", a.dout, s.out());
  return {op,
          {{.view = &MatMulBackward::dx, .name = "out.dx", .shape = a.x.shape, .optional = true},
           {.view = &MatMulBackward::dy, .name = "out.dy", .shape = a.y.shape, .optional = true}}};
}

}  // namespace ml
