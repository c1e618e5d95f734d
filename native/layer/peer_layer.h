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
  int64_t output_dim = 0;  // of whole rows, where `up` has some of their columns; 0: its own
  Activation activation = Activation::gelu;
};

struct PeerContext {
  uint64_t layer = 0;  // id of its layer
  SavedReads reads;
  Shape input_shape;
  Tensor x, u;
  QueryContext query;
  std::vector<Tensor> kept;  // of tables whose columns are divided among ranks
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
  Tensor backward(PeerContext& context, const Tensor& dy);

  // Their parts, for tables whose columns are divided among ranks: the reads are the caller's.
  std::unique_ptr<PeerContext> look_up(const Tensor& x, bool save);
  void save(PeerContext& context);
  Tensor backward_rows(const PeerContext& context, const Tensor& dy) const;
  // Adds to dx.
  Tensor backward_lookup(const PeerContext& context, const Tensor& dweights, const Tensor& dx);
  Shape bags(const PeerContext& context) const {
    return {context.x.shape[0], options_.query.heads * options_.query.knn};
  }
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
