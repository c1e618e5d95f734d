#include "cpu/mapped_file.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/failure.h"

namespace ml::cpu {

MappedFile map_file(int file, const std::string& path, int64_t offset, int64_t bytes) {
  const auto bad = [&](const std::string& what) -> Error {
    return Error(Code::file_format,
                 "ValueTable.map: \"" + path + "\" can't be mapped: " + what + ".");
  };
  struct stat info{};
  errno = EIO;  // for a failure on demand
  if (fails(Failure::file) || ::fstat(file, &info) != 0) throw bad(std::strerror(errno));
  if (!S_ISREG(info.st_mode)) throw bad("it is not a regular file");
  if (offset < 0 || bytes <= 0 || bytes > info.st_size || offset > info.st_size - bytes)
    throw bad("it is shorter than its header says");
  const int64_t page = ::sysconf(_SC_PAGESIZE), lead = offset % page;
  const size_t span = static_cast<size_t>(lead + bytes);
  errno = ENOMEM;
  void* base = fails(Failure::file) ? MAP_FAILED
                                    : ::mmap(nullptr, span, PROT_READ, MAP_SHARED, file,
                                             static_cast<off_t>(offset - lead));
  if (base == MAP_FAILED) throw bad(std::strerror(errno));
  // rows are read at random: readahead would fetch pages that are not needed
  ::madvise(base, span, MADV_RANDOM);
  return {static_cast<char*>(base) + lead, [base, span] { ::munmap(base, span); }};
}

}  // namespace ml::cpu
