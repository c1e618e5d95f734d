#include "ops/target_weights.h"

#include "core/index_error.h"
#include "cpu/context.h"

namespace ml::cpu {

void target_weights(KernelContext&, const TargetWeights& a) {
  const int32_t* targets = a.targets.as<int32_t>();
  const int64_t tokens = a.targets.size();
  int64_t count = 0;
  for (int64_t t = 0; t < tokens; ++t) count += target_counts(targets[t], a.ignore_index);
  if (count == 0 && tokens > 0) throw no_target_error("targetWeights");
  const float weight = 1.0f / static_cast<float>(count);
  for (int64_t t = 0; t < tokens; ++t) {
    const int32_t target = targets[t];
    const bool counts = target_counts(target, a.ignore_index);
    a.kept.as<int32_t>()[t] = counts ? target : -1;
    a.weights.as<float>()[t] = counts ? weight : 0;
  }
}

}  // namespace ml::cpu
