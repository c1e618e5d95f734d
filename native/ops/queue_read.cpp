#include "ops/queue_read.h"

#include <cstring>

#include "cpu/index_check.h"
#include "cpu/tuning.h"

namespace ml::cpu {

void queue_read(KernelContext& ctx, const QueueRead& a) {
  if (!a.indices_known)
    validate_indices(ctx, "embeddingBagBackward", "indices", a.indices, a.slots);
  const auto copy = [&](const View& to, const View& from) {
    ctx.parallel_for(from.bytes(), kCopyGrain, [&](int64_t begin, int64_t end, int) {
      std::memcpy(to.as<char>() + begin, from.as<char>() + begin, static_cast<size_t>(end - begin));
    });
  };
  copy(a.queued_indices, a.indices);
  copy(a.queued_weights, a.weights);
  if (a.offsets) copy(a.queued_offsets, a.offsets);
}

}  // namespace ml::cpu
