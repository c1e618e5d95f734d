#pragma once
// A value table, and the queue of its reads: what its gradient is made of when the optimizer steps.
// Layers that share a table queue their reads here. A table is never updated inside a backward
// pass, since the backward of an earlier layer still needs the old rows. The queue stays until
// clear(). It owns copies of the indices and weights of its reads; a read that is void counts for
// nothing (ops/queue_read.h). Layers that read the rows as a matrix (tied output heads) add to the
// dense part of the gradient, which counts as one read of every row.

#include <memory>
#include <span>
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

class ValueTable : public std::enable_shared_from_this<ValueTable> {
 public:
  struct Read {
    Tensor indices, weights, dy, offsets;
    bool queued = false;  // where dy is void all indices are -1
    bool dense = false;   // of every row with weight 1
  };

  ValueTable(Tensor weight, Tensor scales)
      : weight_(std::move(weight)), scales_(std::move(scales)) {}

  const Tensor& weight() const { return weight_; }
  const Tensor& scales() const { return scales_; }  // int8 only
  Device& device() const { return weight_.device(); }
  int64_t slots() const { return weight_.shape[0]; }
  int64_t dim() const { return weight_.shape[1]; }

  bool read_only() const { return weight_.dtype == DType::i8 || weight_.storage->read_only(); }

  // Nothing for a read-only table, which no optimizer updates. `dy` must not be written to later.
  void push(const Read& read);
  // The dense part, [N, V] float32: made as zeros at the first call, kept until dispose(). Work
  // that adds to it counts from dense_added() on.
  const Tensor& dense_gradient();
  void dense_added();
  void clear();  // zeroGrad
  // In the order of the pushes, without those that are known to be void; then the dense part, if it
  // was added to. What is done to the weights, such as clipping, is done to the queue.
  std::vector<Read> pending();
  // The pending reads, without the dense part, which are pending no more: for a queue of more.
  std::vector<Read> take();
  bool has_dense() const { return has_dense_; }
  // Of the pending reads. They are sorted once, for clipping and the step, until others are
  // pending.
  TouchedRows touched_rows();
  void dispose() { *this = ValueTable(Tensor{}, Tensor{}); }
  // The rows, for a layer that reads them; ERR_DISPOSED after dispose().
  const Tensor& live_weight(const char* where) const {
    if (!weight_)
      throw Error(Code::disposed, std::string(where) +
                                      ": the layer's value table was disposed.\n  Dispose a shared "
                                      "table after the layers that read it.");
    return weight_;
  }
  // The rows of a table with exact values of its own (layer/exact_rows.h).
  const Tensor& trained_weight(const char* where) const {
    if (!live_weight(where).storage->exact)
      throw Error(Code::unsupported, std::string(where) + ": no optimizer trains this table.");
    return weight_;
  }

 private:
  struct QueuedRead {
    Read read;
    OutcomePtr outcome;  // of the push
  };
  // The touched rows of `reads`, which own the memory that they were sorted from.
  struct Sorted {
    std::vector<Read> reads;
    TouchedRows rows;
  };
  void queue(const Read& read, const Read& queued);

  Tensor weight_, scales_;
  std::vector<QueuedRead> queue_;
  Read dense_;
  bool has_dense_ = false;  // since clear()
  Sorted sorted_;
};

TouchedRows find_touched_rows(Device& device, std::span<const ValueTable::Read> reads,
                              int64_t slots);
SparseGrad sparse_grad(Device& device, std::span<const ValueTable::Read> reads, int64_t slots,
                       int64_t dim);

}  // namespace ml
