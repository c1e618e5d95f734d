#include "layer/value_table.h"

namespace ml {

void ValueTable::push(const Read& read) {
  if (read_only()) return;
  const Read queued{.indices = empty(device(), read.indices.shape, DType::i32),
                    .weights = zeros(device(), read.weights.shape),
                    .dy = read.dy,
                    .offsets = {},
                    .queued = true};
  fill(queued.indices, -1);
  Batch::submit(device(), [self = shared_from_this(), read, queued] { self->queue(read, queued); });
}

void ValueTable::queue(const Read& read, const Read& queued) {
  queue_.reserve(queue_.size() + 1);
  const OutcomePtr outcome = run(device(), QueueRead{.queued_indices = queued.indices.view(),
                                                     .queued_weights = queued.weights.view(),
                                                     .indices = read.indices.view(),
                                                     .weights = read.weights.view(),
                                                     .dy = read.dy.view(),
                                                     .slots = slots()});
  queue_.push_back({queued, outcome});
}

std::vector<ValueTable::Read> ValueTable::pending() {
  std::erase_if(queue_, [](const QueuedRead& q) { return q.outcome->fault() != nullptr; });
  std::vector<Read> reads;
  for (const QueuedRead& q : queue_) reads.push_back(q.read);
  return reads;
}

TouchedRows find_touched_rows(Device& device, std::span<const ValueTable::Read> reads,
                              int64_t slots) {
  std::vector<TableRead> views;
  for (const ValueTable::Read& r : reads) {
    views.push_back({.indices = r.indices.view(),
                     .weights = r.weights.view(),
                     .dy = r.dy.view(),
                     .offsets = r.offsets.view()});
    // so that the work does not depend on a dy that it does not use
    if (r.queued) views.back().dy.storage = nullptr;
  }
  const auto [rows, starts, order, count] =
      compute(device, SortRows{.reads = views, .slots = slots});
  return {rows, starts, order, count, std::move(views)};
}

SparseGrad sparse_grad(Device& device, std::span<const ValueTable::Read> reads, int64_t slots,
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
