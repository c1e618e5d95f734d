#pragma once
// The one exception type of the native code. The binding turns it into a MemoryLayersError.

#include <exception>
#include <memory>
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
  distributed,
};

// In the order of Code.
inline constexpr const char* kCodeNames[] = {
    "ERR_SHAPE",       "ERR_DTYPE",         "ERR_VALUE",           "ERR_INDEX_RANGE",
    "ERR_DISPOSED",    "ERR_DEVICE",        "ERR_DEVICE_MISMATCH", "ERR_CONTEXT",
    "ERR_FILE_FORMAT", "ERR_OUT_OF_MEMORY", "ERR_UNSUPPORTED",     "ERR_CUDA",
    "ERR_DISTRIBUTED",
};

// Copies share the message, so that copying never fails.
class Error : public std::exception {
 public:
  Error(Code code, std::string message)
      : code_(code), message_(std::make_shared<const std::string>(std::move(message))) {}
  // ERR_DISTRIBUTED: the rank of the world that it is about.
  static Error of_rank(int rank, std::string message) {
    Error error(Code::distributed, std::move(message));
    error.rank_ = rank;
    return error;
  }
  // For an error that is made where no memory is left. `text` is a literal.
  static Error without_memory(Code code, const char* text) noexcept { return {code, text, 0}; }

  Code code() const { return code_; }
  const char* code_name() const { return kCodeNames[static_cast<int>(code_)]; }
  int rank() const { return rank_; }  // -1: none
  const char* what() const noexcept override { return message_ ? message_->c_str() : text_; }

 private:
  Error(Code code, const char* text, int) noexcept : code_(code), text_(text) {}

  Code code_;
  int rank_ = -1;
  const char* text_ = "";
  std::shared_ptr<const std::string> message_;
};

}  // namespace ml
