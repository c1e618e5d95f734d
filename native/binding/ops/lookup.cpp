// Product-key lookup, and the scores and the top k that it is made of.

#include "binding/exports.h"

namespace ml::binding {
namespace {

Napi::Value product_key_scores(Arguments& a) {
  const Tensor out = a.optional_output("out"), query = a.tensor("query"), keys = a.tensor("keys");
  const ProductKeyScores args{.query = query.view(), .keys = keys.view()};
  return to_js(a.env(), compute(query.device(), args, {out}));
}

Napi::Value topk(Arguments& a) {
  const Tensor out_values = a.optional_output("out.values"),
               out_indices = a.optional_output("out.indices"), x = a.tensor("x");
  const auto [values, indices] =
      compute(x.device(), TopK{.x = x.view(), .k = a.integer("k")}, {out_values, out_indices});
  return to_js(a.env(), {{"values", values}, {"indices", indices}});
}

Napi::Value product_key_lookup(Arguments& a) {
  const Tensor out_scores = a.optional_output("out.scores"),
               out_indices = a.optional_output("out.indices"),
               out_weights = a.optional_output("out.weights");
  const Tensor query = a.tensor("query"), keys = a.tensor("keys"), mask = a.optional_tensor("mask");
  const auto [scores, indices, weights] =
      compute(query.device(),
              ProductKeyLookup{.query = query.view(),
                               .keys = keys.view(),
                               .mask = mask.view(),
                               .k = a.integer("knn"),
                               .gate = a.choice<Gate>("gate"),
                               .compute = a.choice<Compute>("compute")},
              {out_scores, out_indices, out_weights});
  return to_js(a.env(), {{"scores", scores}, {"indices", indices}, {"weights", weights}});
}

Napi::Value product_key_lookup_backward(Arguments& a) {
  const Tensor out_query = a.optional_output("out.dQuery"),
               out_keys = a.optional_output("out.dKeys");
  const Tensor dweights = a.tensor("dWeights"), scores = a.tensor("lookup.scores"),
               indices = a.tensor("lookup.indices"), weights = a.tensor("lookup.weights"),
               query = a.tensor("query"), keys = a.tensor("keys");
  const auto [dquery, dkeys] =
      compute(query.device(),
              ProductKeyLookupBackward{.dweights = dweights.view(),
                                       .scores = scores.view(),
                                       .indices = indices.view(),
                                       .weights = weights.view(),
                                       .query = query.view(),
                                       .keys = keys.view(),
                                       .gate = a.choice<Gate>("gate"),
                                       .compute = a.choice<Compute>("compute")},
              {out_query, out_keys});
  return to_js(a.env(), {{"dQuery", dquery}, {"dKeys", dkeys}});
}

// (counts, batches, marks, total, touched and sums of a SlotCounter, indices, number of the batch)
Napi::Value count_reads(Arguments& a) {
  const Tensor counts = a.tensor("reads"), batches = a.tensor("batches"), marks = a.tensor("marks"),
               total = a.tensor("total"), touched = a.tensor("touched"), sums = a.tensor("sums"),
               indices = a.tensor("indices");
  run(counts.device(), CountReads{.counts = counts.view(),
                                  .batches = batches.view(),
                                  .marks = marks.view(),
                                  .total = total.view(),
                                  .touched = touched.view(),
                                  .sums = sums.view(),
                                  .indices = indices.view(),
                                  .batch = a.integer("batch")});
  return a.undefined();
}

// (touched and sums of a SlotCounter, its counts)
Napi::Value list_reads(Arguments& a) {
  const Tensor touched = a.tensor("touched"), sums = a.tensor("sums"), counts = a.tensor("reads");
  run(counts.device(),
      ListReads{.touched = touched.view(), .sums = sums.view(), .counts = counts.view()});
  return a.undefined();
}

// (table, rows): the bits of its rows, uint8 [R, bytes of a row]
Napi::Value read_rows(Arguments& a) {
  const Tensor table = a.tensor("table"), rows = a.tensor("rows");
  return to_js(a.env(),
               compute(table.device(), ReadRows{.table = table.view(), .rows = rows.view()}));
}

}  // namespace

void define_lookup(Napi::Object exports) {
  define<product_key_scores>(exports, "productKeyScores");
  define<topk>(exports, "topK");
  define<count_reads>(exports, "countReads", "SlotCounter.add");
  define<list_reads>(exports, "listReads", "SlotCounter.loadStateDict");
  define<read_rows>(exports, "readRows");
  define<product_key_lookup>(exports, "productKeyLookup");
  define<product_key_lookup_backward>(exports, "productKeyLookupBackward");
}

}  // namespace ml::binding
