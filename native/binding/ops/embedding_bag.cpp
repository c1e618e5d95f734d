// The weighted embedding bag and its gradients.

#include "binding/exports.h"

namespace ml::binding {
namespace {

Napi::Value embedding_bag(Arguments& a) {
  const Tensor out = a.optional_output("out"), table = a.tensor("table"),
               indices = a.tensor("indices"), weights = a.tensor("weights"),
               offsets = a.optional_tensor("offsets"), scales = a.optional_tensor("scales");
  const EmbeddingBag args{.table = table.view(),
                          .indices = indices.view(),
                          .weights = weights.view(),
                          .offsets = offsets.view(),
                          .scales = scales.view()};
  return to_js(a.env(), compute(table.device(), args, {out}));
}

// (out.dWeights, dy, table, indices, weights, offsets, scales, wants weights, wants table)
Napi::Value embedding_bag_backward(Arguments& a) {
  const Tensor out_weights = a.optional_output("out.dWeights");
  const Tensor dy = a.tensor("dy"), table = a.tensor("table"), indices = a.tensor("indices"),
               weights = a.tensor("weights"), offsets = a.optional_tensor("offsets"),
               scales = a.optional_tensor("scales");
  const bool wants_weights = a.boolean("wantsWeights"), wants_table = a.boolean("wantsTable");
  const char* op = "embeddingBagBackward";
  expect_rank(op, "table", table.view(), 2, "[slots, dim]");
  const TableRead read{.indices = indices.view(),
                       .weights = weights.view(),
                       .dy = dy.view(),
                       .offsets = offsets.view()};
  check_reads(op, {read}, table.shape[1]);
  expect(
      !wants_table || !scales, Code::unsupported, op, "needs.table",
      "be false for a table with scales", "true",
      "An int8 table is read only; its weights' gradient is there with needs: { table: false }.");
  if (wants_table) expect_apart(op, "out.dWeights", out_weights.view(), "weights", weights.view());
  Napi::Object result = Napi::Object::New(a.env());
  if (wants_weights) {
    const EmbeddingBagWeightsBackward args{.dy = dy.view(),
                                           .table = table.view(),
                                           .indices = indices.view(),
                                           .offsets = offsets.view(),
                                           .scales = scales.view()};
    result.Set("dWeights", to_js(a.env(), compute(table.device(), args, {out_weights})));
  }
  if (wants_table) {
    const ValueTable::Read read{indices, weights, dy, offsets};
    const SparseGrad dtable =
        sparse_grad(table.device(), {&read, 1}, table.shape[0], table.shape[1]);
    result.Set("dTable", to_js(a.env(), dtable));
  }
  return result;
}

Napi::Value sparse_to_dense(Arguments& a) {
  const Tensor rows = a.tensor("rows"), values = a.tensor("values"), count = a.tensor("count");
  const SparseGradToDense args{.values = values.view(),
                               .rows = rows.view(),
                               .count = count.view(),
                               .slots = a.integer("slots")};
  return to_js(a.env(), compute(rows.device(), args));
}

}  // namespace

void define_embedding_bag(Napi::Object exports) {
  define<embedding_bag>(exports, "embeddingBag");
  define<embedding_bag_backward>(exports, "embeddingBagBackward");
  define<sparse_to_dense>(exports, "sparseToDense", "SparseGrad.toDense");
}

}  // namespace ml::binding
