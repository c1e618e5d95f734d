#pragma once
// The bytes of a tensor as they were when the snapshot was made, read once, from front to back.
// They are read from the tensor itself, until work is enqueued that writes to it: what is left is
// then copied first. So a snapshot costs memory only where it is needed.

#include <optional>

#include "device/device.h"

namespace ml {

class Snapshot final : private WriteWatcher {
 public:
  explicit Snapshot(const Tensor& tensor);
  ~Snapshot();
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  Device& device() const { return *device_; }

  // The next `bytes` bytes, as uint8. They hold what they should for a read that is enqueued at
  // once. Throws ERR_OUT_OF_MEMORY if there was none for the copy.
  Tensor next(int64_t bytes);

 private:
  void before_write(int64_t begin, int64_t end) override;
  void end_watch();

  std::shared_ptr<Device> device_;
  Tensor rest_;  // the bytes that were not read yet, as uint8: the tensor's own, or their copy
  std::optional<WriteLog::Watch> watch_;  // while they are the tensor's own
  std::optional<Error> lost_;             // they could not be copied
};

}  // namespace ml
