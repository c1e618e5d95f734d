#pragma once
// Work of a CUDA device, recorded once and replayed: for instance a training step as one launch.

#include <functional>
#include <memory>
#include <vector>

#include "device/device.h"

namespace ml {

class RecordedWork {
 public:
  virtual ~RecordedWork() = default;
  // Enqueues all of it again, on the same memory.
  virtual void replay() = 0;
};

namespace cuda {
// Records what `work` enqueues, without running it. Memory that it frees stays allocated with the
// recording, as replays use it.
std::unique_ptr<RecordedWork> record(const std::shared_ptr<Device>& device,
                                     const std::function<void()>& work);
}  // namespace cuda

namespace simt {
std::unique_ptr<RecordedWork> record(const std::shared_ptr<Device>& device,
                                     const std::function<void()>& work);
}  // namespace simt

}  // namespace ml
