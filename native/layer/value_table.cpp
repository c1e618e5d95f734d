#include "layer/value_table.h"

namespace ml {

// The queue follows the stream: a push, a clear or a clipping that was part of voided work is
// undone.
void ValueTable::forget() {
  if (!weight_) return;
  const Stream& stream = device().stream();
  const bool certain = !stream.faulted();
  std::erase_if(queue_, [&](const Entry& e) {
    if (stream.voided(e.pushed)) return true;
    return certain && e.cleared != 0 && stream.completed() >= e.cleared &&
           !stream.voided(e.cleared);
  });
  for (Entry& e : queue_) {
    if (stream.voided(e.cleared)) e.cleared = 0;
    if (stream.voided(e.replaced)) e.read.weights = e.unclipped;
    if (stream.voided(e.replaced) || (certain && stream.completed() >= e.replaced)) {
      e.unclipped = {};
      e.replaced = 0;
    }
  }
}

void ValueTable::push(Read read) {
  if (read_only()) return;
  forget();
  queue_.push_back({.read = std::move(read), .pushed = device().stream().submitted()});
}

void ValueTable::clear() {
  forget();
  if (queue_.empty()) return;
  // a ticket of its own, so that a fault before it is seen to be before it
  device().stream().always([] {});
  for (Entry& e : queue_)
    if (e.cleared == 0) e.cleared = device().stream().submitted();
  forget();
}

std::vector<ValueTable::Read> ValueTable::pending() {
  forget();
  std::vector<Read> reads;
  for (const Entry& e : queue_)
    if (e.cleared == 0) reads.push_back(e.read);
  return reads;
}

void ValueTable::replace_weights(const std::vector<Tensor>& weights) {
  size_t i = 0;
  for (Entry& e : queue_)
    if (e.cleared == 0) {
      if (!e.unclipped) e.unclipped = e.read.weights;
      e.read.weights = weights[i++];
      e.replaced = device().stream().submitted();
    }
}

TouchedRows touched_rows(Device& device, const std::vector<ValueTable::Read>& reads,
                         int64_t slots) {
  std::vector<TableRead> views;
  for (const ValueTable::Read& r : reads)
    views.push_back({.indices = r.indices.view(),
                     .weights = r.weights.view(),
                     .dy = r.dy.view(),
                     .offsets = r.offsets.view()});
  const auto [rows, starts, order, count] =
      compute(device, SortRows{.reads = views, .slots = slots});
  return {rows, starts, order, count, std::move(views)};
}

SparseGrad sparse_grad(Device& device, const std::vector<ValueTable::Read>& reads, int64_t slots,
                       int64_t dim) {
  const TouchedRows t = touched_rows(device, reads, slots);
  const Tensor values = compute(device, SparseGradValues{.rows = t.rows.view(),
                                                         .starts = t.starts.view(),
                                                         .order = t.order.view(),
                                                         .count = t.count.view(),
                                                         .reads = t.reads,
                                                         .width = dim});
  return {t.rows, values, t.count, slots};
}

}  // namespace ml
