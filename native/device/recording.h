#pragma once
// Work that is recorded instead of run, and replayed: for instance a training step. While a
// recording is open, operations of its device are kept here, tensors come from its pool, and what
// would wait for the device, or copy from the host, is ERR_UNSUPPORTED.
//
// A replay enqueues all of the work anew. Each piece has an outcome of its own, which depends on
// those of the earlier work that it reads from, and on what the rest of its memory depends on then:
// so a fault voids what it would void had the work not been recorded. What recorded work has made
// is void until the first replay.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "device/device.h"
#include "device/pool.h"
#include "device/program.h"

namespace ml {

class Recording {
 public:
  // Begins to record. ERR_UNSUPPORTED inside of another recording or a batch.
  explicit Recording(std::shared_ptr<Device> device);
  // Also of one that was not finished: nothing has changed then.
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  Device& device() const { return *device_; }

  // ---- While it records

  const std::shared_ptr<Pool>& pool() const { return pool_; }
  WorkMemory& work_memory() { return program_->memory; }
  bool made(const Storage& storage) const { return storage.pool() == pool_.get(); }

  // Of what is recorded so far, in terms of the stand-ins.
  Validity& validity(Storage& storage);
  // The next work is going to read these bytes, or to update them: it depends on them.
  void reads(Storage& storage, int64_t begin, int64_t end);
  // The next work. Its outcome is a stand-in, for whoever wants to know whether it is void.
  OutcomePtr add(WorkPtr& work);
  // The newest work writes these bytes; `voided`: they are void if it is.
  void writes(Storage& storage, int64_t begin, int64_t end, bool voided);
  // Recorded work uses the memory, though it does not depend on it.
  void hold(const std::shared_ptr<Storage>& storage);

  // What has a state on the host that the work goes with: a table's queue. `ready` throws where the
  // state is not the one that the work begins with: now, at the end and at each replay. `restore`
  // brings it back if the recording ends without finish().
  void depend_on_state(const void* owner, std::function<void()> ready,
                       std::function<void()> restore);
  // A small tensor of numbers that each replay() writes before the work runs.
  Tensor numbers(const Shape& shape, DType dtype);
  // A call that can't be recorded was made: finish() throws it too.
  [[noreturn]] void refuse(const std::string& call, const char* why);

  void finish();

  // ---- After finish()

  // Enqueues the work. `numbers`: the bytes of all numbers(), in their order.
  void replay(const char* numbers, size_t bytes);

 private:
  // Memory that was made outside, as the recorded work has left it.
  struct Outside {
    std::shared_ptr<Storage> storage;
    Validity validity;
    WriteLog::Mark mark;
  };
  struct Range {
    std::weak_ptr<Storage> storage;
    int64_t begin, end;
    uint32_t step;
  };
  struct Overwrites {
    std::weak_ptr<Storage> storage;
    size_t count;  // of its ranges in overwritten_
  };
  struct State {
    const void* owner;
    std::function<void()> ready, restore;
  };
  struct Numbers {
    Tensor tensor;
    std::vector<char> written;  // by the last replay
  };
  Outside& outside(Storage& storage);
  void end() noexcept;
  void void_made(Error error) noexcept;
  void list_overwritten(const std::shared_ptr<Storage>& storage, const Validity& validity);
  std::vector<Range> reads_from_outside();
  void write_numbers(const char* numbers, size_t bytes);
  std::vector<OutcomePtr> new_outcomes();

  const std::shared_ptr<Device> device_;
  const std::shared_ptr<Pool> pool_;
  std::shared_ptr<Program> program_;
  std::vector<OutcomePtr> stand_ins_;  // of each step
  std::unordered_map<const Outcome*, uint32_t> step_of_;
  std::unordered_map<Storage*, Outside> outside_;
  std::vector<std::shared_ptr<Storage>> held_;
  std::vector<uint32_t> next_needs_;
  std::vector<Range> next_reads_;
  // By ascending steps: bytes that a step reads as no step before has written them.
  std::vector<Range> read_;
  std::vector<Range> overwritten_;  // by which step last
  std::vector<Overwrites> overwrites_;
  std::vector<Range> written_;
  std::vector<State> states_;
  std::vector<Numbers> numbers_;
  std::optional<Error> refused_;
  bool recording_ = true;
};

// While it lives, work is run as if nothing were recorded: on memory that stays.
class RecordingPause {
 public:
  explicit RecordingPause(Device& device)
      : device_(device), recording_(std::exchange(device.recording, nullptr)) {}
  ~RecordingPause() { device_.recording = recording_; }
  RecordingPause(const RecordingPause&) = delete;
  RecordingPause& operator=(const RecordingPause&) = delete;

 private:
  Device& device_;
  Recording* const recording_;
};

}  // namespace ml
