// Value tables and the reads that are queued in them.

#include "binding/exports.h"
#include "layer/exact_rows.h"

namespace ml::binding {
namespace {

// (weight, scales or undefined)
Napi::Value table_create(Arguments& a) {
  const Tensor weight = a.tensor("weight"), scales = a.optional_tensor("scales");
  expect_rank("ValueTable", "weight", weight.view(), 2, "[slots, dim]");
  return wrap(a.env(), TableBox{std::make_shared<ValueTable>(weight, scales)});
}

Napi::Value table_gradient(Arguments& a) {
  const auto table = a.table("table");
  table->live_weight("ValueTable.gradient");
  return to_js(a.env(),
               sparse_grad(table->device(), table->pending(), table->slots(), table->dim()));
}

// (table): the dense part of its gradient
Napi::Value table_dense(Arguments& a) { return to_js(a.env(), a.table("table")->dense_gradient()); }

// (table): the dense part was added to
Napi::Value table_dense_added(Arguments& a) {
  a.table("table")->dense_added();
  return a.undefined();
}

// (table, indices, weights, dy, offsets or undefined): queues a read of bags as a layer's backward
// does.
Napi::Value table_push(Arguments& a) {
  const auto table = a.table("table");
  const Tensor indices = a.tensor("indices"), weights = a.tensor("weights"), dy = a.tensor("dy"),
               offsets = a.optional_tensor("offsets");
  if (&table->live_weight("tablePush").device() != &indices.device())
    throw Error(Code::device_mismatch, "tablePush: the read is on another device than the table.");
  const TableRead read{.indices = indices.view(),
                       .weights = weights.view(),
                       .dy = dy.view(),
                       .offsets = offsets.view()};
  check_reads("tablePush", {read}, table->dim());
  table->push({.indices = indices, .weights = weights, .dy = dy, .offsets = offsets});
  return a.undefined();
}

// (table): takes the reads out of its queue; with the dense part of its gradient, if it counts.
Napi::Value table_take(Arguments& a) {
  const auto table = a.table("table");
  table->live_weight("tableTake");
  Napi::Array reads = Napi::Array::New(a.env());
  for (const ValueTable::Read& r : table->take())
    reads.Set(
        reads.Length(),
        to_js(
            a.env(),
            {{"indices", r.indices}, {"weights", r.weights}, {"dy", r.dy}, {"offsets", r.offsets}},
            false));
  Napi::Object taken = Napi::Object::New(a.env());
  taken.Set("reads", reads);
  if (table->has_dense()) taken.Set("dense", to_js(a.env(), table->dense_gradient(), false));
  return taken;
}

// The exact values of a 16-bit table that an optimizer trains, in a new float32 tensor.
Napi::Value table_exact(Arguments& a) {
  const auto table = a.table("table");
  return to_js(a.env(), exact_values(table->trained_weight("tableExact")));
}

// (table, values): the exact values where they round to what the table holds
Napi::Value table_set_exact(Arguments& a) {
  const auto table = a.table("table");
  const Tensor values = a.tensor("values"), weight = table->trained_weight("tableSetExact");
  expect_float32("tableSetExact", "values", values.view(), weight.shape);
  set_exact_values(weight, values);
  return a.undefined();
}

Napi::Value table_clear(Arguments& a) {
  a.table("table")->clear();
  return a.undefined();
}

Napi::Value table_dispose(Arguments& a) {
  unwrap<TableBox>(a.next(), "table").table->dispose();
  return a.undefined();
}

Napi::Value table_pending(Arguments& a) {
  return to_js(a.env(), static_cast<int64_t>(a.table("table")->pending().size()));
}

}  // namespace

void define_value_table(Napi::Object exports) {
  define<table_create>(exports, "tableCreate", "ValueTable");
  define<table_gradient>(exports, "tableGradient", "ValueTable.gradient");
  define<table_dense>(exports, "tableDense", "ValueTable.gradient");
  define<table_dense_added>(exports, "tableDenseAdded", "ValueTable.gradient");
  define<table_push>(exports, "tablePush", "ValueTable.push");
  define<table_take>(exports, "tableTake", "ValueTable.gradient");
  define<table_exact>(exports, "tableExact", "optimizer.stateDict");
  define<table_set_exact>(exports, "tableSetExact", "optimizer.loadStateDict");
  define<table_clear>(exports, "tableClear", "ValueTable.zeroGrad");
  define<table_dispose, Makes::nothing>(exports, "tableDispose", "ValueTable.dispose");
  define<table_pending>(exports, "tablePending", "ValueTable.pendingReads");
}

}  // namespace ml::binding
