#include "layer/snapshot.h"

#include <new>
#include <utility>

#include "layer/run.h"

namespace ml {

// Made beforehand, since it is thrown where memory is short.
static const Error kLost = Error::without_memory(
    Code::out_of_memory,
    "saveSafetensors: a tensor was written before it was saved, and there is no memory for a copy "
    "of it.\n  Wait for the save before the next write, or save in several files.");

Snapshot::Snapshot(const Tensor& tensor)
    : device_(tensor.device().shared_from_this()), rest_(tensor) {
  rest_.dtype = DType::u8;
  rest_.shape = {tensor.bytes()};
  watch_ = rest_.storage->writes.watch(this);
}

Snapshot::~Snapshot() { end_watch(); }

void Snapshot::end_watch() {
  if (watch_) rest_.storage->writes.end_watch(*std::exchange(watch_, std::nullopt));
}

Tensor Snapshot::next(int64_t bytes) {
  if (lost_) throw *lost_;
  if (bytes < 0 || bytes > rest_.size())
    throw Error(Code::value, "snapshot: " + std::to_string(bytes) + " bytes of " +
                                 std::to_string(rest_.size()) + " that are left.");
  Tensor part = rest_;
  part.shape = {bytes};
  rest_.offset += bytes;
  rest_.shape = {rest_.size() - bytes};
  return part;
}

void Snapshot::before_write(int64_t begin, int64_t end) {
  if (begin >= rest_.offset + rest_.bytes() || end <= rest_.offset) return;
  end_watch();
  Tensor copy;
  try {
    copy = empty(*device_, rest_.shape, DType::u8);
    run(*device_, Copy{.out = copy.view(), .in = rest_.view()});
  } catch (const Error&) {  // the write goes on
    lost_ = kLost;
  } catch (const std::bad_alloc&) {
    lost_ = kLost;
  }
  rest_ = lost_ ? Tensor{} : copy;
}

}  // namespace ml
