// The ceilings as a Node addon of their own (bench/ceilings.ts has the types).

#include <napi.h>

#include <string>

#include "binding/handles.h"
#include "ceilings.h"

namespace {

using ml::bench::Memory;
using ml::bench::RowList;

template <class T>
T& unwrap(const Napi::Value& value) {
  if (!value.IsExternal())
    throw Napi::TypeError::New(value.Env(), "ceilings: an argument is not a handle");
  return *value.As<Napi::External<T>>().Data();
}

int64_t integer(const Napi::Value& value) { return value.ToNumber().Int64Value(); }

template <class T>
Napi::Value wrap(Napi::Env env, T* object) {
  return Napi::External<T>::New(env, object, [](Napi::Env, T* data) { delete data; });
}

// (bytes)
Napi::Value allocate(const Napi::CallbackInfo& info) {
  try {
    return wrap(info.Env(), new Memory(integer(info[0])));
  } catch (const std::bad_alloc&) {
    throw Napi::Error::New(
        info.Env(), "ceilings: no memory for " + std::to_string(integer(info[0])) + " bytes");
  }
}

// (rows Int32Array, slots)
Napi::Value row_list(const Napi::CallbackInfo& info) {
  const auto rows = info[0].As<Napi::Int32Array>();
  const int64_t slots = integer(info[1]);
  auto list =
      std::make_unique<RowList>(RowList{{rows.Data(), rows.Data() + rows.ElementLength()}, slots});
  for (int32_t row : list->rows)
    if (row < 0 || row >= slots)
      throw Napi::RangeError::New(info.Env(),
                                  "ceilings: row " + std::to_string(row) + " is out of range");
  return wrap(info.Env(), list.release());
}

// Bytes of rows: a Memory, or a tensor of the package.
struct Bytes {
  char* data;
  int64_t size;
};

Bytes bytes_of(const Napi::Value& value) {
  if (value.IsExternal()) return {unwrap<Memory>(value).data(), unwrap<Memory>(value).bytes()};
  try {
    const ml::Tensor& tensor = ml::binding::unwrap<ml::binding::TensorBox>(value, "memory").tensor;
    return {tensor.view().as<char>(), tensor.bytes()};
  } catch (const ml::Error& error) {
    throw Napi::TypeError::New(value.Env(), error.what());
  }
}

ml::bench::RowWalk walk_of(const Napi::Env& env, const Bytes& bytes, const RowList& list,
                           int64_t row_bytes) {
  if (row_bytes <= 0 || row_bytes % 64 != 0 || list.slots * row_bytes > bytes.size)
    throw Napi::RangeError::New(
        env, "ceilings: the rows do not fit the memory, or are not whole cache lines");
  return {.data = bytes.data,
          .row_bytes = row_bytes,
          .rows = list.rows.data(),
          .count = static_cast<int64_t>(list.rows.size())};
}

// (memory, scales or undefined, row list, row bytes, distance, L1d distance, level, unrolled,
// threads) -> sum
Napi::Value gather(const Napi::CallbackInfo& info) {
  const RowList& list = unwrap<RowList>(info[2]);
  auto walk = walk_of(info.Env(), bytes_of(info[0]), list, integer(info[3]));
  if (!info[1].IsUndefined()) {
    const Bytes scales = bytes_of(info[1]);
    if (4 * list.slots > scales.size)
      throw Napi::RangeError::New(info.Env(), "ceilings: a row has no scale");
    walk.scales = reinterpret_cast<const float*>(scales.data);
  }
  walk.distance = integer(info[4]);
  walk.l1_distance = integer(info[5]);
  walk.level = static_cast<int>(integer(info[6]));
  walk.unrolled = info[7].As<Napi::Boolean>();
  return Napi::Number::New(info.Env(),
                           ml::bench::gather_rows(walk, static_cast<int>(integer(info[8]))));
}

// (memory, row list, row bytes, tables, stride, with row states, distance, level, threads)
Napi::Value update(const Napi::CallbackInfo& info) {
  const Bytes memory = bytes_of(info[0]);
  const RowList& list = unwrap<RowList>(info[1]);
  auto walk = walk_of(info.Env(), memory, list, integer(info[2]));
  walk.tables = static_cast<int>(integer(info[3]));
  walk.stride = integer(info[4]);
  const int64_t tables_bytes = walk.tables * walk.stride;
  const bool states = info[5].As<Napi::Boolean>();
  if (walk.tables < 1 || walk.stride < list.slots * walk.row_bytes || walk.stride % 64 != 0 ||
      tables_bytes + (states ? 4 * list.slots : 0) > memory.size)
    throw Napi::RangeError::New(info.Env(),
                                "ceilings: the tables do not fit the memory, or overlap");
  if (states) walk.states = reinterpret_cast<float*>(memory.data + tables_bytes);
  walk.distance = integer(info[6]);
  walk.level = static_cast<int>(integer(info[7]));
  ml::bench::update_rows(walk, static_cast<int>(integer(info[8])));
  return info.Env().Undefined();
}

// (rounds, threads) -> flops
Napi::Value fma(const Napi::CallbackInfo& info) {
  return Napi::Number::New(
      info.Env(), ml::bench::fma_peak(integer(info[0]), static_cast<int>(integer(info[1]))));
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const auto define = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  define("allocate", allocate);
  define("rowList", row_list);
  define("gather", gather);
  define("update", update);
  define("fma", fma);
  return exports;
}

}  // namespace

NODE_API_MODULE(ceilings, init)
