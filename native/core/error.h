#pragma once
// The one exception type of the native code. The binding turns it into a MemoryLayersError.

#include <exception>
#include <string>
#include <utility>

namespace ml {

enum class Code {
  shape,
  dtype,
  value,
  index_range,
  disposed,
  device,
  device_mismatch,
  context,
  file_format,
  out_of_memory,
  unsupported,
  cuda,
};

// In the order of Code.
inline constexpr const char* kCodeNames[] = {
    "ERR_SHAPE",       "ERR_DTYPE",         "ERR_VALUE",           "ERR_INDEX_RANGE",
    "ERR_DISPOSED",    "ERR_DEVICE",        "ERR_DEVICE_MISMATCH", "ERR_CONTEXT",
    "ERR_FILE_FORMAT", "ERR_OUT_OF_MEMORY", "ERR_UNSUPPORTED",     "ERR_CUDA",
};

class Error : public std::exception {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}
  Code code() const { return code_; }
  const char* code_name() const { return kCodeNames[static_cast<int>(code_)]; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  Code code_;
  std::string message_;
};

}  // namespace ml
