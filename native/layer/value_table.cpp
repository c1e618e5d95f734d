#include "layer/value_table.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace ml {
namespace {

Tensor part(Tensor t, int64_t first, int64_t count) {
  t.offset += first * bytes_of(t.dtype);
  t.shape = {count};
  return t;
}

// Until the true ones are copied in: offsets of as many bags as a ragged read has, with all its
// entries in the last.
void add_offsets_of_one_bag(FillEach& fill, const Tensor& offsets, int64_t entries) {
  const int64_t bags = offsets.shape[0] - 1;
  fill.fills.push_back({.out = part(offsets, 0, std::max<int64_t>(bags, 1)).view(), .value = 0});
  if (bags > 0)
    fill.fills.push_back(
        {.out = part(offsets, bags, 1).view(), .value = static_cast<double>(entries)});
}

bool is_void(const Tensor& t) {
  Needs needs;
  t.storage->validity.collect(t.offset, t.offset + t.bytes(), needs);
  bool is = false;
  needs.each([&](const OutcomePtr& need) { is = is || need->fault(); });
  return is;
}

}  // namespace

void ValueTable::push(const Read& read) {
  if (read_only()) return;
  const Read queued{
      .indices = empty(device(), read.indices.shape, DType::i32),
      .weights = empty(device(), read.weights.shape),
      .dy = read.dy,
      .offsets = read.offsets ? empty(device(), read.offsets.shape, DType::i32) : Tensor{},
      .queued = true};
  FillEach padding{
      {{.out = queued.indices.view(), .value = -1}, {.out = queued.weights.view(), .value = 0}}};
  if (read.offsets) add_offsets_of_one_bag(padding, queued.offsets, read.indices.size());
  run(device(), padding);
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
  sorted_ = {};
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
  sorted_ = {};
}

std::vector<ValueTable::Read> ValueTable::pending() {
  std::erase_if(queue_, [](const QueuedRead& q) { return q.outcome->fault() != nullptr; });
  std::vector<Read> reads;
  for (const QueuedRead& q : queue_) reads.push_back(q.read);
  if (has_dense_) reads.push_back(dense_);
  return reads;
}

std::vector<ValueTable::Read> ValueTable::take() {
  std::vector<Read> reads = pending();
  if (has_dense_) reads.pop_back();
  queue_.clear();
  sorted_ = {};
  return reads;
}

TouchedRows ValueTable::touched_rows() {
  const std::vector<Read> reads = pending();
  const auto same = [](const Read& a, const Read& b) {
    return a.indices.storage == b.indices.storage;
  };
  if (!reads.empty() &&
      std::equal(reads.begin(), reads.end(), sorted_.reads.begin(), sorted_.reads.end(), same) &&
      !is_void(sorted_.rows.count))
    return sorted_.rows;
  const TouchedRows rows = find_touched_rows(device(), reads, slots());
  // not before it is enqueued
  Batch::submit(device(), [self = shared_from_this(), sorted = Sorted{reads, rows}] {
    self->sorted_ = sorted;
  });
  return rows;
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
    // the queue has none but those that were checked, or known
    views.back().indices_known = r.queued || r.dense;
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
