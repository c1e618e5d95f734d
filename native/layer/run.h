#pragma once
// The two ways to do an operation, both by its contract: run() with every view given, compute()
// with outputs that are allocated by its shape rule.

#include <array>
#include <memory>
#include <span>
#include <utility>

#include "device/batch.h"
#include "device/dependence.h"
#include "device/recording.h"
#include "layer/exact_rows.h"
#include "layer/operation.h"
#include "operations.h"

namespace ml {

// An operation that keeps the exact values of a 16-bit table itself.
template <class Args>
inline constexpr bool kKeepsExact = requires(const Args& args) { args.exact; };

// To be called after all that writes to a tensor, but for operations: enqueue() does it for them.
// The write is on its way, so that what belongs to it can't be left out.
inline void wrote(Device& device, const View& v) {
  if (v.storage && v.storage->exact) submit_surely(device, [&] { reset_exact_rows(device, v); });
}

// An operation whose caller has seen to it that its operands share no memory.
template <class Args>
inline constexpr bool kKnownApart = requires { Args::kApart; };

template <class Args>
using OperationPtr = std::unique_ptr<OperationOf<Args>>;

// The arguments have been checked; `rule` is their shape_rule.
template <class Args, class Rule>
OperationPtr<Args> prepare(Device& device, const Args& args, const Rule& rule,
                           std::span<const View> results) {
  static_assert(sizeof(OperationOf<Args>) <= WorkMemory::kLargest);
  WorkMemory& memory = device.recording ? device.recording->work_memory() : device.work_memory();
  return OperationPtr<Args>(new (memory) OperationOf<Args>(device, args, rule, results));
}

// The one way to a kernel, now or when the open batch commits, in which case there is no outcome
// yet.
template <class Args, class Rule>
void enqueue(Device& device, const Args& args, const Rule& rule, OperationPtr<Args> operation,
             OutcomePtr* outcome = nullptr) {
  WorkPtr work = std::move(operation);
  if (device.batch)
    device.batch->add(std::move(work));
  else
    Operation::enqueue(work, outcome);
  if constexpr (!kKeepsExact<Args>)
    each_output(args, rule, [&](const char*, const View& v, Write) { wrote(device, v); });
}

template <class Args>
OutcomePtr run(Device& device, const Args& args, std::span<const View> results = {}) {
  const auto rule = shape_rule(args);
  check_outputs(args, rule);
  OperationPtr<Args> operation = prepare(device, args, rule, results);
  if constexpr (!kKnownApart<Args>) {
    const char* op = operation->name;
    if constexpr (HasRule<Args>) op = rule.op;
    check_overlap(op, operation->operands());
  }
  OutcomePtr outcome;
  enqueue(device, args, rule, std::move(operation), &outcome);
  return outcome;
}

inline void fill(const Tensor& t, double value) {
  run(t.device(), Fill{.out = t.view(), .value = value});
}

inline Tensor zeros(Device& device, const Shape& shape, DType dtype = DType::f32) {
  Tensor t = empty(device, shape, dtype);
  fill(t, 0);
  return t;
}

inline Tensor copy_of(const Tensor& t) {
  Tensor copy = empty(t.device(), t.shape, t.dtype);
  run(t.device(), Copy{.out = copy.view(), .in = t.view()});
  return copy;
}

inline Tensor float32_copy(const Tensor& t) {
  Tensor copy = empty(t.device(), t.shape);
  run(t.device(), Copy{.out = copy.view(), .in = t.view()});
  return copy;
}

// Where compute() puts an output: into a tensor of the caller, or into a new one. Refers to that
// tensor and owns nothing: g++ 12 destroys the elements of a braced array twice when the call that
// it is an argument of throws.
struct Target {
  Target() = default;
  Target(const Tensor& given) : tensor(given ? &given : nullptr) {}
  // For an output that is added to: to what the tensor holds. Any other target starts as zeros.
  static Target adding_to(const Tensor& given) {
    Target t(given);
    t.keeps = t.tensor != nullptr;
    return t;
  }
  Target when(bool condition) const {
    Target t = *this;
    t.wanted = condition;
    return t;
  }

  const Tensor* tensor = nullptr;
  bool keeps = false;
  bool wanted = true;  // false: an optional output is not computed
};

template <class Args>
inline constexpr int kOutputCount = decltype(outputs(std::declval<const Args&>()))::kCount;

// Runs an operation and returns its output, or an array of its outputs. `args` needs no views of
// them. Everything is checked before anything is allocated.
template <class Args>
auto compute(Device& device, Args args, const Target (&targets)[kOutputCount<Args>] = {}) {
  const auto rule = shape_rule(args);
  std::array<Tensor, kOutputCount<Args>> results;
  bool given = false;
  for (size_t i = 0; i < results.size(); ++i) {
    if (!targets[i].wanted || !targets[i].tensor) continue;
    given = true;
    results[i] = *targets[i].tensor;
    args.*rule.list[i].view = results[i].view();
    expect_dtype(rule.op, rule.list[i].name, results[i].view(), rule.list[i].dtype);
    expect_shape(rule.op, rule.list[i].name, results[i].view(), rule.list[i].shape);
  }
  if (given) check_overlap(rule.op, OperandList<Args>(args, rule).all());
  for (size_t i = 0; i < results.size(); ++i) {
    if (!targets[i].wanted || targets[i].tensor) continue;
    const auto& output = rule.list[i];
    expect_valid(rule.op, output.name, output.shape);
    results[i] = empty(device, output.shape, output.dtype);
    args.*output.view = results[i].view();
  }
  std::array<View, kOutputCount<Args>> sums;
  size_t count = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i] || !rule.list[i].added_to || targets[i].keeps) continue;
    fill(results[i], 0);
    sums[count++] = results[i].view();
  }
  enqueue(device, args, rule, prepare(device, args, rule, std::span(sums.data(), count)));
  if constexpr (kOutputCount<Args> == 1)
    return results[0];
  else
    return results;
}

}  // namespace ml
