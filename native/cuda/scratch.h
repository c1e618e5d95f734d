#pragma once
// Device memory for the operation that is being launched: handed out piece by piece, all of it
// reused by the next one, in the order of the stream. Chunks are kept until the end. The emulator
// gets every piece as a block of its own, so that it sees each one's bounds.

#include <cstdint>
#include <vector>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

class Scratch {
 public:
  Scratch() = default;
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* take(int64_t bytes);
  void reset();  // what was taken may be overwritten by what is launched from now on
  // While kept, reset() reuses nothing: the pieces belong to a recorded graph.
  void keep() { kept_ = true; }

 private:
  struct Chunk {
    char* data;
    int64_t bytes;
  };
  std::vector<Chunk> chunks_;
  size_t chunk_ = 0;  // the one in use
  int64_t used_ = 0;  // of it
  bool kept_ = false;
};

}  // namespace ml::ML_CUDA_NAMESPACE
