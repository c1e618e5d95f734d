// Devices and tensors.

#include <cstring>
#include <future>

#include "binding/handles.h"
#include "cpu/backend.h"
#include "cpu/isa.h"
#include "cpu/mapped_file.h"
#include "cuda/backend.h"

namespace ml::binding {
namespace {

Napi::Value initialize(Arguments& a) {
  addon_of(a.env()).error_class = Napi::Persistent(a.next().As<Napi::Function>());
  return a.env().Undefined();
}

Napi::Value crossings(Arguments& a) {
  return Napi::Number::New(a.env(), static_cast<double>(addon_of(a.env()).crossings));
}

Napi::Object describe_device(Napi::Env env, const std::string& name, const char* kind,
                             const std::string& text, const std::string& reason, int64_t memory) {
  Napi::Object d = Napi::Object::New(env);
  d.Set("name", name);
  d.Set("kind", kind);
  d.Set("available", reason.empty());
  if (!reason.empty()) d.Set("reason", reason);
  d.Set("description", text);
  d.Set("totalMemory", Napi::Number::New(env, static_cast<double>(memory)));
  return d;
}

std::vector<CudaDevice> cuda_devices() {
#ifdef ML_WITH_CUDA
  return cuda::devices();
#else
  return {{"cuda", "", "this binary was built without the CUDA backend", 0}};
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

// (name, threads: of the CPU, 0 for all cores)
Napi::Value open_device(Arguments& a) {
  const std::string name = a.next().ToString().Utf8Value();
  const auto device = open_named(name, static_cast<int>(a.integer("threads")));
  auto& open = addon_of(a.env()).devices;
  std::erase_if(open, [](const auto& weak) { return weak.expired(); });
  open.push_back(device);
  Napi::Object handle = wrap(a.env(), DeviceBox{device});
  handle.Set("name", device->name);
  handle.Set("kind", device->kind);
  handle.Set("description", device->description);
  return handle;
}

Napi::Value device_memory(Arguments& a) {
  const MemoryStats& s = a.device().allocator().stats();
  Napi::Object o = Napi::Object::New(a.env());
  o.Set("allocated", Napi::Number::New(a.env(), static_cast<double>(s.allocated)));
  o.Set("reserved", Napi::Number::New(a.env(), static_cast<double>(s.reserved)));
  o.Set("peak", Napi::Number::New(a.env(), static_cast<double>(s.peak)));
  o.Set("total", Napi::Number::New(a.env(), static_cast<double>(s.total)));
  return o;
}

// Times of the operations since the last call, by name.
Napi::Value device_profile(Arguments& a) {
  Napi::Object o = Napi::Object::New(a.env());
  for (const OperationTime& t : a.device().stream().take_times()) {
    Napi::Object entry = Napi::Object::New(a.env());
    entry.Set("calls", Napi::Number::New(a.env(), static_cast<double>(t.calls)));
    entry.Set("milliseconds", Napi::Number::New(a.env(), t.seconds * 1e3));
    o.Set(t.name, entry);
  }
  return o;
}

Napi::Value device_synchronize(Arguments& a) {
  return read_later(a.env(), a.shared_device(), nullptr, nullptr, 0,
                    [](Napi::Env env) { return env.Undefined(); });
}

Napi::Value isa_names(Arguments& a) {
  Napi::Array list = Napi::Array::New(a.env());
  for (const std::string& name : cpu::isa_names()) list.Set(list.Length(), name);
  return list;
}

struct Bytes {
  const char* data;
  size_t size;
};

Bytes bytes_of(const Napi::Value& value) {
  if (!value.IsTypedArray()) throw Error(Code::value, "binding: \"data\" is not a typed array.");
  const Napi::TypedArray array = value.As<Napi::TypedArray>();
  return {static_cast<const char*>(array.ArrayBuffer().Data()) + array.ByteOffset(),
          array.ByteLength()};
}

// (device, typed array with the tensor's own bytes, shape, dtype)
Napi::Value tensor_from(Arguments& a) {
  Device& device = a.device();
  const Bytes bytes = bytes_of(a.next());
  const Shape shape = a.shape("shape");
  const DType dtype = a.dtype("dtype");
  if (static_cast<int64_t>(bytes.size) != shape.size() * ml::bytes_of(dtype))
    throw Error(Code::shape, "tensor: the data does not fill shape " + to_string(shape) + ".");
  Tensor t = empty(device, shape, dtype);
  device.stream().write(t.storage->data(), bytes.data, bytes.size, t.storage->idle());
  return to_js(a.env(), t);
}

// (device, path, byte offset, shape, dtype): read-only memory of a file, on the CPU
Napi::Value tensor_map(Arguments& a) {
  const auto device = a.shared_device();
  const std::string path = a.next().ToString().Utf8Value();
  const int64_t offset = a.integer("offset");
  const Shape shape = a.shape("shape");
  const DType dtype = a.dtype("dtype");
  if (device->kind != "cpu")
    throw Error(Code::unsupported,
                "ValueTable.map: a file can be mapped on the CPU only, not on \"" + device->name +
                    "\".\n  Load it with loadSafetensors.");
  const int64_t bytes = shape.size() * ml::bytes_of(dtype);
  cpu::MappedFile file = cpu::map_file(path, offset, bytes);
  auto storage = std::make_shared<Storage>(device, file.data, bytes, std::move(file.release));
  return to_js(a.env(), {storage, 0, dtype, shape}, false);
}

Napi::Value tensor_empty(Arguments& a) {
  Device& device = a.device();
  const Shape shape = a.shape("shape");
  return to_js(a.env(), empty(device, shape, a.dtype("dtype")));
}

Napi::Value tensor_fill(Arguments& a) {
  const Tensor t = a.output("tensor");
  fill(t, a.number("value"));
  return a.env().Undefined();
}

Napi::Value tensor_random(Arguments& a) {
  const Tensor t = a.output("tensor");
  const auto kind = a.choice<RandomFill::Kind>("kind", 2);
  const float first = static_cast<float>(a.number("a")), second = static_cast<float>(a.number("b"));
  run(t.device(), RandomFill{t.view(), kind, first, second, a.seed("seed")});
  return a.env().Undefined();
}

Napi::Value tensor_read(Arguments& a) {
  const Tensor t = a.tensor("tensor");
  const View v = t.view();
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(a.env(), static_cast<size_t>(v.bytes()));
  auto keep = std::make_shared<Napi::ObjectReference>(Napi::Persistent(buffer.As<Napi::Object>()));
  return read_later(a.env(), t.device().shared_from_this(), buffer.Data(), v.data,
                    static_cast<size_t>(v.bytes()), [keep](Napi::Env) { return keep->Value(); });
}

std::optional<Fault> wait_for(Device& device) {
  std::optional<Fault> fault = device.stream().wait();
  if (fault) device.stream().acknowledge(fault->first);
  return fault;
}

Napi::Value tensor_read_sync(Arguments& a) {
  const Tensor t = a.tensor("tensor");
  const View v = t.view();
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(a.env(), static_cast<size_t>(v.bytes()));
  t.device().stream().read(buffer.Data(), v.data, static_cast<size_t>(v.bytes()),
                           [](const std::optional<Fault>&) {});
  if (auto fault = wait_for(t.device())) throw fault->error;
  return buffer;
}

// (tensor, byte offset, typed array)
Napi::Value tensor_write(Arguments& a) {
  const Tensor t = a.output("tensor");
  const int64_t offset = a.integer("offset");
  const Bytes bytes = bytes_of(a.next());
  const View v = t.view();
  if (offset < 0 || offset + static_cast<int64_t>(bytes.size) > v.bytes())
    throw Error(Code::shape, "Tensor.write: " + std::to_string(bytes.size) + " bytes at " +
                                 std::to_string(offset) + " do not fit a tensor of " +
                                 std::to_string(v.bytes()) + " bytes.");
  t.device().stream().write(static_cast<char*>(v.data) + offset, bytes.data, bytes.size);
  return a.env().Undefined();
}

Napi::Value tensor_copy(Arguments& a) {
  const Tensor to = a.output("target"), from = a.tensor("source");
  run(to.device(), Copy{to.view(), from.view()});
  return a.env().Undefined();
}

// (target, source): between devices, in the order of both streams, without waiting here.
Napi::Value tensor_transfer(Arguments& a) {
  const Tensor to = unwrap<TensorBox>(a.next(), "target").tensor;
  const Tensor from = a.tensor("source");
  if (!to || to.dtype != from.dtype || !(to.shape == from.shape))
    throw Error(Code::shape, "Tensor.to: the two tensors differ in shape or dtype.");
  const size_t bytes = static_cast<size_t>(from.bytes());
  auto staged = std::make_shared<std::vector<char>>(bytes);
  auto arrived = std::make_shared<std::promise<std::optional<Fault>>>();
  auto future = std::make_shared<std::future<std::optional<Fault>>>(arrived->get_future());
  from.device().stream().read(
      staged->data(), from.view().data, bytes,
      [arrived](const std::optional<Fault>& fault) { arrived->set_value(fault); });
  to.device().stream().produce(to.view().data, bytes, [staged, future, bytes](void* target) {
    if (const auto fault = future->get()) throw fault->error;
    if (bytes) std::memcpy(target, staged->data(), bytes);
  });
  return a.env().Undefined();
}

// (tensor, offset in elements, shape): a view of the same memory
Napi::Value tensor_view(Arguments& a) {
  Tensor t = a.tensor("tensor");
  const int64_t offset = a.integer("offset");
  const Shape shape = a.shape("shape");
  if (offset < 0 || offset + shape.size() > t.size())
    throw Error(Code::shape, "a view of shape " + to_string(shape) + " at element " +
                                 std::to_string(offset) + " does not fit a tensor of shape " +
                                 to_string(t.shape) + ".");
  t.offset += offset * ml::bytes_of(t.dtype);
  t.shape = shape;
  return to_js(a.env(), t, false);
}

Napi::Value tensor_dispose(Arguments& a) {
  TensorBox& box = unwrap<TensorBox>(a.next(), "tensor");
  if (box.reported) Napi::MemoryManagement::AdjustExternalMemory(a.env(), -box.reported);
  box = {};
  return a.env().Undefined();
}

}  // namespace

void define_device(Napi::Object exports) {
  define<initialize>(exports, "initialize");
  define<crossings>(exports, "crossings");
  define<devices>(exports, "devices");
  define<isa_names>(exports, "isaNames");
  define<open_device>(exports, "openDevice");
  define<device_memory>(exports, "deviceMemory");
  define<device_profile>(exports, "deviceProfile");
  define<device_synchronize>(exports, "deviceSynchronize");
  define<tensor_from>(exports, "tensorFrom");
  define<tensor_map>(exports, "tensorMap");
  define<tensor_empty>(exports, "tensorEmpty");
  define<tensor_fill>(exports, "tensorFill");
  define<tensor_random>(exports, "tensorRandom");
  define<tensor_read>(exports, "tensorRead");
  define<tensor_read_sync>(exports, "tensorReadSync");
  define<tensor_write>(exports, "tensorWrite");
  define<tensor_copy>(exports, "tensorCopy");
  define<tensor_transfer>(exports, "tensorTransfer");
  define<tensor_view>(exports, "tensorView");
  define<tensor_dispose>(exports, "tensorDispose");
}

}  // namespace ml::binding
