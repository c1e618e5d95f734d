#pragma once
// The two ways to do an operation, both by its contract: run() with every view given, compute()
// with outputs that are allocated by its shape rule.

#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "device/batch.h"
#include "device/dependence.h"
#include "layer/exact_rows.h"
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

// An operation with its arguments, which have been checked, and with what becomes of the work. That
// is void if one of its inputs is or what it updates, or if it fails itself. What it overwrites is
// void then. What it updates is a state, such as a parameter or a gradient, and stays as it was;
// but for `results`, outputs that are in the making: they are void with the work that adds to them.
template <class Args, class Writes>
class Operation final : public Work {
 public:
  // `writes`: with which each_output lists what the operation writes.
  Operation(Device& device, const Args& args, const Writes& writes, std::span<const View> results)
      : device_(device), args_(args), writes_(writes), condition_(device.condition) {
    name = name_of(args);
    each([&](const View& v, Write, uint32_t bit) {
      for (const View& result : results)
        if (result.data == v.data) results_ |= bit;
    });
  }

  void submit(WorkPtr& self) override { enqueue(self); }

  // Enqueues the work, which is the stream's from here on.
  OutcomePtr enqueue(WorkPtr& self) {
    each([](const View& v, Write, uint32_t) { announce_write(v); });
    Needs needs;
    each_input(args_, [&](const char*, const View& v, bool) { collect_needs(v, needs); });
    each([&](const View& v, Write write, uint32_t bit) {
      if (write == Write::updated) collect_needs(v, needs);
      if (voids(write, bit)) reserve_overwrite(v);
    });
    collect_needs(condition_, needs);
    OutcomePtr known = std::make_shared<Outcome>(std::move(needs));
    // From here on nothing fails.
    outcome = known;
    each([&](const View& v, Write write, uint32_t bit) {
      if (voids(write, bit)) overwrite(v, known);
      count_write(v);
    });
    device_.stream().launch(std::move(self));
    return known;
  }

  void run(void* context) override { device_.operations.of(args_)(context, args_); }

 private:
  // f(view, write, a bit of its own), for each output
  template <class F>
  void each(const F& f) const {
    uint32_t bit = 1;
    each_output(args_, writes_, [&](const char*, const View& v, Write write) {
      f(v, write, bit);
      bit <<= 1;
    });
  }
  bool voids(Write write, uint32_t bit) const {
    return write == Write::overwritten || (results_ & bit);
  }

  Device& device_;
  const Args args_;
  [[no_unique_address]] const Writes writes_;
  const View condition_;  // OnCondition
  uint32_t results_ = 0;  // bits
};

// The one way to a kernel, now or when the open batch commits, in which case there is no outcome
// yet. The arguments have been checked; `rule` is their shape_rule.
template <class Args, class Rule>
OutcomePtr enqueue(Device& device, const Args& args, const Rule& rule,
                   std::span<const View> results = {}) {
  using Made = Operation<Args, decltype(writes_of(rule))>;
  static_assert(sizeof(Made) <= WorkMemory::kLargest);
  auto* made = new (device.work_memory()) Made(device, args, writes_of(rule), results);
  WorkPtr work(made);
  OutcomePtr outcome;
  if (Batch* batch = device.batch) {
    each_input(args, [&](const char*, const View& v, bool) { batch->keep(v); });
    each_output(args, rule, [&](const char*, const View& v, Write) { batch->keep(v); });
    batch->keep(device.condition);
    batch->add(std::move(work));
  } else {
    outcome = made->enqueue(work);
  }
  if constexpr (!kKeepsExact<Args>)
    each_output(args, rule, [&](const char*, const View& v, Write) { wrote(device, v); });
  return outcome;
}

template <class Args>
OutcomePtr run(Device& device, const Args& args, std::span<const View> results = {}) {
  const auto rule = shape_rule(args);
  check_outputs(args, rule);
  if constexpr (HasRule<Args>)
    check_overlap(rule.op, args, rule);
  else
    check_overlap(name_of(args), args, rule);
  return enqueue(device, args, rule, results);
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
  for (size_t i = 0; i < results.size(); ++i) {
    if (!targets[i].wanted || !targets[i].tensor) continue;
    results[i] = *targets[i].tensor;
    args.*rule.list[i].view = results[i].view();
    expect_dtype(rule.op, rule.list[i].name, results[i].view(), rule.list[i].dtype);
    expect_shape(rule.op, rule.list[i].name, results[i].view(), rule.list[i].shape);
  }
  check_overlap(rule.op, args, rule);
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
  enqueue(device, args, rule, std::span(sums.data(), count));
  if constexpr (kOutputCount<Args> == 1)
    return results[0];
  else
    return results;
}

}  // namespace ml
