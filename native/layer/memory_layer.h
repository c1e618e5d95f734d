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
  int64_t value_dim = 0;  // of whole rows, where the table has some of their columns; 0: its own
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
  std::vector<Tensor> kept;  // of a table whose columns are divided among ranks
  Tensor dx, da;             // between the parts of a backward
  bool dx_written = false;
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
  Tensor backward(MemoryContext& context, const Tensor& dy);

  // Their parts. A forward looks up, reads the rows, y [T, V], and finishes; a backward makes dy
  // from dout, adds the read to the table, and ends with what the lookup's weights are due. What
  // the gate makes of x needs no rows, nor does what its gradient is: they come meanwhile.
  std::unique_ptr<MemoryContext> look_up(const Tensor& x, bool save);
  void gate(MemoryContext& context) const;
  Tensor finish(MemoryContext& context, const Tensor& y, bool save);
  Tensor backward_rows(MemoryContext& context, const Tensor& dout);
  void backward_gate(MemoryContext& context) const;
  Tensor backward_lookup(MemoryContext& context, const Tensor& dweights);
  Shape bags(const MemoryContext& context) const {
    return {context.x.shape[0], options_.query.heads * options_.query.knn};
  }
  Tensor usage() const { return query_.usage(); }
  uint64_t id() const { return id_; }
  std::vector<Parameter*> parameters();
  Device& device() const { return *device_; }

 private:
  const uint64_t id_ = new_layer_id();
  Tensor linear(const Tensor& x, const Parameter& weight, const Parameter& bias) const;
  void linear_backward(const Tensor& dx, bool accumulate, const Tensor& dy, const Tensor& x,
                       const Parameter& weight, const Parameter& bias) const;

  std::shared_ptr<Device> device_;
  MemoryLayerOptions options_;
  std::shared_ptr<ValueTable> values_;
  Initializer init_;
  Query query_;
  Parameter gate_weight_, gate_bias_, proj_weight_, proj_bias_, out_gate_weight_, out_gate_bias_;
};

}  // namespace ml
