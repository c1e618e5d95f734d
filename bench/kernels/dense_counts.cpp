// Counts of the dense operations: products, rows, softmax and cross entropy, attention.

#include "counts.h"

namespace ml {
namespace {

// Floor: every matrix once. Each tile of C, of 64 or 128 rows and columns, reads its rows of A and
// its columns of B again, all but the first time from L2.
void products(DType dtype, int64_t R, int64_t I, int64_t O, Compute compute = Compute::float32) {
  const int64_t width = bytes_of(dtype);
  const Tensor x = normal({R, I}, dtype), w = normal({O, I}, dtype), b = normal({O}),
               y = empty(*device, {R, O}), dw = zeros(*device, {O, I}), db = zeros(*device, {O}),
               dx = empty(*device, {R, I});
  const bool rounded = compute == Compute::bfloat16;
  const std::string label = std::string(" ") + name_of(dtype) +
                            (rounded ? " in bfloat16, " : ", ") + std::to_string(R) + " x " +
                            std::to_string(I) + " -> " + std::to_string(O);
  count(
      "linear" + label, (R * I + O * I) * width + (O + R * O) * 4,
      Linear{
          .y = y.view(), .x = x.view(), .weight = w.view(), .bias = b.view(), .compute = compute});
  if (R <= 16) return;  // of few rows only the forward has a schedule of its own
  count("linear_backward" + label,
        (R * I + O * I) * width + (R * I + 2 * O * I + R * O + 2 * O) * 4,
        LinearBackward{.dx = dx.view(),
                       .dweight = dw.view(),
                       .dbias = db.view(),
                       .dy = y.view(),
                       .x = x.view(),
                       .weight = w.view(),
                       .accumulate_dx = false,
                       .compute = compute});
}

void rows() {
  const int64_t T = 32, C = 1024, bytes = T * C * 4;
  const Tensor x = normal({T, C}), y = normal({T, C}), out = empty(*device, {T, C}),
               other = empty(*device, {T, C});
  count("copy", 2 * bytes, Copy{.out = out.view(), .in = x.view()});
  count("arithmetic", 3 * bytes, Arithmetic{.out = out.view(), .x = x.view(), .y = y.view()});
  count("activate", 2 * bytes, Activate{.y = out.view(), .x = x.view(), .kind = Activation::gelu});
  count("random_fill", bytes,
        RandomFill{.out = out.view(), .kind = RandomFill::Kind::normal, .a = 0, .b = 1, .seed = 1});
  count("silu_gate", 3 * bytes, SiluGate{.z = out.view(), .y = x.view(), .a = y.view()});
  count("silu_gate_backward", 5 * bytes,
        SiluGateBackward{
            .dy = out.view(), .da = other.view(), .dz = x.view(), .y = y.view(), .a = x.view()});
  const Tensor g = normal({T, 1}), dg = empty(*device, {T, 1});
  count("sigmoid_gate", 2 * bytes + T * 4,
        SigmoidGate{.out = out.view(), .y = x.view(), .g = g.view()});
  count("sigmoid_gate_backward", 3 * bytes + T * 8,
        SigmoidGateBackward{
            .dy = other.view(), .dg = dg.view(), .dout = out.view(), .y = x.view(), .g = g.view()});
  const Tensor gain = normal({C}), dgain = zeros(*device, {C}), norm = empty(*device, {1}),
               sum = zeros(*device, {2}, DType::i32);
  count("rms_norm_backward with gain", 3 * bytes + C * 12,
        RmsNormBackward{.dx = out.view(),
                        .dgain = dgain.view(),
                        .dy = y.view(),
                        .x = x.view(),
                        .gain = gain.view()});
  count("sum_squares", bytes, SumSquares{.sum = sum.view(), .xs = {x.view()}});
  count("clip_scale", 2 * bytes,
        ClipScale{.norm = norm.view(), .sum = sum.view(), .xs = {out.view()}, .max_norm = 1});
  const int64_t k = 32;
  const Tensor best = empty(*device, {T, k}), indices = empty(*device, {T, k}, DType::i32);
  count("topk", bytes + T * k * 8,
        TopK{.values = best.view(), .indices = indices.view(), .x = x.view(), .k = k});
  count("rms_norm", 2 * bytes, RmsNorm{.y = out.view(), .x = x.view()});
  count("rms_norm_backward", 3 * bytes,
        RmsNormBackward{.dx = out.view(), .dy = y.view(), .x = x.view()});
}

// Floor: x and the outputs once.
void axes() {
  const int64_t T = 512, C = 128, bytes = T * C * 4;
  const Tensor x = normal({T, C}), row = normal({C}), column = normal({T, 1}),
               out = empty(*device, {T, C});
  const auto multiply = [&](const std::string& name, const Tensor& y) {
    count("arithmetic, " + name, 2 * bytes + y.bytes(),
          Arithmetic{.out = out.view(), .x = x.view(), .y = y.view(), .kind = ArithmeticKind::mul});
  };
  multiply("a row", row);
  multiply("a column", column);
  count("unary", 2 * bytes, Unary{.y = out.view(), .x = x.view(), .kind = UnaryKind::tanh});
  for (const auto& [name, set] :
       {std::pair<const char*, AxisSet>{"rows", 0b10}, {"columns", 0b01}, {"all", 0b11}}) {
    const Shape shape = reduced_shape(x.shape, set, false);
    const Tensor y = empty(*device, shape), dy = normal(shape);
    const std::string label = std::string(" ") + name;
    count("reduce" + label, bytes + y.bytes(),
          Reduce{.y = y.view(), .x = x.view(), .axes = set, .kind = ReduceKind::max});
    count("sum_backward" + label, bytes + y.bytes(),
          SumBackward{.dx = out.view(), .dy = dy.view(), .shape = x.shape, .axes = set});
    count(
        "max_backward" + label, 2 * bytes + 2 * y.bytes(),
        MaxBackward{.dx = out.view(), .dy = dy.view(), .x = x.view(), .y = y.view(), .axes = set});
  }
}

// As products.
void matrix_products(DType dtype) {
  const int64_t B = 2, M = 128, N = 128, K = 256, width = bytes_of(dtype);
  const Tensor x = normal({B, M, K}, dtype), y = normal({B, K, N}, dtype),
               out = empty(*device, {B, M, N}), dx = empty(*device, {B, M, K}),
               dy = empty(*device, {B, K, N});
  const std::string label = std::string(" ") + name_of(dtype);
  const int64_t operands = B * (M * K + K * N), product = B * M * N * 4;
  count("matmul" + label, operands * width + product,
        MatMul{.out = out.view(), .x = x.view(), .y = y.view()});
  count("matmul_backward" + label, operands * (width + 4) + product,
        MatMulBackward{
            .dx = dx.view(), .dy = dy.view(), .dout = out.view(), .x = x.view(), .y = y.view()});
}

void probabilities(int64_t rows, int64_t n, const std::string& label) {
  const int64_t bytes = rows * n * 4;
  const Tensor logits = normal({rows, n}), p = empty(*device, {rows, n}), dp = normal({rows, n}),
               targets = integers({rows}, n), loss = empty(*device, {rows});
  count("softmax" + label, 2 * bytes, Softmax{.y = p.view(), .x = logits.view()});
  count("softmax_backward" + label, 3 * bytes,
        SoftmaxBackward{.dx = logits.view(), .dy = dp.view(), .y = p.view()});
  count("cross_entropy" + label, bytes + rows * 8,
        CrossEntropy{.loss = loss.view(), .logits = logits.view(), .targets = targets.view()});
  count("cross_entropy_backward" + label, 2 * bytes + rows * 8,
        CrossEntropyBackward{.dlogits = p.view(),
                             .dloss = loss.view(),
                             .logits = logits.view(),
                             .targets = targets.view()});
}

// Floor: every operand once. Each tile of queries reads all keys before it again, so the ratio
// grows with T.
void attentions() {
  const int64_t T = 64, H = 2, d = 64, bytes = T * H * d * 4;
  const Shape shape{1, T, H, d};
  const Tensor q = normal(shape), k = normal(shape), v = normal(shape), y = empty(*device, shape),
               lse = empty(*device, {1, H, T});
  count("attention 64 x 64", 4 * bytes + T * H * 4,
        Attention{.y = y.view(),
                  .lse = lse.view(),
                  .q = q.view(),
                  .k = k.view(),
                  .v = v.view(),
                  .scale = 0.125f,
                  .causal = true});
  const Tensor dy = normal(shape), dq = empty(*device, shape), dk = empty(*device, shape),
               dv = empty(*device, shape);
  count("attention_backward 64 x 64", 8 * bytes + T * H * 4,
        AttentionBackward{.dq = dq.view(),
                          .dk = dk.view(),
                          .dv = dv.view(),
                          .dy = dy.view(),
                          .y = y.view(),
                          .lse = lse.view(),
                          .q = q.view(),
                          .k = k.view(),
                          .v = v.view(),
                          .scale = 0.125f,
                          .causal = true});
}

}  // namespace

void dense_counts() {
  for (DType dtype : {DType::f32, DType::bf16}) {
    products(dtype, 128, 256, 256);
    products(dtype, 127, 254, 253);
    if (dtype == DType::f32) {
      products(dtype, 128, 256, 256, Compute::bfloat16);
      products(dtype, 127, 254, 253, Compute::bfloat16);
    }
    matrix_products(dtype);
    for (const int64_t R : {1, 16}) products(dtype, R, 512, 512);
  }
  products(DType::f32, 1, 512, 512, Compute::bfloat16);
  rows();
  axes();
  probabilities(32, 1024, "");
  // a block has one row, or reads it in chunks
  for (const int64_t n : {8192, 32000, 50000}) probabilities(2, n, " " + std::to_string(n));
  attentions();
}

}  // namespace ml
