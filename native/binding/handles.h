#pragma once
// Native objects as JavaScript sees them: plain objects that are type-tagged and own a C++ object.
// Anything of the wrong kind is an error here, before native code uses it.

#include <memory>
#include <new>
#include <string>
#include <utility>

#include "binding/addon.h"
#include "device/batch.h"
#include "device/recording.h"
#include "layer/collectives.h"
#include "layer/memory_layer.h"
#include "layer/optimizer.h"
#include "layer/peer_layer.h"
#include "layer/snapshot.h"

namespace ml::binding {

// What a tensor handle owns. Views of the same storage report no memory of their own.
struct TensorBox {
  Tensor tensor;
  int64_t reported = 0;  // bytes told to V8
};
struct DeviceBox {
  std::shared_ptr<Device> device;
  std::vector<std::unique_ptr<Batch>> batches;  // open ones
};
struct TableBox {
  std::shared_ptr<ValueTable> table;
};
struct MemoryLayerBox {
  std::unique_ptr<MemoryLayer> layer;
};
struct PeerLayerBox {
  std::unique_ptr<PeerLayer> layer;
};
struct ContextBox {
  // Shared with the batch that spends it.
  struct Saved {
    std::unique_ptr<MemoryContext> memory;
    std::unique_ptr<PeerContext> peer;
    void reset() {
      memory.reset();
      peer.reset();
    }
  };
  std::shared_ptr<Saved> saved;
};
struct OptimizerBox {
  std::unique_ptr<Optimizer> optimizer;
};
struct CaptureBox {
  std::unique_ptr<Recording> recording;
};
struct SnapshotBox {
  std::vector<std::unique_ptr<Snapshot>> snapshots;  // of one tensor each
};
struct GroupBox {
  GroupPtr group;
};
// One of them.
struct PendingBox {
  Pending exchange;
  std::unique_ptr<PendingReduce> reduce;
};

template <class Box>
struct Tag;
#define ML_TAG(Box, number)                                           \
  template <>                                                         \
  struct Tag<Box> {                                                   \
    static constexpr napi_type_tag value{0x6d656d6f72796c61, number}; \
    static constexpr const char* name = #Box;                         \
  };
ML_TAG(TensorBox, 1)
ML_TAG(DeviceBox, 2)
ML_TAG(TableBox, 3)
ML_TAG(MemoryLayerBox, 4)
ML_TAG(PeerLayerBox, 5)
ML_TAG(ContextBox, 6)
ML_TAG(OptimizerBox, 7)
ML_TAG(SnapshotBox, 8)
ML_TAG(CaptureBox, 9)
ML_TAG(GroupBox, 10)
ML_TAG(PendingBox, 11)
#undef ML_TAG

// A box lies in a block of its own.
struct DeleteBox {
  template <class Box>
  void operator()(Box* box) const {
    box->~Box();
    ::operator delete(box);
  }
};

// Drops what a handle holds, as after its dispose().
template <class Box>
void empty_box(napi_env env, void* data) {
  Box& box = *static_cast<Box*>(data);
  if constexpr (std::is_same_v<Box, TensorBox>) {
    int64_t total;
    if (box.reported) napi_adjust_external_memory(env, -box.reported, &total);
  }
  box = Box{};
}

template <class Box>
Napi::Object wrap(Napi::Env env, Box box) {
  static_assert(sizeof(Box) <= SpareBlocks::kBytes);
  Addon& addon = addon_of(env);
  addon.made_handles.reserve(1);
  Napi::Object object = Napi::Object::New(env);
  void* block = addon.spare_blocks.take();
  std::unique_ptr<Box, DeleteBox> owned(new (block) Box(std::move(box)));
  const auto finalize = [](napi_env raw, void* data, void*) {
    const std::unique_ptr<Box, DeleteBox> b(static_cast<Box*>(data));
    empty_box<Box>(raw, b.get());
  };
  check_napi(env, napi_wrap(env, object, owned.get(), finalize, nullptr, nullptr));
  addon.made_handles.add(owned.release(), empty_box<Box>);
  check_napi(env, napi_type_tag_object(env, object, &Tag<Box>::value));
  return object;
}

template <class Box>
Box& unwrap(const Napi::Value& value, const char* argument) {
  bool tagged = false;
  if (value.IsObject())
    check_napi(value.Env(),
               napi_check_object_type_tag(value.Env(), value, &Tag<Box>::value, &tagged));
  if (!tagged)
    throw Error(Code::value, std::string("binding: \"") + argument + "\" is not a native " +
                                 Tag<Box>::name + ".");
  void* data = nullptr;
  check_napi(value.Env(), napi_unwrap(value.Env(), value, &data));
  return *static_cast<Box*>(data);
}

// Throws ERR_DEVICE for a device that was closed.
inline void expect_open(const Device& device) {
  if (device.closed())
    throw Error(Code::device, "device \"" + device.name +
                                  "\" was closed.\n  Open it again with openDevice() and make its "
                                  "tensors anew.");
}

// The object of a handle that may have been disposed.
template <class Object>
Object& live(const std::unique_ptr<Object>& object, const char* where) {
  if (!object)
    throw Error(Code::disposed,
                std::string(where) +
                    ": \"this\" was disposed.\n  Use it before dispose(), or make another.");
  expect_open(object->device());
  return *object;
}

// A tensor for JavaScript: the handle carries its shape and dtype. `owner`: its storage is new.
Napi::Object to_js(Napi::Env env, const Tensor& tensor, bool owner = true);
// An object of tensors by name, without those that are empty.
using NamedTensors = std::initializer_list<std::pair<const char*, Tensor>>;
Napi::Object to_js(Napi::Env env, NamedTensors tensors, bool owner = true);
Napi::Object to_js(Napi::Env env, const SparseGrad& gradient);
inline Napi::Value to_js(Napi::Env env, int64_t number) {
  return Napi::Number::New(env, static_cast<double>(number));
}

}  // namespace ml::binding
