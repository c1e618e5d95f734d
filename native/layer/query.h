#pragma once
// What memory layers and PEER layers share: the query projection and the product-key lookup.
//   raw   = x W^T + b                                     x [T, C], raw [T, H * 2 * d]
//   query = rmsNorm(raw of each head) * gain, or raw      [T, H, 2, d]
//   scores, indices, weights = lookup(query, keys)        [T, H, k], softmax weights

#include <vector>

#include "layer/saved_reads.h"

namespace ml {

struct QueryOptions {
  int64_t input_dim = 0, heads = 4, knn = 32, n_keys = 1024, key_dim = 512;
  bool bias = true;
  bool rms_norm = false;
  uint64_t seed = 0;
  Compute compute = Compute::float32;  // of all products of the layer
};

// Saved by forward for backward.
struct QueryContext {
  Tensor raw, query;
  Tensor scores, indices, weights;
};

// The rows of x [T, C] or [batch, time, C] as [T, C]; throws ERR_SHAPE in the layer's name.
Tensor token_rows(const char* where, const char* argument, const Tensor& x, int64_t width,
                  const char* option);

class Query {
 public:
  Query(Device& device, const QueryOptions& options, Initializer& init);

  QueryContext forward(const Tensor& x) const;  // x [T, C]
  // dx is written, or added to when `accumulate`.
  void backward(const QueryContext& context, const Tensor& x, const Tensor& dweights,
                const Tensor& dx, bool accumulate);
  std::vector<Parameter*> parameters();
  void add_reads(SavedReads& reads) const;  // the parameters that backward reads
  // Counts the slots that a forward read, for usage().
  void count_reads(const QueryContext& context) const;
  Tensor usage() const;  // [8] int32: SlotStatistics (ops/slot_usage.h) since the last call

  const QueryOptions options;

 private:
  Device& device_;
  Parameter keys_, weight_, bias_, gain_;
  Tensor reads_;  // [n_keys^2] int32
};

}  // namespace ml
