#pragma once
// What work depends on and what depends on it, by the memory that it reads and overwrites; and the
// copies between host and device with that bookkeeping. While work is recorded, a trace takes it
// down instead.

#include "device/device.h"

namespace ml {

// Appends what a view depends on. Nothing for an argument that was left out, or for a view without
// a storage.
inline void collect_needs(const View& v, Needs& needs) {
  if (!v || !v.storage) return;
  const auto [begin, end] = byte_range(v);
  Storage& storage = *v.storage;
  if (Trace* trace = storage.device().trace)
    trace->read(storage, begin, end);
  else
    storage.validity.collect(begin, end, needs);
}

inline void reserve_overwrite(const View& v) {
  if (v) v.storage->validity.reserve();
}

// From here on the bytes of the view, reserved before, depend on `outcome` alone.
inline void overwrite(const View& v, const OutcomePtr& outcome) {
  if (!v) return;
  const auto [begin, end] = byte_range(v);
  Storage& storage = *v.storage;
  if (Trace* trace = storage.device().trace)
    trace->overwrite(storage, begin, end);
  else
    storage.validity.overwrite(begin, end, outcome);
}

// Stream::write, read and produce of the bytes of a view. `fresh`: its storage is new.
void write(const View& target, const void* source, bool fresh = false);
void read(void* target, const View& source, Stream::Completion done);
void produce(const View& target, Stream::Producer fill);

// Calls `done` when all work so far has run.
void synchronize(Device& device, Stream::Completion done);

}  // namespace ml
