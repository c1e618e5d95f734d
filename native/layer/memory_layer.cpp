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
  if (options_.value_dim == 0) options_.value_dim = values_->dim();
  const int64_t C = options.query.input_dim, V = options_.value_dim, out = options.output_dim;
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

Tensor MemoryLayer::linear(const Tensor& x, const Parameter& weight, const Parameter& bias) const {
  return compute(*device_, Linear{.x = x.view(),
                                  .weight = weight.value.view(),
                                  .bias = bias.value.view(),
                                  .compute = options_.query.compute});
}

ForwardResult MemoryLayer::forward(const Tensor& input, bool save) {
  auto c = look_up(input, save);
  gate(*c);
  const Tensor y =
      compute(*device_, EmbeddingBag{.table = values_->weight().view(),
                                     .indices = c->query.indices.reshaped(bags(*c)).view(),
                                     .weights = c->query.weights.reshaped(bags(*c)).view(),
                                     .scales = values_->scales().view()});
  const Tensor output = finish(*c, y, save);
  if (!save) return {output, nullptr};
  return {output, std::move(c)};
}

std::unique_ptr<MemoryContext> MemoryLayer::look_up(const Tensor& input, bool save) {
  const char* where = save ? "MemoryLayer.forward" : "MemoryLayer.infer";
  values_->live_weight(where);
  auto c = std::make_unique<MemoryContext>();
  c->layer = id_;
  c->input_shape = input.shape;
  c->x = token_rows(where, "x", input, options_.query.input_dim, "inputDim");
  c->query = query_.forward(c->x);
  return c;
}

void MemoryLayer::gate(MemoryContext& c) const {
  if (options_.silu_gate) c.a = linear(c.x, gate_weight_, gate_bias_);
}

Tensor MemoryLayer::finish(MemoryContext& c, const Tensor& y, bool save) {
  Device& device = *device_;
  expect_float32("MemoryLayer.forward", "y", y.view(), {c.x.shape[0], options_.value_dim});
  c.y = y;
  Tensor output = y;
  if (options_.silu_gate) {
    c.z = compute(device, SiluGate{.y = c.y.view(), .a = c.a.view()});
    output = c.z;
  }
  if (proj_weight_) output = linear(output, proj_weight_, proj_bias_);
  if (options_.output_gate) {
    c.out = output;
    c.g = linear(c.x, out_gate_weight_, out_gate_bias_);
    output = compute(device, SigmoidGate{.y = c.out.view(), .g = c.g.view()});
  }
  output = output.reshaped(with_last_axis(c.input_shape, options_.output_dim));
  if (!save) return output;
  c.reads.add("x", c.x);
  c.reads.add("values.weight", values_->weight());
  if (values_->scales()) c.reads.add("values.scales", values_->scales());
  query_.add_reads(c.reads);
  for (const Parameter* p : {&gate_weight_, &proj_weight_, &out_gate_weight_}) c.reads.add(*p);
  query_.count_reads(c.query);
  return output;
}

void MemoryLayer::linear_backward(const Tensor& dx, bool accumulate, const Tensor& dy,
                                  const Tensor& x, const Parameter& weight,
                                  const Parameter& bias) const {
  const View into = dx.view();
  run(*device_,
      LinearBackward{.dx = into,
                     .dweight = weight.grad.view(),
                     .dbias = bias.grad.view(),
                     .dy = dy.view(),
                     .x = x.view(),
                     .weight = weight.value.view(),
                     .accumulate_dx = accumulate,
                     .compute = options_.query.compute},
      {&into, 1});
}

namespace {

// What lies in a context between the parts of a backward goes with the backward, or its error.
class BackwardParts {
 public:
  explicit BackwardParts(MemoryContext& c) : c_(c) {}
  ~BackwardParts() {
    if (kept_) return;
    c_.dx = {};
    c_.da = {};
  }
  BackwardParts(const BackwardParts&) = delete;
  BackwardParts& operator=(const BackwardParts&) = delete;
  void keep() { kept_ = true; }

 private:
  MemoryContext& c_;
  bool kept_ = false;
};

}  // namespace

Tensor MemoryLayer::backward(MemoryContext& c, const Tensor& dout) {
  const BackwardParts parts(c);
  Batch batch(*device_);
  const Tensor d = backward_rows(c, dout);
  backward_gate(c);
  const Tensor indices = c.query.indices.reshaped(bags(c));
  const Tensor dweights =
      compute(*device_, EmbeddingBagWeightsBackward{.dy = d.view(),
                                                    .table = values_->weight().view(),
                                                    .indices = indices.view(),
                                                    .scales = values_->scales().view()});
  const Tensor dx = backward_lookup(c, dweights);
  values_->push({.indices = indices, .weights = c.query.weights.reshaped(bags(c)), .dy = d});
  batch.commit();
  return dx;
}

Tensor MemoryLayer::backward_rows(MemoryContext& c, const Tensor& dy) {
  const char* where = "MemoryLayer.backward";
  values_->live_weight(where);
  const Tensor dout = token_rows(where, "dy", dy, options_.output_dim, "outputDim");
  if (dout.shape[0] != c.x.shape[0])
    fail(Code::shape, where, "dy",
         "have shape " + to_string(with_last_axis(c.input_shape, options_.output_dim)),
         to_string(dy.shape), "It must be the gradient of the output that came with this context.");
  c.reads.check(where);
  Device& device = *device_;
  BackwardParts parts(c);
  Batch batch(device);
  c.dx = empty(device, c.x.shape);
  c.dx_written = false;
  Tensor d = dout;
  if (options_.output_gate) {
    const auto [ungated, dg] =
        compute(device, SigmoidGateBackward{.dout = d.view(), .y = c.out.view(), .g = c.g.view()});
    linear_backward(c.dx, c.dx_written, dg, c.x, out_gate_weight_, out_gate_bias_);
    c.dx_written = true;
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
    c.da = da;
    d = dvalues;
  }
  // What the table's queue holds must outlive the caller's dy, which may be written to again.
  if (d.storage == dy.storage) d = float32_copy(d);
  batch.commit();
  parts.keep();
  return d;
}

void MemoryLayer::backward_gate(MemoryContext& c) const {
  if (!options_.silu_gate) return;
  linear_backward(c.dx, c.dx_written, c.da, c.x, gate_weight_, gate_bias_);
  c.dx_written = true;
}

Tensor MemoryLayer::backward_lookup(MemoryContext& c, const Tensor& dweights) {
  query_.backward(c.query, c.x, dweights, c.dx, c.dx_written);
  return c.dx.reshaped(c.input_shape);
}

}  // namespace ml
