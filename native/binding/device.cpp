// Devices: what there is, and one that was opened.

#include "binding/exports.h"
#include "cpu/backend.h"
#include "cpu/isa.h"
#include "cuda/backend.h"

namespace ml::binding {
namespace {

Napi::Value initialize(Arguments& a) {
  napi_ref& error_class = addon_of(a.env()).error_class;
  const napi_ref earlier = error_class;
  check_napi(a.env(), napi_create_reference(a.env(), a.next(), 1, &error_class));
  if (earlier) napi_delete_reference(a.env(), earlier);
  return a.undefined();
}

Napi::Value crossings(Arguments& a) {
  return to_js(a.env(), static_cast<int64_t>(addon_of(a.env()).crossings));
}

Napi::Object describe_device(Napi::Env env, const std::string& name, const char* kind,
                             const std::string& text, const std::string& reason, int64_t memory) {
  Napi::Object d = Napi::Object::New(env);
  d.Set("name", name);
  d.Set("kind", kind);
  d.Set("available", reason.empty());
  if (!reason.empty()) d.Set("reason", reason);
  d.Set("description", text);
  d.Set("totalMemory", to_js(env, memory));
  return d;
}

std::vector<CudaDevice> cuda_devices() {
#ifdef ML_WITH_CUDA
  return cuda::devices();
#else
  return {{"cuda", "", "this binary was built without the CUDA backend", 0}};
#endif
}

// Of the CUDA runtime in the binary, and the first driver that runs it; undefined without one.
Napi::Value cuda_toolkit(Arguments& a) {
#ifdef ML_WITH_CUDA
  const CudaToolkit toolkit = cuda::toolkit();
  Napi::Object v = Napi::Object::New(a.env());
  v.Set("version", toolkit.version);
  v.Set("driver", toolkit.driver);
  return v;
#else
  return a.undefined();
#endif
}

std::vector<CudaDevice> emulated_devices() {
#ifdef ML_WITH_SIMT
  return simt::devices();
#else
  return {};
#endif
}

Napi::Value devices(Arguments& a) {
  Napi::Env env = a.env();
  Napi::Array list = Napi::Array::New(env);
  list.Set(0u, describe_device(env, "cpu", "cpu", cpu::describe(0), "", cpu::total_memory()));
  for (const CudaDevice& d : cuda_devices())
    list.Set(list.Length(),
             describe_device(env, d.name, "cuda", d.description, d.reason, d.memory));
  for (const CudaDevice& d : emulated_devices())
    list.Set(list.Length(),
             describe_device(env, d.name, "simt", d.description, d.reason, d.memory));
  return list;
}

std::shared_ptr<Device> open_named(const std::string& name, int threads) {
  if (name == "cpu") return cpu::open(threads);
  [[maybe_unused]] const auto index_in = [&](const std::vector<CudaDevice>& list) {
    for (size_t i = 0; i < list.size(); ++i)
      if (list[i].name == name) return static_cast<int>(i);
    return -1;
  };
#ifdef ML_WITH_CUDA
  if (const int i = index_in(cuda_devices()); i >= 0) return cuda::open(i);
#endif
#ifdef ML_WITH_SIMT
  if (const int i = index_in(emulated_devices()); i >= 0) return simt::open(i);
#endif
  throw Error(Code::device, "openDevice: this binary has no device \"" + name + "\".");
}

// One device for each name and number of threads in an environment.
std::shared_ptr<Device> open_once(Addon& addon, const std::string& name, int threads) {
  std::erase_if(addon.devices, [](const auto& weak) {
    const auto device = weak.lock();
    return !device || device->ended();
  });
  const int count = name == "cpu" ? cpu::thread_count(threads) : 0;
  for (const auto& weak : addon.devices)
    if (auto d = weak.lock(); !d->closed() && d->name == name && d->threads == count) return d;
  addon.devices.reserve(addon.devices.size() + 1);
  auto device = open_named(name, threads);
  addon.devices.push_back(device);
  return device;
}

// (name, threads: of the CPU, 0 for all cores)
Napi::Value open_device(Arguments& a) {
  const std::string name = a.next().ToString().Utf8Value();
  const int threads = static_cast<int>(a.integer("threads"));
  const std::shared_ptr<Device> device = open_once(addon_of(a.env()), name, threads);
  Napi::Object handle = wrap(a.env(), DeviceBox{device});
  handle.Set("name", device->name);
  handle.Set("kind", device->kind);
  handle.Set("description", device->description);
  handle.Set("threads", Napi::Number::New(a.env(), device->threads));
  return handle;
}

// Resolves when the work that was enqueued has run, and the device has ended.
Napi::Value device_close(Arguments& a) {
  const std::shared_ptr<Device> device = unwrap<DeviceBox>(a.next(), "device").device;
  if (device->closed()) {
    const auto done = Napi::Promise::Deferred::New(a.env());
    done.Resolve(a.undefined());
    return done.Promise();
  }
  const Napi::Promise promise = read_later(
      a.env(), device, nullptr, View{},
      [device](Napi::Env env) {
        device->end();
        return env.Undefined();
      },
      Settles::without_fault);
  device->close();
  return promise;
}

Napi::Value device_closed(Arguments& a) {
  return Napi::Boolean::New(a.env(), unwrap<DeviceBox>(a.next(), "device").device->closed());
}

Napi::Value device_memory(Arguments& a) {
  Device& device = a.device();
  const MemoryStats s = device.allocator().stats();
  const Stream& stream = device.stream();
  Napi::Object o = Napi::Object::New(a.env());
  o.Set("allocated", to_js(a.env(), s.allocated));
  o.Set("reserved", to_js(a.env(), s.reserved + stream.scratch() + stream.staged()));
  o.Set("peak", to_js(a.env(), s.peak));
  o.Set("total", to_js(a.env(), s.total));
  return o;
}

// Times of the operations since the last call, by name.
Napi::Value device_profile(Arguments& a) {
  Napi::Object o = Napi::Object::New(a.env());
  for (const OperationTime& t : a.device().stream().take_times()) {
    Napi::Object entry = Napi::Object::New(a.env());
    entry.Set("calls", to_js(a.env(), t.calls));
    entry.Set("milliseconds", Napi::Number::New(a.env(), t.seconds * 1e3));
    o.Set(t.name, entry);
  }
  return o;
}

Napi::Value device_synchronize(Arguments& a) {
  return read_later(a.env(), a.shared_device(), nullptr, View{},
                    [](Napi::Env env) { return env.Undefined(); });
}

// Work is kept until the matching batchEnd(device, commit), and dropped there without `commit`.
Napi::Value batch_begin(Arguments& a) {
  DeviceBox& box = unwrap<DeviceBox>(a.next(), "device");
  box.batches.push_back(std::make_unique<Batch>(*box.device));
  return a.undefined();
}

Napi::Value batch_end(Arguments& a) {
  DeviceBox& box = unwrap<DeviceBox>(a.next(), "device");
  if (box.batches.empty()) throw Error(Code::value, "binding: no batch is open.");
  const std::unique_ptr<Batch> batch = std::move(box.batches.back());
  box.batches.pop_back();
  if (a.boolean("commit")) batch->commit();
  return a.undefined();
}

Napi::Value isa_names(Arguments& a) {
  Napi::Array list = Napi::Array::New(a.env());
  for (const std::string& name : cpu::isa_names()) list.Set(list.Length(), name);
  return list;
}

}  // namespace

void define_device(Napi::Object exports) {
  define<initialize>(exports, "initialize");
  define<crossings>(exports, "crossings");
  define<devices>(exports, "devices");
  define<cuda_toolkit>(exports, "cudaToolkit");
  define<isa_names>(exports, "isaNames");
  define<open_device>(exports, "openDevice");
  define<device_close>(exports, "deviceClose", "device.close");
  define<device_closed>(exports, "deviceClosed", "device.closed");
  define<device_memory>(exports, "deviceMemory", "device.memory");
  define<device_profile>(exports, "deviceProfile", "device.profile");
  define<device_synchronize>(exports, "deviceSynchronize", "device.synchronize");
  define<batch_begin>(exports, "batchBegin", "batch");
  define<batch_end, Makes::nothing>(exports, "batchEnd", "batch");
}

}  // namespace ml::binding
