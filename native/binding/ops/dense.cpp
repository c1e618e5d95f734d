// Dense layers: linear, products of matrices, gates, norms, softmax, cross-entropy.

#include "binding/exports.h"

namespace ml::binding {
namespace {

Napi::Value linear(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x"), weight = a.tensor("weight"),
               bias = a.optional_tensor("bias");
  const Linear args{.x = x.view(),
                    .weight = weight.view(),
                    .bias = bias.view(),
                    .compute = a.choice<Compute>("compute")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

// (out.dx, dy, x, weight, the products' dtype, wants x, wants weight, wants bias, and tensors to
// add the last two to)
Napi::Value linear_backward(Arguments& a) {
  const Tensor out_x = a.optional_output("out.dx"), dy = a.tensor("dy"), x = a.tensor("x"),
               weight = a.tensor("weight");
  const LinearBackward args{.dy = dy.view(),
                            .x = x.view(),
                            .weight = weight.view(),
                            .compute = a.choice<Compute>("compute")};
  const bool wants_x = a.boolean("wantsX"), wants_weight = a.boolean("wantsWeight"),
             wants_bias = a.boolean("wantsBias");
  const Tensor into_weight = a.optional_output("dWeight"), into_bias = a.optional_output("dBias");
  const auto [dx, dweight, dbias] =
      compute(x.device(), args,
              {Target(out_x).when(wants_x), Target::adding_to(into_weight).when(wants_weight),
               Target::adding_to(into_bias).when(wants_bias)});
  return to_js(a.env(), {{"dx", dx}, {"dWeight", dweight}, {"dBias", dbias}});
}

Napi::Value group_by_index(Arguments& a) {
  const Tensor out_order = a.optional_output("out.order"), out_bags = a.optional_output("out.bags"),
               out_positions = a.optional_output("out.positions"),
               out_offsets = a.optional_output("out.offsets"), indices = a.tensor("indices");
  const GroupByIndex args{.indices = indices.view(), .groups = a.integer("groups")};
  const auto [order, bags, positions, offsets] =
      compute(indices.device(), args, {out_order, out_bags, out_positions, out_offsets});
  return to_js(a.env(),
               {{"order", order}, {"bags", bags}, {"positions", positions}, {"offsets", offsets}});
}

Napi::Value grouped_linear(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x"), weights = a.tensor("weights"),
               offsets = a.tensor("offsets"), bias = a.optional_tensor("bias");
  const GroupedLinear args{.x = x.view(),
                           .weights = weights.view(),
                           .offsets = offsets.view(),
                           .bias = bias.view(),
                           .compute = a.choice<Compute>("compute")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

// (out.dx, dy, x, weights, offsets, wants x, wants weights, wants bias, tensors to add the last two
// to, compute)
Napi::Value grouped_linear_backward(Arguments& a) {
  const Tensor out_x = a.optional_output("out.dx"), dy = a.tensor("dy"), x = a.tensor("x"),
               weights = a.tensor("weights"), offsets = a.tensor("offsets");
  const bool wants_x = a.boolean("wantsX"), wants_weights = a.boolean("wantsWeights"),
             wants_bias = a.boolean("wantsBias");
  const Tensor into_weights = a.optional_output("into.weights"),
               into_bias = a.optional_output("into.bias");
  const GroupedLinearBackward args{.dy = dy.view(),
                                   .x = x.view(),
                                   .weights = weights.view(),
                                   .offsets = offsets.view(),
                                   .compute = a.choice<Compute>("compute")};
  const auto [dx, dweights, dbias] =
      compute(x.device(), args,
              {Target(out_x).when(wants_x), Target::adding_to(into_weights).when(wants_weights),
               Target::adding_to(into_bias).when(wants_bias)});
  return to_js(a.env(), {{"dx", dx}, {"dWeights", dweights}, {"dBias", dbias}});
}

Napi::Value matmul(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x"), y = a.tensor("y");
  const MatMul args{.x = x.view(),
                    .y = y.view(),
                    .transpose_x = a.boolean("transposeX"),
                    .transpose_y = a.boolean("transposeY"),
                    .compute = a.choice<Compute>("compute")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

// (out.dx, out.dy, dOut, x, y, transposes of x and y, the products' dtype, wants x, wants y)
Napi::Value matmul_backward(Arguments& a) {
  const Tensor out_x = a.optional_output("out.dx"), out_y = a.optional_output("out.dy"),
               dout = a.tensor("dOut"), x = a.tensor("x"), y = a.tensor("y");
  const MatMulBackward args{.dout = dout.view(),
                            .x = x.view(),
                            .y = y.view(),
                            .transpose_x = a.boolean("transposeX"),
                            .transpose_y = a.boolean("transposeY"),
                            .compute = a.choice<Compute>("compute")};
  const bool wants_x = a.boolean("wantsX"), wants_y = a.boolean("wantsY");
  const auto [dx, dy] =
      compute(x.device(), args, {Target(out_x).when(wants_x), Target(out_y).when(wants_y)});
  return to_js(a.env(), {{"dx", dx}, {"dy", dy}});
}

Napi::Value silu_gate(Arguments& a) {
  const Tensor out = a.optional_output("out"), y = a.tensor("y"), gate = a.tensor("a");
  const SiluGate args{.y = y.view(), .a = gate.view()};
  return to_js(a.env(), compute(y.device(), args, {out}));
}

Napi::Value silu_gate_backward(Arguments& a) {
  const Tensor out_y = a.optional_output("out.dy"), out_a = a.optional_output("out.da");
  const Tensor dz = a.tensor("dz"), y = a.tensor("y"), gate = a.tensor("a");
  const auto [dy, da] =
      compute(y.device(), SiluGateBackward{.dz = dz.view(), .y = y.view(), .a = gate.view()},
              {out_y, out_a});
  return to_js(a.env(), {{"dy", dy}, {"da", da}});
}

Napi::Value sigmoid_gate(Arguments& a) {
  const Tensor out = a.optional_output("out"), y = a.tensor("y"), g = a.tensor("g");
  const SigmoidGate args{.y = y.view(), .g = g.view()};
  return to_js(a.env(), compute(y.device(), args, {out}));
}

Napi::Value sigmoid_gate_backward(Arguments& a) {
  const Tensor out_y = a.optional_output("out.dy"), out_g = a.optional_output("out.dg");
  const Tensor dout = a.tensor("dOut"), y = a.tensor("y"), g = a.tensor("g");
  const auto [dy, dg] =
      compute(y.device(), SigmoidGateBackward{.dout = dout.view(), .y = y.view(), .g = g.view()},
              {out_y, out_g});
  return to_js(a.env(), {{"dy", dy}, {"dg", dg}});
}

Napi::Value rms_norm(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x"), gain = a.optional_tensor("gain");
  const RmsNorm args{.x = x.view(), .gain = gain.view(), .eps = a.float32("eps")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

// (out.dx, dy, x, gain, eps, tensor to add the gain's gradient to)
Napi::Value rms_norm_backward(Arguments& a) {
  const Tensor out_x = a.optional_output("out.dx"), dy = a.tensor("dy"), x = a.tensor("x"),
               gain = a.optional_tensor("gain");
  const float eps = a.float32("eps");
  const Tensor into_gain = a.optional_output("dGain");
  const auto [dx, dgain] = compute(
      x.device(), RmsNormBackward{.dy = dy.view(), .x = x.view(), .gain = gain.view(), .eps = eps},
      {out_x, Target::adding_to(into_gain).when(gain || into_gain)});
  return to_js(a.env(), {{"dx", dx}, {"dGain", dgain}});
}

Napi::Value layer_norm(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x"),
               weight = a.optional_tensor("weight"), bias = a.optional_tensor("bias");
  const LayerNorm args{
      .x = x.view(), .weight = weight.view(), .bias = bias.view(), .eps = a.float32("eps")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

// (out.dx, dy, x, weight, eps, wants x, wants weight, wants bias, and tensors to add the last two
// to)
Napi::Value layer_norm_backward(Arguments& a) {
  const Tensor out_x = a.optional_output("out.dx"), dy = a.tensor("dy"), x = a.tensor("x"),
               weight = a.optional_tensor("weight");
  const float eps = a.float32("eps");
  const bool wants_x = a.boolean("wantsX"), wants_weight = a.boolean("wantsWeight"),
             wants_bias = a.boolean("wantsBias");
  const Tensor into_weight = a.optional_output("into.weight"),
               into_bias = a.optional_output("into.bias");
  const LayerNormBackward args{.dy = dy.view(), .x = x.view(), .weight = weight.view(), .eps = eps};
  const auto [dx, dweight, dbias] =
      compute(x.device(), args,
              {Target(out_x).when(wants_x), Target::adding_to(into_weight).when(wants_weight),
               Target::adding_to(into_bias).when(wants_bias)});
  return to_js(a.env(), {{"dx", dx}, {"dWeight", dweight}, {"dBias", dbias}});
}

Napi::Value softmax(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x");
  return to_js(a.env(), compute(x.device(), Softmax{.x = x.view()}, {out}));
}

Napi::Value softmax_backward(Arguments& a) {
  const Tensor out = a.optional_output("out"), dy = a.tensor("dy"), y = a.tensor("y");
  const SoftmaxBackward args{.dy = dy.view(), .y = y.view()};
  return to_js(a.env(), compute(y.device(), args, {out}));
}

Napi::Value cross_entropy(Arguments& a) {
  const Tensor out = a.optional_output("out"), logits = a.tensor("logits"),
               targets = a.tensor("targets");
  const CrossEntropy args{.logits = logits.view(), .targets = targets.view()};
  return to_js(a.env(), compute(logits.device(), args, {out}));
}

Napi::Value cross_entropy_backward(Arguments& a) {
  const Tensor out = a.optional_output("out"), dloss = a.tensor("dLoss"),
               logits = a.tensor("logits"), targets = a.tensor("targets");
  const CrossEntropyBackward args{
      .dloss = dloss.view(), .logits = logits.view(), .targets = targets.view()};
  return to_js(a.env(), compute(logits.device(), args, {out}));
}

Napi::Value target_weights(Arguments& a) {
  const Tensor out_kept = a.optional_output("out.kept"),
               out_weights = a.optional_output("out.weights"), targets = a.tensor("targets");
  const TargetWeights args{.targets = targets.view(),
                           .ignore_index = static_cast<int32_t>(a.integer("ignoreIndex"))};
  const auto [kept, weights] = compute(targets.device(), args, {out_kept, out_weights});
  return to_js(a.env(), {{"kept", kept}, {"weights", weights}});
}

}  // namespace

void define_dense(Napi::Object exports) {
  define<linear>(exports, "linear");
  define<linear_backward>(exports, "linearBackward");
  define<group_by_index>(exports, "groupByIndex");
  define<grouped_linear>(exports, "groupedLinear");
  define<grouped_linear_backward>(exports, "groupedLinearBackward");
  define<matmul>(exports, "matmul");
  define<matmul_backward>(exports, "matmulBackward");
  define<silu_gate>(exports, "siluGate");
  define<silu_gate_backward>(exports, "siluGateBackward");
  define<sigmoid_gate>(exports, "sigmoidGate");
  define<sigmoid_gate_backward>(exports, "sigmoidGateBackward");
  define<rms_norm>(exports, "rmsNorm");
  define<rms_norm_backward>(exports, "rmsNormBackward");
  define<layer_norm>(exports, "layerNorm");
  define<layer_norm_backward>(exports, "layerNormBackward");
  define<softmax>(exports, "softmax");
  define<softmax_backward>(exports, "softmaxBackward");
  define<cross_entropy>(exports, "crossEntropy");
  define<cross_entropy_backward>(exports, "crossEntropyBackward");
  define<target_weights>(exports, "targetWeights");
}

}  // namespace ml::binding
