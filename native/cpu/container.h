#pragma once
// What a container may use of its machine: the limits of the control groups (versions 1 and 2) that
// this process is in, and of those around them.

#include <cstdint>
#include <limits>
#include <string>

namespace ml::cpu {

struct ContainerLimits {
  int64_t memory = std::numeric_limits<int64_t>::max();    // bytes
  double cores = std::numeric_limits<double>::infinity();  // quota over period
};

// From <root>/proc/self/cgroup, <root>/proc/self/mountinfo and the control groups' files; `root` is
// empty, or a folder of a test. What can't be read is no limit.
ContainerLimits container_limits(const std::string& root);

}  // namespace ml::cpu
