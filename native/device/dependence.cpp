#include "device/dependence.h"

#include "device/recording.h"

namespace ml {
namespace {

void overwrite(const View& v, const OutcomePtr& outcome) {
  const auto [begin, end] = byte_range(v);
  overwrite(*v.storage, begin, end, outcome);
}

}  // namespace

void expect_no_recording(Device& device, const char* call, const char* why) {
  if (device.recording) device.recording->refuse(call, why);
}

void collect_needs(Storage& storage, int64_t begin, int64_t end, Needs& needs) {
  if (Recording* recording = storage.device().recording)
    recording->validity(storage).collect(begin, end, needs);
  else
    storage.validity.collect(begin, end, needs);
}

void write(const View& target, const void* source, bool fresh) {
  Storage& storage = *target.storage;
  expect_no_recording(storage.device(), "a copy from the host");
  const auto [begin, end] = byte_range(target);
  reserve(storage, begin, end);
  auto outcome = storage.device().work_memory().new_outcome();
  storage.device().stream().write(target.data, source, static_cast<size_t>(target.bytes()), outcome,
                                  fresh && storage.idle());
  overwrite(target, outcome);
}

void read(void* target, const View& source, Stream::Completion done) {
  Device& device = source.storage->device();
  expect_no_recording(device, "a copy to the host");
  Needs needs;
  const auto [begin, end] = byte_range(source);
  collect_needs(*source.storage, begin, end, needs);
  device.stream().read(target, source.data, static_cast<size_t>(source.bytes()),
                       device.work_memory().new_outcome(std::move(needs)), std::move(done));
}

void produce(const View& target, Stream::Producer fill) {
  Device& device = target.storage->device();
  expect_no_recording(device, "a copy from another device");
  const auto [begin, end] = byte_range(target);
  reserve(*target.storage, begin, end);
  auto outcome = device.work_memory().new_outcome();
  device.stream().produce(target.data, static_cast<size_t>(target.bytes()), outcome,
                          std::move(fill));
  overwrite(target, outcome);
}

void synchronize(Device& device, Stream::Completion done) {
  expect_no_recording(device, "a wait for the device");
  device.stream().read(nullptr, nullptr, 0, device.work_memory().new_outcome(), std::move(done));
}

}  // namespace ml
