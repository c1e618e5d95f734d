#pragma once
// The memory layer (Berges et al. 2024, section 2): composition only.
//   y   = bag(values, lookup(query(x)))      the embedding bag over the value table
//   z   = y * silu(W1 x + b1)                silu gate of Memory+, an option
//   out = W2 z + b2                          value projection
//   out = out * sigmoid(w . x + b)           output gate, an option
// The projection is there with the silu gate, or where the value width is not the output width.

#include <memory>

#include "layer/query.h"
#include "layer/value_table.h"

namespace ml {

struct MemoryLayerOptions {
  QueryOptions query;
  int64_t output_dim = 0;
  bool silu_gate = true;
  bool output_gate = false;
};

// Saved by forward, spent by backward.
struct MemoryContext {
  uint64_t layer = 0;  // id of its layer
  SavedReads reads;
  Shape input_shape;
  Tensor x, y, a, z, out, g;  // a, z: silu gate; out, g: output gate
  QueryContext query;
};

struct ForwardResult {
  Tensor output;
  std::unique_ptr<MemoryContext> context;  // nullptr from infer
};

class MemoryLayer {
 public:
  MemoryLayer(std::shared_ptr<Device> device, const MemoryLayerOptions& options,
              std::shared_ptr<ValueTable> values);

  ForwardResult forward(const Tensor& x, bool save);  // x [T, C] or [batch, time, C]
  Tensor backward(const MemoryContext& context, const Tensor& dy);
  Tensor usage() const { return query_.usage(); }
  uint64_t id() const { return id_; }
  std::vector<Parameter*> parameters();
  Device& device() const { return *device_; }

 private:
  const uint64_t id_ = new_layer_id();
  std::shared_ptr<Device> device_;
  MemoryLayerOptions options_;
  std::shared_ptr<ValueTable> values_;
  Initializer init_;
  Query query_;
  Parameter gate_weight_, gate_bias_, proj_weight_, proj_bias_, out_gate_weight_, out_gate_bias_;
};

}  // namespace ml
