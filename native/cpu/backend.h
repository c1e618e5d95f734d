#pragma once

#include <memory>
#include <string>

#include "device/device.h"

namespace ml::cpu {

// threads: 0 uses every core this process may run on.
std::shared_ptr<Device> open(int threads);

int thread_count(int threads);      // what 0 means
std::string describe(int threads);  // "AMD EPYC, avx512, 2 threads"
int64_t total_memory();

}  // namespace ml::cpu
