#pragma once
// Parameter-efficient expert retrieval (He 2024) over product keys: the query and the lookup of a
// memory layer, with two tables in place of one (ops/peer.h).
//   out = sum over the selected slots l of weight_l * f(<x, down_l>) * up_l

#include <memory>

#include "layer/query.h"
#include "layer/value_table.h"

namespace ml {

struct PeerLayerOptions {
  QueryOptions query;
  Activation activation = Activation::gelu;
};

struct PeerContext {
  uint64_t layer = 0;  // id of its layer
  SavedReads reads;
  Shape input_shape;
  Tensor x, u;
  QueryContext query;
};

class PeerLayer {
 public:
  PeerLayer(std::shared_ptr<Device> device, const PeerLayerOptions& options,
            std::shared_ptr<ValueTable> down, std::shared_ptr<ValueTable> up);

  struct Result {
    Tensor output;
    std::unique_ptr<PeerContext> context;
  };
  Result forward(const Tensor& x, bool save);
  Tensor backward(const PeerContext& context, const Tensor& dy);
  Tensor usage() const { return query_.usage(); }
  uint64_t id() const { return id_; }
  std::vector<Parameter*> parameters() { return query_.parameters(); }
  Device& device() const { return *device_; }

 private:
  const uint64_t id_ = new_layer_id();
  std::shared_ptr<Device> device_;
  PeerLayerOptions options_;
  std::shared_ptr<ValueTable> down_, up_;
  Initializer init_;
  Query query_;
};

}  // namespace ml
