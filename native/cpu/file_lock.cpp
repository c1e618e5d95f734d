#include "cpu/file_lock.h"

#include <sys/file.h>

#include <cerrno>

namespace ml::cpu {

FileLock try_lock(int file) {
  if (::flock(file, LOCK_EX | LOCK_NB) == 0) return FileLock::taken;
  return errno == EWOULDBLOCK ? FileLock::held_by_another : FileLock::unsupported;
}

}  // namespace ml::cpu
