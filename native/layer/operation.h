#pragma once
// An operation on its way to the device: its arguments, which have been checked, the memory that it
// uses, and what becomes of the work. That is void if one of its inputs is or what it updates, or
// if it fails itself. What it overwrites is void then. What it updates is a state, such as a
// parameter or a gradient, and stays as it was; but for results, outputs that are in the making:
// they are void with the work that adds to them.

#include <span>

#include "device/batch.h"
#include "operations.h"

namespace ml {

// The same for every operation.
class Operation : public Work {
 public:
  // Enqueues the work, which is the stream's from here on. `outcome`: of the work, if it is wanted.
  // While a recording is open, records it.
  static void enqueue(WorkPtr& work, OutcomePtr* outcome = nullptr);
  void submit(WorkPtr& self) override { enqueue(self); }

 protected:
  explicit Operation(Device& device) : device_(device), condition_(condition_of(device)) {}
  virtual std::span<const Operand> operands() const = 0;
  // Both in the order of the stream: before the work is enqueued, and after.
  virtual void find_known_indices() {}
  virtual void remember_indices() {}

  Device& device_;

 private:
  static Operand condition_of(const Device& device);
  OutcomePtr record(WorkPtr& self);

  const Operand condition_;  // OnCondition
};

// Whether the int32 elements of a view are known to be -1 or in [0, limit), as an operation made
// them so and nothing has written to them since.
bool indices_known(const View& indices, int64_t limit);
// Whether, besides, each row of the last axis is the winners of one lookup among exactly `limit`.
bool winners_known(const View& indices, int64_t limit);
void remember_indices(const View& indices, int64_t limit);

template <class Args>
class OperationOf final : public Operation {
 public:
  template <class Rule>
  OperationOf(Device& device, const Args& args, const Rule& rule, std::span<const View> results)
      : Operation(device), args_(args), operands_(args_, rule, results) {
    name = name_of(args);
  }
  void run(void* context) override { device_.operations.of(args_)(context, args_); }
  std::span<const Operand> operands() const override { return operands_.all(); }

 private:
  void find_known_indices() override {
    const auto know = [this](auto& of) {
      of.indices_known = of.indices_known || indices_known(of.indices, slots_of(args_));
    };
    if constexpr (requires { args_.indices_known; }) know(args_);
    if constexpr (requires { args_.winners_known; })
      args_.winners_known = winners_known(args_.indices, slots_of(args_));
    if constexpr (requires { args_.reads, args_.slots; })
      for (auto& read : args_.reads) know(read);
  }
  void remember_indices() override {
    if constexpr (requires { made_indices(args_, ml::remember_indices); })
      made_indices(args_, ml::remember_indices);
  }

  Args args_;
  const OperandList<Args> operands_;
};

}  // namespace ml
