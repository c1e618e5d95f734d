#pragma once
// The half that memory layers and PEER share: x -> query -> product-key lookup, forward and
// backward.

#include <vector>

#include "layer/parameter.h"

namespace ml {

struct QueryOptions {
  int64_t input_dim = 0, heads = 4, knn = 32, n_keys = 1024, key_dim = 512;
  bool bias = true;
  bool rms_norm = false;
  uint64_t seed = 0;
};

// What one lookup leaves behind for its backward.
struct QueryContext {
  Tensor raw, query;  // before and after the norm, [T, H, 2, d]; the same tensor without a norm
  Tensor scores, indices, weights;
};

class Query {
 public:
  Query(Device& device, const QueryOptions& options, Initializer& init);

  QueryContext forward(const Tensor& x) const;  // x [T, C]
  // dx is written, or added to when `accumulate`.
  void backward(const QueryContext& context, const Tensor& x, const Tensor& dweights,
                const Tensor& dx, bool accumulate);
  std::vector<Parameter*> parameters();

  const QueryOptions options;

 private:
  Device& device_;
  Parameter keys_, weight_, bias_, gain_;
};

}  // namespace ml
