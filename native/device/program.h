#pragma once
// Recorded work as a stream runs it: again and again, in order.

#include <cstdint>
#include <memory>
#include <vector>

#include "device/work.h"

namespace ml {

struct Program {
  struct Step {
    WorkPtr work;
    std::vector<uint32_t> needs;  // earlier steps that it depends on
  };

  WorkMemory memory;  // of the work
  std::vector<Step> steps;
  std::shared_ptr<void> graph;  // CUDA: the same as one launch; the stream's
};

}  // namespace ml
