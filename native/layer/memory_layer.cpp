#include "layer/memory_layer.h"

#include <cmath>

namespace ml {

Tensor token_rows(const char* where, const char* argument, const Tensor& x, int64_t width,
                  const char* option) {
  const int rank = x.shape.rank;
  const std::string w = std::to_string(width);
  if ((rank != 2 && rank != 3) || x.shape[-1] != width)
    fail(Code::shape, where, argument, "have shape [tokens, " + w + "] or [batch, time, " + w + "]",
         to_string(x.shape), "This layer was made with " + std::string(option) + " " + w + ".");
  if (x.dtype != DType::f32) fail(Code::dtype, where, argument, "be float32", name_of(x.dtype));
  int64_t rows = 1;
  for (int i = 0; i + 1 < rank; ++i) rows *= x.shape[i];
  return x.reshaped({rows, width});
}

Shape with_width(const Shape& shape, int64_t width) {
  Shape s = shape;
  s.dims[s.rank - 1] = width;
  return s;
}

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
  const int64_t T = x.shape[0], V = values_->dim();
  auto c = std::make_unique<MemoryContext>();
  c->owner = this;
  c->input_shape = input.shape;
  c->x = x;
  c->query = query_.forward(x);
  const Shape bags{T, options_.query.heads * options_.query.knn};
  c->y = empty(device, {T, V});
  run(device, EmbeddingBag{c->y.view(),
                           table,
                           c->query.indices.reshaped(bags).view(),
                           c->query.weights.reshaped(bags).view(),
                           {},
                           values_->scales().view()});
  Tensor output = c->y;
  if (options_.silu_gate) {
    c->a = empty(device, {T, V});
    run(device, Linear{c->a.view(), x.view(), gate_weight_.value.view(), gate_bias_.value.view()});
    c->z = empty(device, {T, V});
    run(device, SiluGate{c->z.view(), c->y.view(), c->a.view()});
    output = c->z;
  }
  if (proj_weight_) {
    Tensor projected = empty(device, {T, options_.output_dim});
    run(device, Linear{projected.view(), output.view(), proj_weight_.value.view(),
                       proj_bias_.value.view()});
    output = projected;
  }
  if (options_.output_gate) {
    c->out = output;
    c->g = empty(device, {T, 1});
    run(device,
        Linear{c->g.view(), x.view(), out_gate_weight_.value.view(), out_gate_bias_.value.view()});
    output = empty(device, c->out.shape);
    run(device, SigmoidGate{output.view(), c->out.view(), c->g.view()});
  }
  output = output.reshaped(with_width(input.shape, options_.output_dim));
  if (!save) c.reset();
  return {output, std::move(c)};
}

Tensor MemoryLayer::backward(const MemoryContext& c, const Tensor& dy) {
  Device& device = *device_;
  const View table = values_->live_weight("MemoryLayer.backward").view();
  const Tensor dout =
      token_rows("MemoryLayer.backward", "dy", dy, options_.output_dim, "outputDim");
  if (dout.shape[0] != c.x.shape[0])
    fail(Code::shape, "MemoryLayer.backward", "dy",
         "have shape " + to_string(with_width(c.input_shape, options_.output_dim)),
         to_string(dy.shape), "It must be the gradient of the output that came with this context.");
  const int64_t T = c.x.shape[0], V = values_->dim();
  Tensor dx = empty(device, c.x.shape);
  bool accumulate = false;
  Tensor d = dout;
  if (options_.output_gate) {
    Tensor ungated = empty(device, d.shape), dg = empty(device, {T, 1});
    run(device, SigmoidGateBackward{ungated.view(), dg.view(), d.view(), c.out.view(), c.g.view()});
    run(device, LinearBackward{dx.view(), out_gate_weight_.grad.view(), out_gate_bias_.grad.view(),
                               dg.view(), c.x.view(), out_gate_weight_.value.view(), accumulate});
    accumulate = true;
    d = ungated;
  }
  if (proj_weight_) {
    const Tensor& into = options_.silu_gate ? c.z : c.y;
    Tensor dz = empty(device, {T, V});
    run(device, LinearBackward{dz.view(), proj_weight_.grad.view(), proj_bias_.grad.view(),
                               d.view(), into.view(), proj_weight_.value.view(), false});
    d = dz;
  }
  if (options_.silu_gate) {
    Tensor dvalues = empty(device, {T, V}), da = empty(device, {T, V});
    run(device, SiluGateBackward{dvalues.view(), da.view(), d.view(), c.y.view(), c.a.view()});
    run(device, LinearBackward{dx.view(), gate_weight_.grad.view(), gate_bias_.grad.view(),
                               da.view(), c.x.view(), gate_weight_.value.view(), accumulate});
    accumulate = true;
    d = dvalues;
  }
  const Shape bags{T, options_.query.heads * options_.query.knn};
  const Tensor indices = c.query.indices.reshaped(bags);
  Tensor dweights = empty(device, bags);
  run(device, EmbeddingBagWeightsBackward{
                  dweights.view(), d.view(), table, indices.view(), {}, values_->scales().view()});
  query_.backward(c.query, c.x, dweights, dx, accumulate);
  // The queued gradient must outlive the caller's dy, which may be written to again.
  if (d.storage == dy.storage) {
    Tensor own = empty(device, d.shape);
    run(device, Copy{own.view(), d.view()});
    d = own;
  }
  values_->push({indices, c.query.weights.reshaped(bags), d, {}});
  return dx.reshaped(c.input_shape);
}

}  // namespace ml
