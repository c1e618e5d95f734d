// What models of sequences need: rows of tokens, positions, convolution over time, dropout,
// samples.

#include "binding/exports.h"

namespace ml::binding {
namespace {

// (out, x, positions, theta, offset, inverse)
Napi::Value rotate(Arguments& a, bool inverse) {
  const Tensor out = a.optional_output("out"), x = a.tensor(inverse ? "dy" : "x"),
               positions = a.optional_tensor("positions");
  const Rope args{.x = x.view(),
                  .positions = positions.view(),
                  .theta = a.number("theta"),
                  .offset = a.integer("offset"),
                  .inverse = inverse};
  return to_js(a.env(), compute(x.device(), args, {out}));
}
Napi::Value rope(Arguments& a) { return rotate(a, false); }
Napi::Value rope_backward(Arguments& a) { return rotate(a, true); }

Napi::Value embedding(Arguments& a) {
  const Tensor out = a.optional_output("out"), table = a.tensor("table"),
               indices = a.tensor("indices"), scales = a.optional_tensor("scales");
  const Embedding args{.table = table.view(), .indices = indices.view(), .scales = scales.view()};
  return to_js(a.env(), compute(table.device(), args, {out}));
}

Napi::Value embedding_backward(Arguments& a) {
  const Tensor dy = a.tensor("dy"), table = a.tensor("table"), indices = a.tensor("indices");
  const char* op = "embeddingBackward";
  expect_float32(op, "dy", dy.view(), check_embedding(op, table.view(), indices.view(), {}));
  const int64_t entries = indices.size(), V = table.shape[1];
  Tensor weights = empty(table.device(), {entries, 1});
  fill(weights, 1);
  const ValueTable::Read read{
      indices.reshaped({entries, 1}), weights, dy.reshaped({entries, V}), {}};
  return to_js(a.env(), sparse_grad(table.device(), {&read, 1}, table.shape[0], V));
}

// (out, x, p, seed, step, numbers or undefined)
Napi::Value drop(Arguments& a, bool backward) {
  const Tensor out = a.optional_output("out"), x = a.tensor(backward ? "dy" : "x");
  const double p = a.number("p");
  const uint64_t seed = a.seed("seed"), step = a.seed("step");
  const Dropout args{.x = x.view(),
                     .numbers = a.optional_tensor("numbers").view(),
                     .p = p,
                     .seed = seed,
                     .step = step,
                     .backward = backward};
  return to_js(a.env(), compute(x.device(), args, {out}));
}
Napi::Value dropout(Arguments& a) { return drop(a, false); }
Napi::Value dropout_backward(Arguments& a) { return drop(a, true); }

Napi::Value multinomial(Arguments& a) {
  const Tensor out = a.optional_output("out"), logits = a.tensor("logits");
  const Multinomial args{.logits = logits.view(),
                         .temperature = a.float32("temperature"),
                         .top_k = a.integer("topK"),
                         .top_p = a.float32("topP"),
                         .count = a.integer("count"),
                         .seed = a.seed("seed"),
                         .step = a.seed("step")};
  return to_js(a.env(), compute(logits.device(), args, {out}));
}

Napi::Value causal_conv1d(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x"), weight = a.tensor("weight"),
               bias = a.optional_tensor("bias");
  const CausalConv1d args{.x = x.view(),
                          .weight = weight.view(),
                          .bias = bias.view(),
                          .dilation = a.integer("dilation")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

// (out.dx, dy, x, weight, dilation, wants x, wants weight, wants bias, and tensors to add to)
Napi::Value causal_conv1d_backward(Arguments& a) {
  const Tensor out_x = a.optional_output("out.dx"), dy = a.tensor("dy"), x = a.tensor("x"),
               weight = a.tensor("weight");
  const int64_t dilation = a.integer("dilation");
  const bool wants_x = a.boolean("wantsX"), wants_weight = a.boolean("wantsWeight"),
             wants_bias = a.boolean("wantsBias");
  const Tensor into_weight = a.optional_output("into.weight"),
               into_bias = a.optional_output("into.bias");
  const CausalConv1dBackward args{
      .dy = dy.view(), .x = x.view(), .weight = weight.view(), .dilation = dilation};
  const auto [dx, dweight, dbias] =
      compute(x.device(), args,
              {Target(out_x).when(wants_x), Target::adding_to(into_weight).when(wants_weight),
               Target::adding_to(into_bias).when(wants_bias)});
  return to_js(a.env(), {{"dx", dx}, {"dWeight", dweight}, {"dBias", dbias}});
}

}  // namespace

void define_sequence(Napi::Object exports) {
  define<rope>(exports, "rope");
  define<rope_backward>(exports, "ropeBackward");
  define<embedding>(exports, "embedding");
  define<embedding_backward>(exports, "embeddingBackward");
  define<dropout>(exports, "dropout");
  define<dropout_backward>(exports, "dropoutBackward");
  define<multinomial>(exports, "multinomial");
  define<causal_conv1d>(exports, "causalConv1d");
  define<causal_conv1d_backward>(exports, "causalConv1dBackward");
}

}  // namespace ml::binding
