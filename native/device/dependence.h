#pragma once
// What work depends on and what depends on it, by the memory that it reads and overwrites; and the
// copies between host and device with that bookkeeping, which can't be recorded.

#include "device/device.h"

namespace ml {

// Of what can't be captured: ERR_UNSUPPORTED in a capture, with the reason and what to do instead.
inline constexpr const char* kOnHost =
    "it waits for the device or copies from the host.\n  Call it outside of device.capture(); "
    "inputs change by write() between replays.";
void expect_no_recording(Device& device, const char* call, const char* why = kOnHost);

// Appends what bytes begin … end - 1 depend on: of what is recorded, the stand-ins for it.
void collect_needs(Storage& storage, int64_t begin, int64_t end, Needs& needs);

// To be called before overwrite(), which can't fail then.
inline void reserve(Storage& storage, int64_t begin, int64_t end) {
  if (begin > 0 || end < storage.size()) storage.validity.reserve();
}

// From here on those bytes depend on `outcome` alone; reserve() went before.
inline void overwrite(Storage& storage, int64_t begin, int64_t end, const OutcomePtr& outcome) {
  storage.validity.overwrite(begin, end, outcome);
}

// Stream::write, read and produce of the bytes of a view. `fresh`: its storage is new.
void write(const View& target, const void* source, bool fresh = false);
void read(void* target, const View& source, Stream::Completion done);
void produce(const View& target, Stream::Producer fill);

// Calls `done` when all work so far has run.
void synchronize(Device& device, Stream::Completion done);

}  // namespace ml
