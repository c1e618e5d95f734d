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
      query_(*device_, options.query, init_) {}

PeerLayer::Result PeerLayer::forward(const Tensor& input, bool save) {
  Device& device = *device_;
  const char* where = save ? "PeerLayer.forward" : "PeerLayer.infer";
  const View down = down_->live_weight(where).view(), up = up_->live_weight(where).view();
  const Tensor x = token_rows(where, "x", input, options_.query.input_dim, "inputDim");
  const int64_t T = x.shape[0];
  const Shape bags{T, options_.query.heads * options_.query.knn};
  auto c = std::make_unique<PeerContext>();
  c->layer = id_;
  c->input_shape = input.shape;
  c->x = x;
  c->query = query_.forward(x);
  const auto [out, u] = compute(device, Peer{.x = x.view(),
                                             .down = down,
                                             .up = up,
                                             .indices = c->query.indices.reshaped(bags).view(),
                                             .weights = c->query.weights.reshaped(bags).view(),
                                             .activation = options_.activation});
  c->u = u;
  const Tensor output = out.reshaped(with_last_axis(input.shape, up_->dim()));
  if (!save) return {output, nullptr};
  c->reads.add("x", x);
  c->reads.add("values_u.weight", down_->weight());
  c->reads.add("values_v.weight", up_->weight());
  query_.add_reads(c->reads);
  query_.count_reads(c->query);
  return {output, std::move(c)};
}

Tensor PeerLayer::backward(const PeerContext& c, const Tensor& dy) {
  Device& device = *device_;
  const View down = down_->live_weight("PeerLayer.backward").view(),
             up = up_->live_weight("PeerLayer.backward").view();
  Tensor dout = token_rows("PeerLayer.backward", "dy", dy, up_->dim(), "outputDim");
  if (dout.shape[0] != c.x.shape[0])
    fail(Code::shape, "PeerLayer.backward", "dy",
         "have shape " + to_string(with_last_axis(c.input_shape, up_->dim())), to_string(dy.shape),
         "It must be the gradient of the output that came with this context.");
  c.reads.check("PeerLayer.backward");
  Batch batch(device);
  const Shape bags{c.x.shape[0], options_.query.heads * options_.query.knn};
  const Tensor indices = c.query.indices.reshaped(bags), weights = c.query.weights.reshaped(bags);
  const auto [dx, dweights, du, coefficient] =
      compute(device, PeerBackward{.dout = dout.view(),
                                   .u = c.u.view(),
                                   .x = c.x.view(),
                                   .down = down,
                                   .up = up,
                                   .indices = indices.view(),
                                   .weights = weights.view(),
                                   .activation = options_.activation});
  query_.backward(c.query, c.x, dweights, dx, true);
  // The queued rows must outlive the caller's x and dy, which may be written to again.
  const ValueTable::Read of_down{.indices = indices, .weights = du, .dy = float32_copy(c.x)};
  const ValueTable::Read of_up{
      .indices = indices, .weights = coefficient, .dy = float32_copy(dout)};
  down_->push(of_down);
  up_->push(of_up);
  batch.commit();
  return dx.reshaped(c.input_shape);
}

}  // namespace ml
