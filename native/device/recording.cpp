#include "device/recording.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "device/dependence.h"

namespace ml {

Recording::Recording(std::shared_ptr<Device> device)
    : device_(std::move(device)),
      pool_(device_->new_pool()),
      program_(std::make_shared<Program>()) {
  if (device_->recording)
    throw Error(Code::unsupported, "device.capture: a capture can't be made inside of another.");
  if (device_->batch)
    throw Error(Code::unsupported, "device.capture: a capture can't be made inside of a call.");
  device_->recording = this;
}

Recording::~Recording() {
  if (recording_) {
    end();
    void_made(Error::without_memory(Code::context, "the capture that made this tensor failed."));
    for (const State& s : states_) s.restore();
  }
  if (device_->ended()) return;
  try {  // what was enqueued uses the program until it has run
    device_->stream().always([program = program_] {});
  } catch (const std::exception&) {
    device_->stream().wait();
  }
  pool_->close();
}

// ---- While it records

Recording::Outside& Recording::outside(Storage& storage) {
  const auto found = outside_.find(&storage);
  if (found != outside_.end()) return found->second;
  return outside_.emplace(&storage, Outside{storage.shared_from_this(), {}, storage.writes.mark()})
      .first->second;
}

Validity& Recording::validity(Storage& storage) {
  return made(storage) ? storage.validity : outside(storage).validity;
}

void Recording::reads(Storage& storage, int64_t begin, int64_t end) {
  validity(storage).each(begin, end, [&](int64_t from, int64_t to, const OutcomePtr& outcome) {
    if (outcome)
      next_needs_.push_back(step_of_.at(outcome.get()));
    else
      next_reads_.push_back({storage.weak_from_this(), from, to, 0});
  });
}

OutcomePtr Recording::add(WorkPtr& work) {
  const auto step = static_cast<uint32_t>(program_->steps.size());
  std::vector<uint32_t> needs = std::exchange(next_needs_, {});
  std::sort(needs.begin(), needs.end());
  needs.erase(std::unique(needs.begin(), needs.end()), needs.end());
  for (Range& r : next_reads_) {
    r.step = step;
    read_.push_back(std::move(r));
  }
  next_reads_.clear();
  OutcomePtr outcome = device_->work_memory().new_outcome();
  stand_ins_.push_back(outcome);
  step_of_.emplace(outcome.get(), step);
  program_->steps.push_back({std::move(work), std::move(needs)});
  return outcome;
}

void Recording::writes(Storage& storage, int64_t begin, int64_t end, bool voided) {
  Validity& own = validity(storage);
  if (voided) {
    own.reserve();
    own.overwrite(begin, end, stand_ins_.back());
  }
  storage.writes.add(begin, end);
  const auto same = [&](const Range& r) {
    return r.begin == begin && r.end == end && !r.storage.owner_before(storage.weak_from_this()) &&
           !storage.weak_from_this().owner_before(r.storage);
  };
  if (std::none_of(written_.begin(), written_.end(), same))
    written_.push_back({storage.weak_from_this(), begin, end, 0});
}

void Recording::hold(const std::shared_ptr<Storage>& storage) {
  if (std::find(held_.begin(), held_.end(), storage) == held_.end()) held_.push_back(storage);
}

void Recording::depend_on_state(const void* owner, std::function<void()> ready,
                                std::function<void()> restore) {
  const auto same = [owner](const State& s) { return s.owner == owner; };
  if (std::any_of(states_.begin(), states_.end(), same)) return;
  ready();
  states_.push_back({owner, std::move(ready), std::move(restore)});
}

Tensor Recording::numbers(const Shape& shape, DType dtype) {
  // Not of the pool, whose memory earlier work may have used: that would overwrite them.
  const RecordingPause stays(*device_);
  const Tensor tensor = empty(*device_, shape, dtype);
  numbers_.push_back({tensor, {}});
  return tensor;
}

void Recording::refuse(const std::string& call, const char* why) {
  Error error(Code::unsupported, call + ": can't be captured, as " + why);
  if (!refused_) refused_ = error;
  throw error;
}

// No storage has been written to: what was recorded is yet to run.
void Recording::end() noexcept {
  recording_ = false;
  device_->recording = nullptr;
  for (auto& [storage, outside] : outside_) storage->writes.restore(outside.mark);
}

void Recording::void_made(Error error) noexcept {
  FaultPtr fault;
  try {
    fault = std::make_shared<const Fault>(std::move(error), device_->stream().submitted());
  } catch (const std::bad_alloc&) {  // the stand-ins stay pending
    return;
  }
  for (const OutcomePtr& outcome : stand_ins_) outcome->settle(fault);
}

void Recording::list_overwritten(const std::shared_ptr<Storage>& storage,
                                 const Validity& validity) {
  const size_t before = overwritten_.size();
  validity.each(0, storage->size(), [&](int64_t begin, int64_t end, const OutcomePtr& outcome) {
    if (outcome) overwritten_.push_back({storage, begin, end, step_of_.at(outcome.get())});
  });
  overwrites_.push_back({storage, overwritten_.size() - before});
}

// Memory that was made here and that no step writes may share its block with what was freed here.
std::vector<Recording::Range> Recording::reads_from_outside() {
  std::vector<Range> reads;
  for (const Range& r : read_) {
    const auto storage = r.storage.lock();
    if (!storage) continue;
    if (!made(*storage)) {
      reads.push_back(r);
      continue;
    }
    storage->validity.each(r.begin, r.end, [](int64_t, int64_t, const OutcomePtr& o) {
      if (!o)
        throw Error(
            Code::unsupported,
            "device.capture: a tensor that is made in the captured work is read and never "
            "written there.\n  Make tensors that are written between replays outside of it.");
    });
  }
  return reads;
}

void Recording::finish() {
  if (refused_) throw *refused_;
  for (const State& s : states_) s.ready();
  for (const auto& [storage, outside] : outside_) {
    hold(outside.storage);
    list_overwritten(outside.storage, outside.validity);
  }
  device_->each_storage([&](Storage& storage) {
    if (made(storage)) list_overwritten(storage.shared_from_this(), storage.validity);
  });
  std::erase_if(written_, [](const Range& r) { return r.storage.expired(); });
  read_ = reads_from_outside();
  end();
  void_made(Error::without_memory(
      Code::context,
      "this tensor was made by device.capture(), and has no value before the first replay()."));
  step_of_.clear();
  stand_ins_.clear();
  outside_.clear();
}

// ---- After finish()

void Recording::write_numbers(const char* numbers, size_t bytes) {
  size_t expected = 0;
  for (const Numbers& n : numbers_) expected += static_cast<size_t>(n.tensor.bytes());
  if (bytes != expected)
    throw Error(Code::value, "binding: a replay's numbers differ in size from the recorded ones.");
  for (Numbers& n : numbers_) {
    const auto size = static_cast<size_t>(n.tensor.bytes());
    if (n.written.size() != size || std::memcmp(n.written.data(), numbers, size) != 0) {
      n.written.resize(size);
      write(n.tensor.view(), numbers);
      std::memcpy(n.written.data(), numbers, size);
    }
    numbers += size;
  }
}

std::vector<OutcomePtr> Recording::new_outcomes() {
  std::vector<OutcomePtr> outcomes;
  outcomes.reserve(program_->steps.size());
  auto outside = read_.begin();
  for (const Program::Step& step : program_->steps) {
    const auto index = static_cast<uint32_t>(outcomes.size());
    outcomes.push_back(device_->work_memory().new_outcome());
    Needs& needs = outcomes.back()->needs();
    for (const uint32_t need : step.needs) needs.add(outcomes[need]);
    for (; outside != read_.end() && outside->step == index; ++outside)
      if (const auto storage = outside->storage.lock())
        storage->validity.collect(outside->begin, outside->end, needs);
  }
  return outcomes;
}

void Recording::replay(const char* numbers, size_t bytes) {
  if (device_->recording)
    throw Error(Code::unsupported, "Capture.replay: can't be captured itself.");
  for (const State& s : states_) s.ready();
  for (const Range& r : written_)
    if (const auto storage = r.storage.lock()) storage->writes.announce(r.begin, r.end);
  write_numbers(numbers, bytes);
  const std::vector<OutcomePtr> outcomes = new_outcomes();
  for (const Overwrites& o : overwrites_)
    if (const auto storage = o.storage.lock()) storage->validity.reserve(o.count);
  device_->stream().replay(program_, outcomes);
  // From here on nothing fails.
  for (const Range& r : overwritten_)
    if (const auto storage = r.storage.lock())
      storage->validity.overwrite(r.begin, r.end, outcomes[r.step]);
  for (const Range& r : written_)
    if (const auto storage = r.storage.lock()) storage->writes.add(r.begin, r.end);
}

}  // namespace ml
