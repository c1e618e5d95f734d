#pragma once
// A value table, and the queue of its reads: what its gradient is made of when the optimizer steps.
// Layers that share a table queue their reads here. A table is never updated inside a backward
// pass, since the backward of an earlier layer still needs the old rows. The queue stays until
// clear().

#include <memory>
#include <vector>

#include "layer/run.h"

namespace ml {

struct SparseGrad {
  Tensor rows, values, count;  // ops/sparse_grad.h
  int64_t slots = 0;
};

// The touched rows of several reads, sorted.
struct TouchedRows {
  Tensor rows, starts, order, count;
  std::vector<TableRead> reads;
};

class ValueTable {
 public:
  struct Read {
    Tensor indices, weights, dy, offsets;
  };

  ValueTable(Tensor weight, Tensor scales)
      : weight_(std::move(weight)), scales_(std::move(scales)) {}

  const Tensor& weight() const { return weight_; }
  const Tensor& scales() const { return scales_; }  // int8 only
  Device& device() const { return weight_.device(); }
  int64_t slots() const { return weight_.shape[0]; }
  int64_t dim() const { return weight_.shape[1]; }

  bool read_only() const { return weight_.dtype == DType::i8 || weight_.storage->read_only(); }

  void push(Read read);         // nothing for a read-only table, which no optimizer updates
  void clear();                 // zeroGrad
  std::vector<Read> pending();  // in the order of the pushes
  void dispose() { *this = ValueTable(Tensor{}, Tensor{}); }
  // The rows, for a layer that reads them; ERR_DISPOSED after dispose().
  const Tensor& live_weight(const char* where) const {
    if (!weight_)
      throw Error(Code::disposed, std::string(where) +
                                      ": the layer's value table was disposed.\n  Dispose a shared "
                                      "table after the layers that read it.");
    return weight_;
  }
  void replace_weights(const std::vector<Tensor>& weights);  // of the pending reads, for clipping

 private:
  struct QueuedRead {
    Read read;
    Ticket pushed = 0;
    Ticket cleared = 0;  // 0: pending
    Tensor unclipped;    // the weights before replace_weights, until that is certain
    Ticket replaced = 0;
  };
  void forget();

  Tensor weight_, scales_;
  std::vector<QueuedRead> queue_;
};

TouchedRows find_touched_rows(Device& device, const std::vector<ValueTable::Read>& reads,
                              int64_t slots);
SparseGrad sparse_grad(Device& device, const std::vector<ValueTable::Read>& reads, int64_t slots,
                       int64_t dim);

}  // namespace ml
