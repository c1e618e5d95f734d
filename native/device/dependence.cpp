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
  storage.validity.reserve();
  auto outcome = std::make_shared<Outcome>();
  storage.device().stream().write(target.data, source, static_cast<size_t>(target.bytes()), outcome,
                                  fresh && storage.idle());
  overwrite(target, outcome);
}

void read(void* target, const View& source, Stream::Completion done) {
  Needs needs;
  const auto [begin, end] = byte_range(source);
  collect_needs(*source.storage, begin, end, needs);
  source.storage->device().stream().read(target, source.data, static_cast<size_t>(source.bytes()),
                                         std::make_shared<Outcome>(std::move(needs)),
                                         std::move(done));
}

void produce(const View& target, Stream::Producer fill) {
  target.storage->validity.reserve();
  auto outcome = std::make_shared<Outcome>();
  target.storage->device().stream().produce(target.data, static_cast<size_t>(target.bytes()),
                                            outcome, std::move(fill));
  overwrite(target, outcome);
}

void synchronize(Device& device, Stream::Completion done) {
  device.stream().read(nullptr, nullptr, 0, std::make_shared<Outcome>(), std::move(done));
}

}  // namespace ml
