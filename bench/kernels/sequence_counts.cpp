// Counts of rotary positions, rows of tokens, layer norm, convolution over time, dropout, samples
// and copies of boxes.

#include "counts.h"

namespace ml {
namespace {

void rotations() {
  const Shape shape{1, 64, 8, 64};
  const Tensor x = normal(shape), y = empty(*device, shape);
  count("rope 8 heads of 64", 2 * x.bytes() + 32 * 8, Rope{.out = y.view(), .x = x.view()});
}

void embeddings(DType dtype, int64_t V) {
  const int64_t T = 128;
  const Tensor table = normal({1000, V}, dtype), indices = integers({T}, 1000),
               y = empty(*device, {T, V});
  count(std::string("embedding ") + name_of(dtype) + ", dim " + std::to_string(V),
        T * (4 + V * (bytes_of(dtype) + 4)),
        Embedding{.y = y.view(), .table = table.view(), .indices = indices.view()});
}

// Floor, backward: x and dy once, dx, and the parameters' gradients read and written.
void norms() {
  const int64_t T = 32, C = 1024, bytes = T * C * 4;
  const Tensor x = normal({T, C}), dy = normal({T, C}), y = empty(*device, {T, C}),
               weight = normal({C}), bias = normal({C}), dweight = zeros(*device, {C}),
               dbias = zeros(*device, {C});
  count("layer_norm", 2 * bytes + C * 8,
        LayerNorm{.y = y.view(), .x = x.view(), .weight = weight.view(), .bias = bias.view()});
  count("layer_norm_backward", 3 * bytes + C * 20,
        LayerNormBackward{.dx = y.view(),
                          .dweight = dweight.view(),
                          .dbias = dbias.view(),
                          .dy = dy.view(),
                          .x = x.view(),
                          .weight = weight.view()});
}

void convolutions() {
  const int64_t T = 256, C = 64, width = 4, bytes = T * C * 4, parameters = C * (width + 1) * 4;
  const Tensor x = normal({1, T, C}), dy = normal({1, T, C}), y = empty(*device, {1, T, C}),
               weight = normal({C, width}), bias = normal({C}),
               dweight = zeros(*device, {C, width}), dbias = zeros(*device, {C});
  count("causal_conv1d width 4", 2 * bytes + parameters,
        CausalConv1d{.y = y.view(), .x = x.view(), .weight = weight.view(), .bias = bias.view()});
  count("causal_conv1d_backward width 4", 3 * bytes + 3 * parameters,
        CausalConv1dBackward{.dx = y.view(),
                             .dweight = dweight.view(),
                             .dbias = dbias.view(),
                             .dy = dy.view(),
                             .x = x.view(),
                             .weight = weight.view()});
}

// Floor: the logits once.
void samples() {
  const int64_t rows = 4, n = 4096;
  const Tensor logits = normal({rows, n}), out = empty(*device, {rows, 1}, DType::i32);
  Multinomial args{.out = out.view(), .logits = logits.view(), .temperature = 0};
  count("multinomial greedy", logits.bytes() + rows * 4, args);
  args.temperature = 1;
  count("multinomial", logits.bytes() + rows * 4, args);
  args.top_k = 50;
  args.top_p = 0.9f;
  count("multinomial top 50", logits.bytes() + rows * 4, args);
}

void boxes() {
  const Tensor x = normal({4, 64, 8, 64}), y = empty(*device, {4, 8, 64, 64}),
               turned = empty(*device, {4, 64, 64, 8}), half = empty(*device, {4, 64, 4, 64}),
               twice = empty(*device, {4, 64, 8, 128});
  const int64_t bytes = x.bytes();
  count("dropout", 2 * bytes, Dropout{.out = twice.reshaped(x.shape).view(), .x = x.view()});
  count("permute of heads and time", 2 * bytes,
        Permute{.out = y.view(), .x = x.view(), .axes = {0, 2, 1, 3}});
  count("permute of the last axes", 2 * bytes,
        Permute{.out = turned.view(), .x = x.view(), .axes = {0, 1, 3, 2}});
  const Tensor tall = normal({512, 256}, DType::bf16),
               wide = empty(*device, {256, 512}, DType::bf16);
  count("permute of a bfloat16 matrix", 2 * tall.bytes(),
        Permute{.out = wide.view(), .x = tall.view(), .axes = {1, 0}});
  count("concat of the last axis", 4 * bytes,
        Concat{.out = twice.view(), .parts = {x.view(), x.view()}, .axis = 3});
  count("slice of heads", bytes,
        Slice{.out = half.view(), .x = x.view(), .begin = {0, 0, 2, 0}, .size = half.shape});
  count("slice_backward of heads", bytes + half.bytes(),
        SliceBackward{.dx = x.view(), .dy = half.view(), .begin = {0, 0, 2, 0}, .shape = x.shape});
}

}  // namespace

void sequence_counts() {
  rotations();
  embeddings(DType::f32, 128);
  embeddings(DType::bf16, 128);
  norms();
  convolutions();
  samples();
  boxes();
}

}  // namespace ml
