#include "layer/optimizer.h"

#include <algorithm>
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

// The work that a dense parameter's update would depend on.
std::vector<const Outcome*> needs_of(const DenseParameter& p) {
  Needs needs;
  for (const View& v : {p.param, p.grad, p.state1, p.state2}) {
    if (!v.storage) continue;
    const auto [begin, end] = byte_range(v);
    v.storage->validity.collect(begin, end, needs);
  }
  std::vector<const Outcome*> list;
  needs.each([&](const OutcomePtr& o) { list.push_back(o.get()); });
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

// The updates of parameters that depend on the same work, most often of all, are one operation: a
// void gradient keeps no other parameter from its update.
std::vector<std::vector<DenseParameter>> grouped_by_needs(std::vector<DenseParameter> parameters) {
  std::vector<std::vector<DenseParameter>> groups;
  std::vector<std::vector<const Outcome*>> needs;
  for (DenseParameter& p : parameters) {
    const std::vector<const Outcome*> own = needs_of(p);
    const auto same = std::find(needs.begin(), needs.end(), own);
    if (same == needs.end()) {
      needs.push_back(own);
      groups.emplace_back().reserve(parameters.size());
      groups.back().push_back(std::move(p));
    } else {
      groups[static_cast<size_t>(same - needs.begin())].push_back(std::move(p));
    }
  }
  return groups;
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
    touched.emplace_back();
    if (every_row || !t->pending().empty()) touched.back() = t->touched_rows();
  }
  // An elementwise rule for dense parameters: row-wise Adagrad is meant for tables.
  const Rule dense_rule = rule_ == Rule::rowwise_adagrad ? Rule::adagrad : rule_;
  std::vector<DenseParameter> parameters;
  for (size_t i = 0; i < dense_.size(); ++i)
    parameters.push_back({.param = dense_[i].value.view(),
                          .grad = dense_[i].grad.view(),
                          .state1 = dense_states_[i].state1.view(),
                          .state2 = dense_states_[i].state2.view(),
                          .hyper = hyper[i]});
  for (auto& group : grouped_by_needs(std::move(parameters)))
    run(device,
        DenseUpdate{.step = step_.view(), .parameters = std::move(group), .rule = dense_rule});
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
  FillEach zero;
  zero.fills.reserve(dense_.size());
  for (const Dense& d : dense_) zero.fills.push_back({.out = d.grad.view(), .value = 0});
  if (!dense_.empty()) run(*device_, zero);
  for (const auto& t : tables_) Batch::submit(*device_, [t] { t->clear(); });
  batch.commit();
}

namespace {

// Scales the gradients by the norm that the sums of squares give, which goes to norm [1].
void scale(Device& device, const std::vector<Tensor>& dense_grads, const Tables& tables,
           const Tensor& sums, double max_norm, const View& norm) {
  ClipScale scale{.norm = norm, .sum = sums.view(), .xs = {}, .max_norm = max_norm};
  for (const Tensor& g : dense_grads) scale.xs.push_back(g.view());
  // A table's gradient is linear in the weights of its reads, which the queue owns. The dense part
  // may be added to later, so it is scaled itself.
  for (const auto& t : tables)
    for (const ValueTable::Read& r : t->pending())
      scale.xs.push_back(r.dense ? r.dy.view() : r.weights.view());
  run(device, scale);
}

}  // namespace

Tensor grad_squares(Device& device, const std::vector<Tensor>& dense_grads, const Tables& tables) {
  Batch batch(device);
  const Tensor sum = empty(device, {2}, DType::i32);
  const View total = sum.view();
  SumSquares squares{.sum = total, .xs = {}};
  for (const Tensor& g : dense_grads) squares.xs.push_back(g.view());
  run(device, squares);
  for (const auto& t : tables) {
    if (t->pending().empty()) continue;
    const TouchedRows touched = t->touched_rows();
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
  batch.commit();
  return sum;
}

Tensor clip_by_squares(Device& device, const std::vector<Tensor>& dense_grads, const Tables& tables,
                       const Tensor& sums, double max_norm) {
  Batch batch(device);
  const Tensor norm = empty(device, {1});
  scale(device, dense_grads, tables, sums, max_norm, norm.view());
  batch.commit();
  return norm;
}

Tensor clip_grad_norm(Device& device, const std::vector<Tensor>& dense_grads, const Tables& tables,
                      double max_norm, const Tables* apart) {
  Batch batch(device);
  const Tensor norms = empty(device, {apart ? 2 : 1});
  const auto norm = [&](int64_t i) {
    return Tensor{norms.storage, i * static_cast<int64_t>(sizeof(float)), DType::f32, {1}}.view();
  };
  const auto clip = [&](const std::vector<Tensor>& grads, const Tables& of, const View& norm) {
    scale(device, grads, of, grad_squares(device, grads, of), max_norm, norm);
  };
  clip(dense_grads, tables, norm(0));
  if (apart) clip({}, *apart, norm(1));
  batch.commit();
  return norms;
}

}  // namespace ml
