#include "layer/value_table.h"

namespace ml {

// The queue follows the stream: a push, a clear or a clipping that was part of voided work is
// undone.
void ValueTable::forget() {
  if (!weight_) return;
  const Stream& stream = device().stream();
  const bool certain = !stream.faulted();
  std::erase_if(queue_, [&](const QueuedRead& q) {
    if (stream.voided(q.pushed)) return true;
    return certain && q.cleared != 0 && stream.completed() >= q.cleared &&
           !stream.voided(q.cleared);
  });
  for (QueuedRead& q : queue_) {
    if (stream.voided(q.cleared)) q.cleared = 0;
    if (stream.voided(q.replaced)) q.read.weights = q.unclipped;
    if (stream.voided(q.replaced) || (certain && stream.completed() >= q.replaced)) {
      q.unclipped = {};
      q.replaced = 0;
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
  for (QueuedRead& q : queue_)
    if (q.cleared == 0) q.cleared = device().stream().submitted();
  forget();
}

std::vector<ValueTable::Read> ValueTable::pending() {
  forget();
  std::vector<Read> reads;
  for (const QueuedRead& q : queue_)
    if (q.cleared == 0) reads.push_back(q.read);
  return reads;
}

void ValueTable::replace_weights(const std::vector<Tensor>& weights) {
  size_t i = 0;
  for (QueuedRead& q : queue_)
    if (q.cleared == 0) {
      if (!q.unclipped) q.unclipped = q.read.weights;
      q.read.weights = weights[i++];
      q.replaced = device().stream().submitted();
    }
}

TouchedRows find_touched_rows(Device& device, const std::vector<ValueTable::Read>& reads,
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
  const TouchedRows t = find_touched_rows(device, reads, slots);
  const Tensor values = compute(device, SparseGradValues{.rows = t.rows.view(),
                                                         .starts = t.starts.view(),
                                                         .order = t.order.view(),
                                                         .count = t.count.view(),
                                                         .reads = t.reads,
                                                         .width = dim});
  return {t.rows, values, t.count, slots};
}

}  // namespace ml
