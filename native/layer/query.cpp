#include "layer/query.h"

#include <cmath>

namespace ml {

Query::Query(Device& device, const QueryOptions& o, Initializer& init)
    : options(o), device_(device) {
  const int64_t half = o.key_dim / 2;
  const float bound = 1.0f / std::sqrt(static_cast<float>(o.input_dim));
  keys_ = init.uniform("keys", {o.heads, 2, o.n_keys, half},
                       1.0f / std::sqrt(static_cast<float>(o.key_dim)));
  weight_ =
      init.uniform("query_proj.query_mlps.0.weight", {o.heads * o.key_dim, o.input_dim}, bound);
  if (o.bias) bias_ = init.uniform("query_proj.query_mlps.0.bias", {o.heads * o.key_dim}, bound);
  if (o.rms_norm) gain_ = init.constant("query_norm.weight", {o.key_dim}, 1);
}

std::vector<Parameter*> Query::parameters() {
  std::vector<Parameter*> list{&keys_, &weight_};
  if (bias_) list.push_back(&bias_);
  if (gain_) list.push_back(&gain_);
  return list;
}

QueryContext Query::forward(const Tensor& x) const {
  const int64_t T = x.shape[0], H = options.heads, k = options.knn;
  const Shape per_head{T * H, options.key_dim}, halves{T, H, 2, options.key_dim / 2};
  QueryContext c;
  c.raw = empty(device_, {T, H * options.key_dim});
  run(device_, Linear{c.raw.view(), x.view(), weight_.value.view(), bias_.value.view()});
  c.query = c.raw;
  if (gain_) {
    c.query = empty(device_, per_head);
    run(device_, RmsNorm{c.query.view(), c.raw.reshaped(per_head).view(), gain_.value.view()});
  }
  c.query = c.query.reshaped(halves);
  c.scores = empty(device_, {T, H, k});
  c.indices = empty(device_, {T, H, k}, DType::i32);
  c.weights = empty(device_, {T, H, k});
  run(device_, ProductKeyLookup{c.scores.view(),
                                c.indices.view(),
                                c.weights.view(),
                                c.query.view(),
                                keys_.value.view(),
                                {},
                                Gate::softmax});
  return c;
}

void Query::backward(const QueryContext& c, const Tensor& x, const Tensor& dweights,
                     const Tensor& dx, bool accumulate) {
  const int64_t T = x.shape[0], H = options.heads;
  const Shape per_head{T * H, options.key_dim}, rows{T, H * options.key_dim};
  Tensor dquery = empty(device_, c.query.shape);
  run(device_, ProductKeyLookupBackward{dquery.view(), keys_.grad.view(),
                                        dweights.reshaped(c.weights.shape).view(), c.scores.view(),
                                        c.indices.view(), c.weights.view(), c.query.view(),
                                        keys_.value.view(), Gate::softmax});
  if (gain_) {
    Tensor draw = empty(device_, per_head);
    run(device_, RmsNormBackward{draw.view(), gain_.grad.view(), dquery.reshaped(per_head).view(),
                                 c.raw.reshaped(per_head).view(), gain_.value.view()});
    dquery = draw;
  }
  run(device_,
      LinearBackward{dx.view(), weight_.grad.view(), bias_.grad.view(),
                     dquery.reshaped(rows).view(), x.view(), weight_.value.view(), accumulate});
}

}  // namespace ml
