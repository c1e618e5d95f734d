#include "layer/value_table.h"

#include <numeric>

namespace ml {
namespace {

// Offsets for as many bags as a ragged read has, with all its entries in the last: until the true
// ones are copied in.
Tensor one_bag_offsets(const ValueTable::Read& read) {
  const Tensor offsets = zeros(read.offsets.device(), read.offsets.shape, DType::i32);
  const int64_t bags = offsets.shape[0] - 1;
  Tensor end = offsets;
  end.offset += bags * bytes_of(DType::i32);
  end.shape = {1};
  if (bags > 0) fill(end, static_cast<double>(read.indices.size()));
  return offsets;
}

}  // namespace

void ValueTable::push(const Read& read) {
  if (read_only()) return;
  const Read queued{.indices = empty(device(), read.indices.shape, DType::i32),
                    .weights = zeros(device(), read.weights.shape),
                    .dy = read.dy,
                    .offsets = read.offsets ? one_bag_offsets(read) : Tensor{},
                    .queued = true};
  fill(queued.indices, -1);
  Batch::submit(device(), [self = shared_from_this(), read, queued] { self->queue(read, queued); });
}

void ValueTable::queue(const Read& read, const Read& queued) {
  queue_.reserve(queue_.size() + 1);
  const OutcomePtr outcome = run(device(), QueueRead{.queued_indices = queued.indices.view(),
                                                     .queued_weights = queued.weights.view(),
                                                     .queued_offsets = queued.offsets.view(),
                                                     .indices = read.indices.view(),
                                                     .weights = read.weights.view(),
                                                     .offsets = read.offsets.view(),
                                                     .dy = read.dy.view(),
                                                     .slots = slots()});
  queue_.push_back({queued, outcome});
}

const Tensor& ValueTable::dense_gradient() {
  if (dense_.dy) return dense_.dy;
  Device& device = live_weight("ValueTable.gradient").device();
  const Read dense{.indices = empty(device, {slots(), 1}, DType::i32),
                   .weights = empty(device, {slots(), 1}),
                   .dy = empty(device, {slots(), dim()}),
                   .offsets = {},
                   .dense = true};
  std::vector<int32_t> rows(static_cast<size_t>(slots()));
  std::iota(rows.begin(), rows.end(), 0);
  Batch::bypass(device, [&] {
    write(dense.indices.view(), rows.data(), true);
    fill(dense.weights, 1);
    fill(dense.dy, 0);
  });
  dense_ = dense;
  return dense_.dy;
}

void ValueTable::dense_added() {
  Batch::submit(device(), [self = shared_from_this()] { self->has_dense_ = true; });
}

void ValueTable::clear() {
  if (has_dense_) fill(dense_.dy, 0);
  has_dense_ = false;
  queue_.clear();
}

std::vector<ValueTable::Read> ValueTable::pending() {
  std::erase_if(queue_, [](const QueuedRead& q) { return q.outcome->fault() != nullptr; });
  std::vector<Read> reads;
  for (const QueuedRead& q : queue_) reads.push_back(q.read);
  if (has_dense_) reads.push_back(dense_);
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
