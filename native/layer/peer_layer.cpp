#include "layer/peer_layer.h"

#include "device/batch.h"

namespace ml {

PeerLayer::PeerLayer(std::shared_ptr<Device> device, const PeerLayerOptions& options,
                     std::shared_ptr<ValueTable> down, std::shared_ptr<ValueTable> up)
    : device_(std::move(device)),
      options_(options),
      down_(std::move(down)),
      up_(std::move(up)),
      init_(*device_, options.query.seed),
      query_(*device_, options.query, init_) {
  if (options_.output_dim == 0) options_.output_dim = up_->dim();
}

PeerLayer::Result PeerLayer::forward(const Tensor& input, bool saved) {
  auto c = look_up(input, saved);
  const auto [out, u] =
      compute(*device_, Peer{.x = c->x.view(),
                             .down = down_->weight().view(),
                             .up = up_->weight().view(),
                             .indices = c->query.indices.reshaped(bags(*c)).view(),
                             .weights = c->query.weights.reshaped(bags(*c)).view(),
                             .activation = options_.activation});
  c->u = u;
  const Tensor output = out.reshaped(with_last_axis(input.shape, options_.output_dim));
  if (!saved) return {output, nullptr};
  save(*c);
  return {output, std::move(c)};
}

std::unique_ptr<PeerContext> PeerLayer::look_up(const Tensor& input, bool saved) {
  const char* where = saved ? "PeerLayer.forward" : "PeerLayer.infer";
  down_->live_weight(where);
  up_->live_weight(where);
  auto c = std::make_unique<PeerContext>();
  c->layer = id_;
  c->input_shape = input.shape;
  c->x = token_rows(where, "x", input, options_.query.input_dim, "inputDim");
  c->query = query_.forward(c->x);
  return c;
}

void PeerLayer::save(PeerContext& c) {
  c.reads.add("x", c.x);
  c.reads.add("values_u.weight", down_->weight());
  c.reads.add("values_v.weight", up_->weight());
  query_.add_reads(c.reads);
  query_.count_reads(c.query);
}

Tensor PeerLayer::backward_rows(const PeerContext& c, const Tensor& dy) const {
  const char* where = "PeerLayer.backward";
  down_->live_weight(where);
  up_->live_weight(where);
  const Tensor dout = token_rows(where, "dy", dy, options_.output_dim, "outputDim");
  if (dout.shape[0] != c.x.shape[0])
    fail(Code::shape, where, "dy",
         "have shape " + to_string(with_last_axis(c.input_shape, options_.output_dim)),
         to_string(dy.shape), "It must be the gradient of the output that came with this context.");
  c.reads.check(where);
  return dout;
}

Tensor PeerLayer::backward_lookup(const PeerContext& c, const Tensor& dweights, const Tensor& dx) {
  query_.backward(c.query, c.x, dweights, dx, true);
  return dx.reshaped(c.input_shape);
}

Tensor PeerLayer::backward(PeerContext& c, const Tensor& dy) {
  Device& device = *device_;
  const Tensor dout = backward_rows(c, dy);
  Batch batch(device);
  const Tensor indices = c.query.indices.reshaped(bags(c));
  const Tensor weights = c.query.weights.reshaped(bags(c));
  const auto [dx, dweights, du, coefficient] =
      compute(device, PeerBackward{.dout = dout.view(),
                                   .u = c.u.view(),
                                   .x = c.x.view(),
                                   .down = down_->weight().view(),
                                   .up = up_->weight().view(),
                                   .indices = indices.view(),
                                   .weights = weights.view(),
                                   .activation = options_.activation});
  const Tensor result = backward_lookup(c, dweights, dx);
  // The queued rows must outlive the caller's x and dy, which may be written to again.
  down_->push({.indices = indices, .weights = du, .dy = float32_copy(c.x)});
  up_->push({.indices = indices, .weights = coefficient, .dy = float32_copy(dout)});
  batch.commit();
  return result;
}

}  // namespace ml
