#include "layer/query.h"

#include <atomic>
#include <cmath>

namespace ml {

uint64_t new_layer_id() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

Tensor token_rows(const char* where, const char* argument, const Tensor& x, int64_t width,
                  const char* option) {
  const int rank = x.shape.rank;
  const std::string w = std::to_string(width);
  if ((rank != 2 && rank != 3) || x.shape[-1] != width)
    fail(Code::shape, where, argument, "have shape [tokens, " + w + "] or [batch, time, " + w + "]",
         to_string(x.shape), "This layer was made with " + std::string(option) + " " + w + ".");
  if (x.dtype != DType::f32) fail(Code::dtype, where, argument, "be float32", name_of(x.dtype));
  int64_t rows = 1;
  for (int i = 0; i + 1 < rank; ++i) rows *= x.shape[i];
  return x.reshaped({rows, width});
}

Query::Query(Device& device, const QueryOptions& o, Initializer& init)
    : options(o), device_(device) {
  expect_valid("layer", "query projection", {o.heads, o.key_dim, o.input_dim});
  expect_valid("layer", "keys", {o.heads, o.key_dim, o.n_keys});
  expect_valid("layer", "lookup", {o.heads, o.knn});
  const int64_t half = o.key_dim / 2;
  const float bound = 1.0f / std::sqrt(static_cast<float>(o.input_dim));
  keys_ = init.uniform("keys", {o.heads, 2, o.n_keys, half},
                       1.0f / std::sqrt(static_cast<float>(o.key_dim)));
  weight_ =
      init.uniform("query_proj.query_mlps.0.weight", {o.heads * o.key_dim, o.input_dim}, bound);
  if (o.bias) bias_ = init.uniform("query_proj.query_mlps.0.bias", {o.heads * o.key_dim}, bound);
  if (o.rms_norm) gain_ = init.constant("query_norm.weight", {o.key_dim}, 1);
  reads_ = zeros(device, {o.n_keys * o.n_keys}, DType::i32);
}

std::vector<Parameter*> Query::parameters() {
  std::vector<Parameter*> list{&keys_, &weight_};
  if (bias_) list.push_back(&bias_);
  if (gain_) list.push_back(&gain_);
  return list;
}

void Query::add_reads(SavedReads& reads) const {
  for (const Parameter* p : {&keys_, &weight_, &gain_}) reads.add(*p);
}

QueryContext Query::forward(const Tensor& x) const {
  const int64_t T = x.shape[0], H = options.heads;
  const Shape per_head{T * H, options.key_dim}, halves{T, H, 2, options.key_dim / 2};
  QueryContext c;
  c.raw = compute(device_, Linear{.x = x.view(),
                                  .weight = weight_.value.view(),
                                  .bias = bias_.value.view(),
                                  .compute = options.compute});
  c.query = c.raw;
  if (gain_)
    c.query =
        compute(device_, RmsNorm{.x = c.raw.reshaped(per_head).view(), .gain = gain_.value.view()});
  c.query = c.query.reshaped(halves);
  const auto [scores, indices, weights] =
      compute(device_, ProductKeyLookup{.query = c.query.view(),
                                        .keys = keys_.value.view(),
                                        .k = options.knn,
                                        .compute = options.compute});
  c.scores = scores;
  c.indices = indices;
  c.weights = weights;
  return c;
}

void Query::count_reads(const QueryContext& c) const {
  run(device_, CountReads{.counts = reads_.view(),
                          .batches = {},
                          .marks = {},
                          .total = {},
                          .indices = c.indices.view()});
}

Tensor Query::usage() const {
  Batch batch(device_);
  const Tensor stats = empty(device_, {2 * kSlotStatistics}, DType::i32);
  run(device_, SlotUsage{.stats = stats.view(), .counts = reads_.view()});
  batch.commit();
  return stats;
}

void Query::backward(const QueryContext& c, const Tensor& x, const Tensor& dweights,
                     const Tensor& dx, bool accumulate) {
  const int64_t T = x.shape[0], H = options.heads;
  const Shape per_head{T * H, options.key_dim}, rows{T, H * options.key_dim};
  const View dw = dweights.reshaped(c.weights.shape).view();
  Tensor dquery = empty(device_, c.query.shape);
  run(device_, ProductKeyLookupBackward{.dquery = dquery.view(),
                                        .dkeys = keys_.grad.view(),
                                        .dweights = dw,
                                        .scores = c.scores.view(),
                                        .indices = c.indices.view(),
                                        .weights = c.weights.view(),
                                        .query = c.query.view(),
                                        .keys = keys_.value.view(),
                                        .compute = options.compute});
  if (gain_) {
    const Tensor d_raw = empty(device_, per_head);
    run(device_, RmsNormBackward{.dx = d_raw.view(),
                                 .dgain = gain_.grad.view(),
                                 .dy = dquery.reshaped(per_head).view(),
                                 .x = c.raw.reshaped(per_head).view(),
                                 .gain = gain_.value.view()});
    dquery = d_raw;
  }
  const View sum = dx.view();
  run(device_,
      LinearBackward{.dx = sum,
                     .dweight = weight_.grad.view(),
                     .dbias = bias_.grad.view(),
                     .dy = dquery.reshaped(rows).view(),
                     .x = x.view(),
                     .weight = weight_.value.view(),
                     .accumulate_dx = accumulate,
                     .compute = options.compute},
      {&sum, 1});
}

}  // namespace ml
