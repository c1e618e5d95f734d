// Files that JavaScript has opened, mapped as a tensor or locked; and snapshots, which are saved.

#include "binding/exports.h"
#include "cpu/file_lock.h"
#include "cpu/mapped_file.h"

namespace ml::binding {
namespace {

// (device, open descriptor, path for messages, byte offset, shape, dtype): read-only memory of a
// file, on the CPU
Napi::Value tensor_map(Arguments& a) {
  const auto device = a.shared_device();
  const int file = static_cast<int>(a.integer("file"));
  const std::string path = a.next().ToString().Utf8Value();
  const int64_t offset = a.integer("offset");
  const Shape shape = a.shape("shape");
  const DType dtype = a.choice<DType>("dtype");
  if (device->kind != "cpu")
    throw Error(Code::unsupported,
                "ValueTable.map: a file can be mapped on the CPU only, not on \"" + device->name +
                    "\".\n  Load it with loadSafetensors.");
  const int64_t bytes = shape.size() * bytes_of(dtype);
  cpu::MappedFile mapped = cpu::map_file(file, path, offset, bytes);
  auto storage = new_storage(device, mapped.data, bytes, std::move(mapped.release));
  return to_js(a.env(), {storage, 0, dtype, shape}, false);
}

// (open descriptor): whether the lock was taken; undefined where there are no locks
Napi::Value file_lock(Arguments& a) {
  const cpu::FileLock lock = cpu::try_lock(static_cast<int>(a.integer("file")));
  if (lock == cpu::FileLock::unsupported) return a.undefined();
  return Napi::Boolean::New(a.env(), lock == cpu::FileLock::taken);
}

Napi::Value snapshot_create(Arguments& a) { return wrap(a.env(), SnapshotBox{}); }

std::unique_ptr<Snapshot>& snapshot_at(SnapshotBox& box, int64_t index) {
  if (index < 0 || index >= static_cast<int64_t>(box.snapshots.size()))
    throw Error(Code::value, "binding: \"index\" is not one of the snapshot's tensors.");
  return box.snapshots[static_cast<size_t>(index)];
}

// (snapshot, tensor): its number is that of the tensors before it
Napi::Value snapshot_add(Arguments& a) {
  SnapshotBox& box = unwrap<SnapshotBox>(a.next(), "snapshot");
  box.snapshots.push_back(std::make_unique<Snapshot>(a.tensor("tensor")));
  return a.undefined();
}

// (snapshot, number of a tensor, bytes): a tensor of its next bytes, to be read at once
Napi::Value snapshot_next(Arguments& a) {
  SnapshotBox& box = unwrap<SnapshotBox>(a.next(), "snapshot");
  const auto& snapshot = snapshot_at(box, a.integer("index"));
  return to_js(a.env(), live(snapshot, "snapshot").next(a.integer("bytes")), false);
}

// (snapshot, number of a tensor): it is read no more
Napi::Value snapshot_release(Arguments& a) {
  SnapshotBox& box = unwrap<SnapshotBox>(a.next(), "snapshot");
  snapshot_at(box, a.integer("index")).reset();
  return a.undefined();
}

Napi::Value snapshot_dispose(Arguments& a) {
  unwrap<SnapshotBox>(a.next(), "snapshot").snapshots.clear();
  return a.undefined();
}

}  // namespace

void define_files(Napi::Object exports) {
  define<tensor_map>(exports, "tensorMap", "ValueTable.map");
  define<file_lock>(exports, "fileLock", "saveSafetensors");
  define<snapshot_create>(exports, "snapshotCreate", "saveSafetensors");
  define<snapshot_add>(exports, "snapshotAdd", "saveSafetensors");
  define<snapshot_next>(exports, "snapshotNext", "saveSafetensors");
  define<snapshot_release, Makes::nothing>(exports, "snapshotRelease", "saveSafetensors");
  define<snapshot_dispose, Makes::nothing>(exports, "snapshotDispose", "saveSafetensors");
}

}  // namespace ml::binding
