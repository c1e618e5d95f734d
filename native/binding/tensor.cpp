// Tensors: made, filled, read, written, viewed, moved between devices.

#include <cstring>
#include <future>

#include "binding/exports.h"
#include "core/insist.h"
#include "layer/apart.h"

namespace ml::binding {
namespace {

struct Bytes {
  const char* data;
  size_t size;
};

// Where a typed array's elements are at this moment: any call into JavaScript may move or free
// them, so nothing but their use may come after.
Bytes bytes_of(const Napi::Value& value) {
  if (!value.IsTypedArray()) throw Error(Code::value, "binding: \"data\" is not a typed array.");
  const Napi::TypedArray array = value.As<Napi::TypedArray>();
  const size_t size = array.ByteLength();
  if (size == 0) return {nullptr, 0};  // detached, too
  return {static_cast<const char*>(array.ArrayBuffer().Data()) + array.ByteOffset(), size};
}

View bytes_at(const View& v, int64_t offset, int64_t bytes) {
  View part = v;
  part.data = static_cast<char*>(v.data) + offset;
  part.dtype = DType::u8;
  part.shape = {bytes};
  return part;
}

// (device, typed array with the tensor's own bytes, shape, dtype)
Napi::Value tensor_from(Arguments& a) {
  Device& device = a.device();
  const Napi::Value data = a.next();
  const Shape shape = a.shape("shape");
  const DType dtype = a.choice<DType>("dtype");
  const Bytes bytes = bytes_of(data);
  if (static_cast<int64_t>(bytes.size) != shape.size() * ml::bytes_of(dtype))
    throw Error(Code::shape, "tensor: the data does not fill shape " + to_string(shape) + ".");
  Tensor t = empty(device, shape, dtype);
  write(t.view(), bytes.data, true);
  return to_js(a.env(), t);
}

Napi::Value tensor_empty(Arguments& a) {
  Device& device = a.device();
  const Shape shape = a.shape("shape");
  const DType dtype = a.choice<DType>("dtype");
  a.name_operation();
  return to_js(a.env(), empty(device, shape, dtype));
}

Napi::Value tensor_fill(Arguments& a) {
  const Tensor t = a.output("tensor");
  fill(t, a.number("value"));
  return a.undefined();
}

Napi::Value tensor_random(Arguments& a) {
  const Tensor t = a.output("tensor");
  run(t.device(), RandomFill{.out = t.view(),
                             .kind = a.choice<RandomFill::Kind>("kind"),
                             .a = a.float32("a"),
                             .b = a.float32("b"),
                             .seed = a.seed("seed"),
                             .first = a.integer("first"),
                             .width = a.integer("width")});
  return a.undefined();
}

Napi::Value tensor_read(Arguments& a) {
  const Tensor t = a.tensor("tensor");
  a.name_operation();
  const View v = t.view();
  Napi::ArrayBuffer buffer = new_array_buffer(a.env(), static_cast<size_t>(v.bytes()));
  auto keep = std::make_shared<Napi::ObjectReference>(Napi::Persistent(buffer.As<Napi::Object>()));
  return read_later(a.env(), t.device().shared_from_this(), buffer.Data(), v,
                    [keep](Napi::Env) { return keep->Value(); });
}

Napi::Value tensor_read_sync(Arguments& a) {
  const Tensor t = a.tensor("tensor");
  const View v = t.view();
  Napi::ArrayBuffer buffer = new_array_buffer(a.env(), static_cast<size_t>(v.bytes()));
  FaultPtr fault;
  read(buffer.Data(), v, [&fault](const FaultPtr& f) { fault = f; });
  // What was enqueued writes to `fault` and to the buffer: there is no way out before it has.
  insist([&] { t.device().stream().wait(); });
  if (fault) {
    fault->report();
    throw fault->error;
  }
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
  announce_write(v);
  View written = v;
  written.data = static_cast<char*>(v.data) + offset;
  written.shape = {static_cast<int64_t>(bytes.size) / ml::bytes_of(v.dtype)};
  write(written, bytes.data);
  count_write(v);
  wrote(t.device(), written);
  return a.undefined();
}

Napi::Value tensor_copy(Arguments& a) {
  const Tensor to = a.output("target"), from = a.tensor("source");
  if (Memory(to.view()) != Memory(from.view()) || to.dtype != from.dtype)
    expect_apart("Tensor.copyFrom", "this", to.view(), "other", from.view());
  run(to.device(), Copy{.out = to.view(), .in = from.view()});
  return a.undefined();
}

// (targets, sources): positions of the sources that copying each to its target would change.
Napi::Value tensors_overwritten(Arguments& a) {
  const std::vector<Tensor> targets = a.tensors("targets"), sources = a.tensors("sources");
  Napi::Array list = Napi::Array::New(a.env());
  for (size_t i : find_overwritten(targets, sources))
    list.Set(list.Length(), Napi::Number::New(a.env(), static_cast<double>(i)));
  return list;
}

// (target, source): between devices, in the order of both streams, without waiting here.
Napi::Value tensor_transfer(Arguments& a) {
  const Tensor to = unwrap<TensorBox>(a.next(), "target").tensor;
  if (to) expect_open(to.device());
  const Tensor from = a.tensor("source");
  if (!to || to.dtype != from.dtype || !(to.shape == from.shape))
    throw Error(Code::shape, "Tensor.to: the two tensors differ in shape or dtype.");
  const size_t bytes = static_cast<size_t>(from.bytes());
  auto staged = std::make_shared<std::vector<char>>(bytes);
  auto arrived = std::make_shared<std::promise<FaultPtr>>();
  auto future = std::make_shared<std::future<FaultPtr>>(arrived->get_future());
  // The read keeps its memory, also where there is none to enqueue the rest.
  read(staged->data(), from.view(),
       [arrived, staged](const FaultPtr& fault) { arrived->set_value(fault); });
  announce_write(to.view());
  produce(to.view(), [staged, future, bytes](void* target) {
    FaultPtr fault = future->get();
    if (!fault && bytes) std::memcpy(target, staged->data(), bytes);
    return fault;
  });
  count_write(to.view());
  wrote(to.device(), to.view());
  return a.undefined();
}

// How often the memory of a tensor was written, for tensorWrittenSince.
Napi::Value tensor_writes(Arguments& a) {
  return to_js(a.env(), static_cast<int64_t>(a.tensor("tensor").storage->writes.count()));
}

// (tensor, an earlier tensorWrites): whether it may have been written since
Napi::Value tensor_written_since(Arguments& a) {
  const Tensor t = a.tensor("tensor");
  const auto count = static_cast<uint64_t>(a.integer("writes"));
  return Napi::Boolean::New(a.env(),
                            t.storage->writes.touched(count, t.offset, t.offset + t.bytes()));
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
  empty_box<TensorBox>(a.env(), &unwrap<TensorBox>(a.next(), "tensor"));
  return a.undefined();
}

}  // namespace

void define_tensor(Napi::Object exports) {
  define<tensor_from>(exports, "tensorFrom", "device.tensor");
  define<tensor_empty>(exports, "tensorEmpty", "device.empty");
  define<tensor_fill>(exports, "tensorFill", "device.zeros");
  define<tensor_random>(exports, "tensorRandom", "device.normal");
  define<tensor_read>(exports, "tensorRead", "Tensor.data");
  define<tensor_read_sync>(exports, "tensorReadSync", "Tensor.dataSync");
  define<tensor_write>(exports, "tensorWrite", "Tensor.write");
  define<tensor_copy>(exports, "tensorCopy", "Tensor.copyFrom");
  define<tensors_overwritten>(exports, "tensorsOverwritten");
  define<tensor_transfer>(exports, "tensorTransfer", "Tensor.to");
  define<tensor_writes>(exports, "tensorWrites", "forward");
  define<tensor_written_since>(exports, "tensorWrittenSince", "backward");
  define<tensor_view>(exports, "tensorView", "Tensor.reshape");
  define<tensor_dispose, Makes::nothing>(exports, "tensorDispose", "Tensor.dispose");
}

}  // namespace ml::binding
