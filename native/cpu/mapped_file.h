#pragma once
// A range of a file as read-only memory. Pages are read from the disk when they are first used, so
// the range may be larger than the machine's memory.

#include <cstdint>
#include <functional>
#include <string>

namespace ml::cpu {

struct MappedFile {
  void* data;
  std::function<void()> release;
};

// Throws ERR_FILE_FORMAT where the file is too short, can't be opened or can't be mapped.
MappedFile map_file(const std::string& path, int64_t offset, int64_t bytes);

}  // namespace ml::cpu
