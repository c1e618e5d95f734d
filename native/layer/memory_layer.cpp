#include "layer/memory_layer.h"

#include <cmath>

#include "device/batch.h"

namespace ml {

MemoryLayer::MemoryLayer(std::shared_ptr<Device> device, const MemoryLayerOptions& options,
                         std::shared_ptr<ValueTable> values)
    : device_(std::move(device)),
      options_(options),
      values_(std::move(values)),
      init_(*device_, options.query.seed),
      query_(*device_, options.query, init_) {
  const int64_t C = options.query.input_dim, V = values_->dim(), out = options.output_dim;
  const float from_input = 1.0f / std::sqrt(static_cast<float>(C));
  const float from_values = 1.0f / std::sqrt(static_cast<float>(V));
  if (options.silu_gate) {
    gate_weight_ = init_.uniform("swilu_projection.weight", {V, C}, from_input);
    gate_bias_ = init_.uniform("swilu_projection.bias", {V}, from_input);
  }
  if (options.silu_gate || V != out) {
    proj_weight_ = init_.uniform("value_proj.weight", {out, V}, from_values);
    proj_bias_ = init_.uniform("value_proj.bias", {out}, from_values);
  }
  if (options.output_gate) {
    out_gate_weight_ = init_.uniform("gating.weight", {1, C}, from_input);
    out_gate_bias_ = init_.uniform("gating.bias", {1}, from_input);
  }
}

std::vector<Parameter*> MemoryLayer::parameters() {
  std::vector<Parameter*> list = query_.parameters();
  for (Parameter* p :
       {&gate_weight_, &gate_bias_, &proj_weight_, &proj_bias_, &out_gate_weight_, &out_gate_bias_})
    if (*p) list.push_back(p);
  return list;
}

ForwardResult MemoryLayer::forward(const Tensor& input, bool save) {
  Device& device = *device_;
  const char* where = save ? "MemoryLayer.forward" : "MemoryLayer.infer";
  const View table = values_->live_weight(where).view();
  const Tensor x = token_rows(where, "x", input, options_.query.input_dim, "inputDim");
  const int64_t T = x.shape[0];
  auto c = std::make_unique<MemoryContext>();
  c->layer = id_;
  c->input_shape = input.shape;
  c->x = x;
  c->query = query_.forward(x);
  const Shape bags{T, options_.query.heads * options_.query.knn};
  c->y = compute(device, EmbeddingBag{.table = table,
                                      .indices = c->query.indices.reshaped(bags).view(),
                                      .weights = c->query.weights.reshaped(bags).view(),
                                      .scales = values_->scales().view()});
  const auto linear = [&](const Tensor& in, const Parameter& weight, const Parameter& bias) {
    return compute(device, Linear{.x = in.view(),
                                  .weight = weight.value.view(),
                                  .bias = bias.value.view(),
                                  .compute = options_.query.compute});
  };
  Tensor output = c->y;
  if (options_.silu_gate) {
    c->a = linear(x, gate_weight_, gate_bias_);
    c->z = compute(device, SiluGate{.y = c->y.view(), .a = c->a.view()});
    output = c->z;
  }
  if (proj_weight_) output = linear(output, proj_weight_, proj_bias_);
  if (options_.output_gate) {
    c->out = output;
    c->g = linear(x, out_gate_weight_, out_gate_bias_);
    output = compute(device, SigmoidGate{.y = c->out.view(), .g = c->g.view()});
  }
  output = output.reshaped(with_last_axis(input.shape, options_.output_dim));
  if (!save) return {output, nullptr};
  c->reads.add("x", x);
  c->reads.add("values.weight", values_->weight());
  if (values_->scales()) c->reads.add("values.scales", values_->scales());
  query_.add_reads(c->reads);
  for (const Parameter* p : {&gate_weight_, &proj_weight_, &out_gate_weight_}) c->reads.add(*p);
  query_.count_reads(c->query);
  return {output, std::move(c)};
}

Tensor MemoryLayer::backward(const MemoryContext& c, const Tensor& dy) {
  Device& device = *device_;
  const View table = values_->live_weight("MemoryLayer.backward").view();
  const Tensor dout =
      token_rows("MemoryLayer.backward", "dy", dy, options_.output_dim, "outputDim");
  if (dout.shape[0] != c.x.shape[0])
    fail(Code::shape, "MemoryLayer.backward", "dy",
         "have shape " + to_string(with_last_axis(c.input_shape, options_.output_dim)),
         to_string(dy.shape), "It must be the gradient of the output that came with this context.");
  c.reads.check("MemoryLayer.backward");
  Batch batch(device);
  const Tensor dx = empty(device, c.x.shape);
  bool accumulate = false;
  const auto linear_backward = [&](const Tensor& into, bool add, const Tensor& dout,
                                   const Tensor& in, const Parameter& weight,
                                   const Parameter& bias) {
    const View dx = into.view();
    run(device,
        LinearBackward{.dx = dx,
                       .dweight = weight.grad.view(),
                       .dbias = bias.grad.view(),
                       .dy = dout.view(),
                       .x = in.view(),
                       .weight = weight.value.view(),
                       .accumulate_dx = add,
                       .compute = options_.query.compute},
        {&dx, 1});
  };
  Tensor d = dout;
  if (options_.output_gate) {
    const auto [ungated, dg] =
        compute(device, SigmoidGateBackward{.dout = d.view(), .y = c.out.view(), .g = c.g.view()});
    linear_backward(dx, accumulate, dg, c.x, out_gate_weight_, out_gate_bias_);
    accumulate = true;
    d = ungated;
  }
  if (proj_weight_) {
    const Tensor& in = options_.silu_gate ? c.z : c.y;
    const Tensor dz = empty(device, in.shape);
    linear_backward(dz, false, d, in, proj_weight_, proj_bias_);
    d = dz;
  }
  if (options_.silu_gate) {
    const auto [dvalues, da] =
        compute(device, SiluGateBackward{.dz = d.view(), .y = c.y.view(), .a = c.a.view()});
    linear_backward(dx, accumulate, da, c.x, gate_weight_, gate_bias_);
    accumulate = true;
    d = dvalues;
  }
  const Shape bags{c.x.shape[0], options_.query.heads * options_.query.knn};
  const Tensor indices = c.query.indices.reshaped(bags);
  const Tensor dweights =
      compute(device, EmbeddingBagWeightsBackward{.dy = d.view(),
                                                  .table = table,
                                                  .indices = indices.view(),
                                                  .scales = values_->scales().view()});
  query_.backward(c.query, c.x, dweights, dx, accumulate);
  // The queued gradient must outlive the caller's dy, which may be written to again.
  if (d.storage == dy.storage) d = float32_copy(d);
  const ValueTable::Read read{
      .indices = indices, .weights = c.query.weights.reshaped(bags), .dy = d};
  values_->push(read);
  batch.commit();
  return dx.reshaped(c.input_shape);
}

}  // namespace ml
