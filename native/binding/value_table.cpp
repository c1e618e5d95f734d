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

// (table): what is written from here on is journaled
Napi::Value table_track(Arguments& a) {
  a.table("table")->track();
  return a.undefined();
}

Napi::Value table_untrack(Arguments& a) {
  a.table("table")->untrack();
  return a.undefined();
}

// (table): its journal, undefined without one
Napi::Value table_journal(Arguments& a) {
  const auto table = a.table("table");
  if (!table->journal()) return a.undefined();
  const RowJournal& journal = *table->journal();
  return to_js(a.env(), {{"rows", journal.rows()},
                         {"bits", journal.bits()},
                         {"exact", journal.exact_bits()},
                         {"count", journal.count()}});
}

// (table): the count of its journal and `added`, undefined without one
Napi::Value table_journal_count(Arguments& a) {
  const auto table = a.table("table");
  if (!table->journal()) return a.undefined();
  const Napi::Value object = to_js(a.env(), {{"count", table->journal()->count()}});
  object.As<Napi::Object>().Set("added", to_js(a.env(), table->journal()->added()));
  return object;
}

// (table, count, rows, added): the journal with this count had so many rows at that time
Napi::Value table_journal_known(Arguments& a) {
  const auto table = a.table("table");
  const Tensor count = a.tensor("count");
  const int64_t rows = a.integer("rows"), added = a.integer("added");
  RowJournal* journal = table->journal().get();
  if (journal && journal->count().storage == count.storage) journal->know(rows, added);
  return a.undefined();
}

// (table, rows): the bits of the rows, and of their exact values if the table has them
Napi::Value table_read_rows(Arguments& a) {
  const auto table = a.table("table");
  const Tensor rows = a.tensor("rows"), weight = table->live_weight("tableReadRows");
  const auto read = [&](const Tensor& t) {
    return t.storage ? compute(t.device(), ReadRows{.table = t.view(), .rows = rows.view()})
                     : Tensor{};
  };
  return to_js(a.env(), {{"bits", read(weight)}, {"exact", read(exact_rows(weight))}});
}

// (table, rows, bits, exact bits if the table has exact values)
Napi::Value table_write_rows(Arguments& a) {
  const auto table = a.table("table");
  const Tensor rows = a.tensor("rows"), bits = a.tensor("bits"),
               exact_bits = a.optional_tensor("exact bits"),
               weight = table->live_weight("tableWriteRows"), exact = exact_rows(weight);
  if (static_cast<bool>(exact.storage) != static_cast<bool>(exact_bits))
    throw Error(Code::value, "binding: \"exact bits\" are those of a table that has exact values.");
  table->expect_write(rows, {});
  run(table->device(), WriteRows{.table = weight.view(),
                                 .exact = exact.view(),
                                 .rows = rows.view(),
                                 .bits = bits.view(),
                                 .exact_bits = exact_bits.view()});
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
  define<table_track>(exports, "tableTrack", "ValueTable.track");
  define<table_untrack>(exports, "tableUntrack", "ValueTable.untrack");
  define<table_journal>(exports, "tableJournal", "ValueTable.diff");
  define<table_journal_count>(exports, "tableJournalCount", "optimizer.step");
  define<table_journal_known>(exports, "tableJournalKnown", "ValueTable.diff");
  define<table_read_rows>(exports, "tableReadRows", "RowPatch");
  define<table_write_rows>(exports, "tableWriteRows", "RowPatch");
  define<table_clear>(exports, "tableClear", "ValueTable.zeroGrad");
  define<table_dispose, Makes::nothing>(exports, "tableDispose", "ValueTable.dispose");
  define<table_pending>(exports, "tablePending", "ValueTable.pendingReads");
}

}  // namespace ml::binding
