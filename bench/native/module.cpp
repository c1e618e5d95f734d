// The ceilings as a Node addon of their own (bench/ceilings.ts has the types).

#include <napi.h>

#include <string>

#include "ceilings.h"
#include "cpu/isa.h"

namespace {

using ml::bench::Memory;
using ml::bench::RowList;

template <class T>
T& held(const Napi::Value& value) {
  if (!value.IsExternal()) throw Napi::TypeError::New(value.Env(), "ceilings: an argument is not a handle");
  return *value.As<Napi::External<T>>().Data();
}

int64_t integer(const Napi::Value& value) { return value.ToNumber().Int64Value(); }

template <class T>
Napi::Value hold(Napi::Env env, T* object) {
  return Napi::External<T>::New(env, object, [](Napi::Env, T* data) { delete data; });
}

// (bytes)
Napi::Value allocate(const Napi::CallbackInfo& info) {
  try {
    return hold(info.Env(), new Memory(integer(info[0])));
  } catch (const std::bad_alloc&) {
    throw Napi::Error::New(info.Env(), "ceilings: no memory for " + std::to_string(integer(info[0])) + " bytes");
  }
}

// (rows Int32Array, slots)
Napi::Value row_list(const Napi::CallbackInfo& info) {
  const auto rows = info[0].As<Napi::Int32Array>();
  const int64_t slots = integer(info[1]);
  auto list = std::make_unique<RowList>(RowList{{rows.Data(), rows.Data() + rows.ElementLength()}, slots});
  for (int32_t row : list->rows)
    if (row < 0 || row >= slots) throw Napi::RangeError::New(info.Env(), "ceilings: row " + std::to_string(row) + " is out of range");
  return hold(info.Env(), list.release());
}

// (memory, row list, row bytes, …): `parts` tables of rows, and behind them a scale for each row where they have scales
ml::bench::RowWalk walk_of(const Napi::CallbackInfo& info, int64_t parts, bool scaled, int64_t ahead, int64_t again) {
  const Memory& memory = held<Memory>(info[0]);
  const RowList& list = held<RowList>(info[1]);
  const int64_t row_bytes = integer(info[2]), part_bytes = list.slots * row_bytes;
  if (row_bytes <= 0 || row_bytes % 64 != 0 || parts < 1 || parts * part_bytes + (scaled ? 4 * list.slots : 0) > memory.bytes())
    throw Napi::RangeError::New(info.Env(), "ceilings: the rows do not fit the memory, or are not whole cache lines");
  const float* scales = scaled ? reinterpret_cast<const float*>(memory.data() + parts * part_bytes) : nullptr;
  return {memory.data(), row_bytes, part_bytes, static_cast<int>(parts), scales, list.rows.data(),
          static_cast<int64_t>(list.rows.size()), ahead, again};
}

// (memory, row list, row bytes, scaled, ahead, again, threads)
Napi::Value gather(const Napi::CallbackInfo& info) {
  const auto walk = walk_of(info, 1, info[3].ToBoolean(), integer(info[4]), integer(info[5]));
  return Napi::Number::New(info.Env(), ml::bench::gather_rows(walk, static_cast<int>(integer(info[6]))));
}

// (memory, row list, row bytes, parts, ahead, threads)
Napi::Value update(const Napi::CallbackInfo& info) {
  ml::bench::update_rows(walk_of(info, integer(info[3]), false, integer(info[4]), 0), static_cast<int>(integer(info[5])));
  return info.Env().Undefined();
}

// (rounds, threads) -> flops
Napi::Value fma(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), ml::bench::fma_peak(integer(info[0]), static_cast<int>(integer(info[1]))));
}

Napi::Value isa(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), ml::cpu::isa_name()); }

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const auto define = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  define("allocate", allocate);
  define("rowList", row_list);
  define("gather", gather);
  define("update", update);
  define("fma", fma);
  define("isa", isa);
  return exports;
}

}  // namespace

NODE_API_MODULE(ceilings, init)
