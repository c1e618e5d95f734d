#pragma once
// The element types of tensors: one row of the table below per type.

#include <cstdint>

namespace ml {

enum class DType : uint8_t { f32, f16, bf16, i32, i8, u8 };

struct DTypeInfo {
  const char* name;  // as TypeScript spells it
  int bytes;
};

inline constexpr DTypeInfo kDTypes[] = {
    {"float32", 4}, {"float16", 2}, {"bfloat16", 2}, {"int32", 4}, {"int8", 1}, {"uint8", 1},
};
constexpr int count_of(DType) { return sizeof(kDTypes) / sizeof(kDTypes[0]); }

constexpr const char* name_of(DType t) { return kDTypes[static_cast<int>(t)].name; }
constexpr int bytes_of(DType t) { return kDTypes[static_cast<int>(t)].bytes; }

}  // namespace ml
