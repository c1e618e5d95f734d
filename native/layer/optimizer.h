#pragma once
// One optimizer over dense parameters and value tables. A step is: count, every dense parameter,
// then for each table the merged reads of all its layers, each touched row once.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "layer/value_table.h"

namespace ml {

struct OptimizerState {
  Tensor state1, state2;  // as the rule needs
};

class Optimizer {
 public:
  struct Dense {
    Tensor value, grad;
  };

  Optimizer(std::shared_ptr<Device> device, Rule rule, std::vector<Dense> dense,
            std::vector<std::shared_ptr<ValueTable>> tables);

  // `hyper`: of each parameter, dense ones first. If the condition is given and void, nothing is
  // updated.
  void step(std::span<const Hyper> hyper, bool every_row, const Tensor& condition);
  void zero_grad();
  size_t parameters() const { return dense_.size() + tables_.size(); }
  Device& device() const { return *device_; }

  const Tensor& step_count() const { return step_; }
  const OptimizerState& dense_state(size_t i) const { return dense_states_[i]; }
  const OptimizerState& table_state(size_t i) const { return table_states_[i]; }

 private:
  std::shared_ptr<Device> device_;
  Rule rule_;
  std::vector<Dense> dense_;
  std::vector<std::shared_ptr<ValueTable>> tables_;
  std::vector<OptimizerState> dense_states_, table_states_;
  Tensor step_;  // [1] int32
};

using Tables = std::vector<std::shared_ptr<ValueTable>>;

// Scales all gradients by min(1, max_norm / norm); returns the norm before, [1] float32. The tables
// of `apart`, if it is given, are scaled by a norm of their own, which is then the second of [2].
Tensor clip_grad_norm(Device& device, const std::vector<Tensor>& dense_grads, const Tables& tables,
                      double max_norm, const Tables* apart = nullptr);

// The same in two parts, where other ranks have parts of the gradients: the sum of the squares of
// those here, [2] int32, the bits of a float64; and the scaling by all such sums, [2 n] int32.
Tensor grad_squares(Device& device, const std::vector<Tensor>& dense_grads, const Tables& tables);
Tensor clip_by_squares(Device& device, const std::vector<Tensor>& dense_grads, const Tables& tables,
                       const Tensor& sums, double max_norm);

}  // namespace ml
