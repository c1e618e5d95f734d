#include "layer/optimizer.h"

#include <optional>

#include "device/batch.h"
#include "layer/exact_rows.h"

namespace ml {
namespace {

// Row-wise Adagrad keeps one number a row, in tables and matrices alike; a vector is its own row.
Shape row_shape(const Shape& s) { return s.rank >= 2 ? Shape{s[0]} : s; }

OptimizerState make_state(Device& device, Rule rule, const Shape& shape, bool table) {
  OptimizerState s;
  if (rule == Rule::adagrad || rule == Rule::adamw) s.state1 = zeros(device, shape);
  if (rule == Rule::adamw) s.state2 = zeros(device, shape);
  if (rule == Rule::rowwise_adagrad) s.state1 = zeros(device, table ? row_shape(shape) : shape);
  return s;
}

}  // namespace

Optimizer::Optimizer(std::shared_ptr<Device> device, Rule rule, std::vector<Dense> dense,
                     std::vector<std::shared_ptr<ValueTable>> tables)
    : device_(std::move(device)),
      rule_(rule),
      dense_(std::move(dense)),
      tables_(std::move(tables)) {
  for (const auto& t : tables_) {
    if (t->weight().dtype == DType::i8)
      throw Error(
          Code::unsupported,
          "optimizer: an int8 value table can't be trained, it is read only.\n  Train a float32 or "
          "bfloat16 table and convert it for serving.");
    if (t->weight().storage->read_only())
      throw Error(Code::unsupported,
                  "optimizer: a value table that is mapped from a file can't be trained.\n  Load "
                  "it with loadSafetensors into a ValueTable.");
  }
  step_ = zeros(*device_, {1}, DType::i32);
  for (const Dense& d : dense_)
    dense_states_.push_back(make_state(*device_, rule, d.value.shape, false));
  std::vector<std::shared_ptr<Storage>> exact;
  for (const auto& t : tables_) {
    table_states_.push_back(make_state(*device_, rule, t->weight().shape, true));
    exact.push_back(new_exact_rows(t->weight()));
  }
  for (size_t i = 0; i < tables_.size(); ++i)
    if (exact[i]) tables_[i]->weight().storage->exact = exact[i];
}

void Optimizer::step(std::span<const Hyper> hyper, bool every_row, const Tensor& condition) {
  Device& device = *device_;
  for (const auto& t : tables_) t->live_weight("optimizer.step");
  const OnCondition depend(device, condition.view());
  Batch batch(device);
  std::vector<std::optional<TouchedRows>> touched;
  for (const auto& t : tables_) {
    const std::vector<ValueTable::Read> reads = t->pending();
    touched.emplace_back();
    if (!reads.empty() || every_row) touched.back() = find_touched_rows(device, reads, t->slots());
  }
  // An elementwise rule for dense parameters: row-wise Adagrad is meant for tables.
  const Rule dense_rule = rule_ == Rule::rowwise_adagrad ? Rule::adagrad : rule_;
  for (size_t i = 0; i < dense_.size(); ++i) {
    const OptimizerState& s = dense_states_[i];
    run(device, DenseUpdate{.param = dense_[i].value.view(),
                            .grad = dense_[i].grad.view(),
                            .state1 = s.state1.view(),
                            .state2 = s.state2.view(),
                            .step = step_.view(),
                            .rule = dense_rule,
                            .hyper = hyper[i]});
  }
  for (size_t i = 0; i < tables_.size(); ++i) {
    if (!touched[i]) continue;
    const OptimizerState& s = table_states_[i];
    const TouchedRows& t = *touched[i];
    const Tensor& table = tables_[i]->weight();
    run(device, SparseUpdate{.table = table.view(),
                             .exact = exact_rows(table).view(),
                             .state1 = s.state1.view(),
                             .state2 = s.state2.view(),
                             .step = step_.view(),
                             .rows = t.rows.view(),
                             .starts = t.starts.view(),
                             .order = t.order.view(),
                             .count = t.count.view(),
                             .reads = t.reads,
                             .rule = rule_,
                             .hyper = hyper[dense_.size() + i],
                             .every_row = every_row});
  }
  run(device, StepAdvance{.step = step_.view()});
  batch.commit();
}

void Optimizer::zero_grad() {
  Batch batch(*device_);
  for (const Dense& d : dense_) fill(d.grad, 0);
  for (const auto& t : tables_) Batch::submit(*device_, [t] { t->clear(); });
  batch.commit();
}

namespace {

// Scales the gradients by their common norm, which goes to norm [1].
void clip(Device& device, const std::vector<Tensor>& dense_grads, const Tables& tables,
          double max_norm, const View& norm) {
  const Tensor sum = zeros(device, {2}, DType::i32);
  const View total = sum.view();
  for (const Tensor& g : dense_grads)
    run(device, SumSquares{.sum = total, .x = g.view()}, {&total, 1});
  for (const auto& t : tables) {
    const auto reads = t->pending();
    if (reads.empty()) continue;
    const TouchedRows touched = find_touched_rows(device, reads, t->slots());
    run(device,
        SparseSquares{.sum = total,
                      .rows = touched.rows.view(),
                      .starts = touched.starts.view(),
                      .order = touched.order.view(),
                      .count = touched.count.view(),
                      .reads = touched.reads,
                      .width = t->dim()},
        {&total, 1});
  }
  const auto scale = [&](const Tensor& x) {
    run(device, ClipScale{.x = x.view(), .sum = total, .max_norm = max_norm});
  };
  for (const Tensor& g : dense_grads) scale(g);
  // A table's gradient is linear in the weights of its reads, which the queue owns. The dense part
  // may be added to later, so it is scaled itself.
  for (const auto& t : tables)
    for (const ValueTable::Read& r : t->pending()) scale(r.dense ? r.dy : r.weights);
  run(device, ClipScale{.norm = norm, .sum = total, .max_norm = max_norm});
}

}  // namespace

Tensor clip_grad_norm(Device& device, const std::vector<Tensor>& dense_grads, const Tables& tables,
                      double max_norm, const Tables* apart) {
  Batch batch(device);
  const Tensor norms = empty(device, {apart ? 2 : 1});
  const auto norm = [&](int64_t i) {
    return Tensor{norms.storage, i * static_cast<int64_t>(sizeof(float)), DType::f32, {1}}.view();
  };
  clip(device, dense_grads, tables, max_norm, norm(0));
  if (apart) clip(device, {}, *apart, max_norm, norm(1));
  batch.commit();
  return norms;
}

}  // namespace ml
