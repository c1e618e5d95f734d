#include "device/dependence.h"

namespace ml {
namespace {

void overwrite(const View& v, const OutcomePtr& outcome) {
  const auto [begin, end] = byte_range(v);
  overwrite(*v.storage, begin, end, outcome);
}

}  // namespace

void write(const View& target, const void* source, bool fresh) {
  Storage& storage = *target.storage;
  const auto [begin, end] = byte_range(target);
  reserve(storage, begin, end);
  auto outcome = storage.device().work_memory().new_outcome();
  storage.device().stream().write(target.data, source, static_cast<size_t>(target.bytes()), outcome,
                                  fresh && storage.idle());
  overwrite(target, outcome);
}

void read(void* target, const View& source, Stream::Completion done) {
  Needs needs;
  const auto [begin, end] = byte_range(source);
  collect_needs(*source.storage, begin, end, needs);
  Device& device = source.storage->device();
  device.stream().read(target, source.data, static_cast<size_t>(source.bytes()),
                       device.work_memory().new_outcome(std::move(needs)), std::move(done));
}

void produce(const View& target, Stream::Producer fill) {
  Device& device = target.storage->device();
  const auto [begin, end] = byte_range(target);
  reserve(*target.storage, begin, end);
  auto outcome = device.work_memory().new_outcome();
  device.stream().produce(target.data, static_cast<size_t>(target.bytes()), outcome,
                          std::move(fill));
  overwrite(target, outcome);
}

void synchronize(Device& device, Stream::Completion done) {
  device.stream().read(nullptr, nullptr, 0, device.work_memory().new_outcome(), std::move(done));
}

}  // namespace ml
