#include "layer/peer_layer.h"

namespace ml {

PeerLayer::PeerLayer(std::shared_ptr<Device> device, const PeerLayerOptions& options,
                     std::shared_ptr<ValueTable> down, std::shared_ptr<ValueTable> up)
    : device_(std::move(device)),
      options_(options),
      down_(std::move(down)),
      up_(std::move(up)),
      init_(*device_, options.query.seed),
      query_(*device_, options.query, init_) {}

PeerLayer::Result PeerLayer::forward(const Tensor& input, bool save) {
  Device& device = *device_;
  const char* where = save ? "PeerLayer.forward" : "PeerLayer.infer";
  const View down = down_->live_weight(where).view(), up = up_->live_weight(where).view();
  const Tensor x = token_rows(where, "x", input, options_.query.input_dim, "inputDim");
  const int64_t T = x.shape[0];
  const Shape bags{T, options_.query.heads * options_.query.knn};
  auto c = std::make_unique<PeerContext>();
  c->owner = this;
  c->input_shape = input.shape;
  c->x = x;
  c->query = query_.forward(x);
  c->u = empty(device, bags);
  Tensor out = empty(device, {T, up_->dim()});
  run(device,
      Peer{out.view(), c->u.view(), x.view(), down, up, c->query.indices.reshaped(bags).view(),
           c->query.weights.reshaped(bags).view(), options_.activation});
  if (!save) c.reset();
  return {out.reshaped(with_width(input.shape, up_->dim())), std::move(c)};
}

Tensor PeerLayer::backward(const PeerContext& c, const Tensor& dy) {
  Device& device = *device_;
  const View down = down_->live_weight("PeerLayer.backward").view(),
             up = up_->live_weight("PeerLayer.backward").view();
  Tensor dout = token_rows("PeerLayer.backward", "dy", dy, up_->dim(), "outputDim");
  if (dout.shape[0] != c.x.shape[0])
    fail(Code::shape, "PeerLayer.backward", "dy",
         "have shape " + to_string(with_width(c.input_shape, up_->dim())), to_string(dy.shape),
         "It must be the gradient of the output that came with this context.");
  const int64_t T = c.x.shape[0];
  const Shape bags{T, options_.query.heads * options_.query.knn};
  const Tensor indices = c.query.indices.reshaped(bags), weights = c.query.weights.reshaped(bags);
  Tensor dx = empty(device, c.x.shape), dweights = empty(device, bags), du = empty(device, bags),
         coefficient = empty(device, bags);
  fill(dx, 0);
  run(device, PeerBackward{dx.view(), dweights.view(), du.view(), coefficient.view(), dout.view(),
                           c.u.view(), c.x.view(), down, up, indices.view(), weights.view(),
                           options_.activation});
  query_.backward(c.query, c.x, dweights, dx, true);
  // The queued rows must outlive the caller's x and dy, which may be written to again.
  Tensor own_x = empty(device, c.x.shape), own_dout = empty(device, dout.shape);
  run(device, Copy{own_x.view(), c.x.view()});
  run(device, Copy{own_dout.view(), dout.view()});
  down_->push({indices, du, own_x, {}});
  up_->push({indices, coefficient, own_dout, {}});
  return dx.reshaped(c.input_shape);
}

}  // namespace ml
