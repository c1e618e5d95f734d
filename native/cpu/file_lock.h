#pragma once
// The lock by which others see that a file is in use. It belongs to the open file: it ends when the
// descriptor is closed, also by the end of the process, however that comes.

namespace ml::cpu {

enum class FileLock { taken, held_by_another, unsupported };

// Does not wait. `unsupported`: the file system has no locks, or the descriptor can't be locked.
FileLock try_lock(int file);

}  // namespace ml::cpu
