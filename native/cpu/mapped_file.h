#pragma once
// A range of a file as read-only memory. Pages are read from the disk when they are first used, so
// the range may be larger than the machine's memory. The mapping outlives the descriptor. A file
// that shrinks while it is mapped has no pages for the rest: reading them ends the process
// (SIGBUS).

#include <cstdint>
#include <functional>
#include <string>

namespace ml::cpu {

struct MappedFile {
  void* data;
  std::function<void()> release;
};

// `file`: an open descriptor, which stays the caller's; `path` is for messages alone. Throws
// ERR_FILE_FORMAT where it is not a regular file, is shorter than the range or can't be mapped.
MappedFile map_file(int file, const std::string& path, int64_t offset, int64_t bytes);

}  // namespace ml::cpu
