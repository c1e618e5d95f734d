#include "layer/value_table.h"

#include <algorithm>

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
  queue_.push_back({std::move(read), device().stream().submitted(), 0, {}, 0});
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
  TouchedRows t;
  int64_t places = 0;
  for (const ValueTable::Read& r : reads) {
    places += r.indices.size();
    t.reads.push_back({r.indices.view(), r.weights.view(), r.dy.view(), r.offsets.view()});
  }
  const int64_t capacity = std::min(places, slots);
  t.rows = empty(device, {capacity}, DType::i32);
  t.starts = empty(device, {capacity + 1}, DType::i32);
  t.order = empty(device, {places}, DType::i32);
  t.count = empty(device, {1}, DType::i32);
  SortRows args{t.rows.view(), t.starts.view(), t.order.view(), t.count.view(), t.reads, slots};
  run(device, args);
  return t;
}

SparseGrad sparse_grad(Device& device, const std::vector<ValueTable::Read>& reads, int64_t slots,
                       int64_t dim) {
  TouchedRows t = touched_rows(device, reads, slots);
  SparseGrad g{t.rows, empty(device, {t.rows.shape[0], dim}), t.count, slots};
  SparseGradValues args{g.values.view(), t.rows.view(),  t.starts.view(),
                        t.order.view(),  t.count.view(), t.reads};
  run(device, args);
  return g;
}

}  // namespace ml
