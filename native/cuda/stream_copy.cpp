// Copies between host and device, in chunks through pinned memory. A block of pinned memory begins
// with the fault record; the data follows at kRecordBytes.

#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda/checks.h"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr size_t kSmallWrite = 4096;  // bytes: fewer go in the arguments of kernels

}  // namespace

// ---- Caller's thread

void CudaStream::write(void* target, const void* source, size_t bytes, bool fresh) {
  const char* from = static_cast<const char*>(source);
  if (bytes <= kSmallWrite) {
    if (bytes)
      launch("write", [target, fresh, data = std::vector<char>(from, from + bytes)](CudaStream& s) {
        enqueue_upload(s, target, data.data(), static_cast<int64_t>(data.size()), fresh);
      });
    return;
  }
  use_device();
  for (size_t at = 0; at < bytes; at += kCopyChunk) {
    const size_t chunk = std::min(kCopyChunk, bytes - at);
    const PinnedPool::Block block = caller_staging_.acquire(kRecordBytes + chunk);
    std::memcpy(block.data + kRecordBytes, from + at, chunk);
    char* to = static_cast<char*>(target) + at;
    push({.unconditional = [=, this](Ticket ticket) {
      attempt(ticket, [&] { copy_to_device(to, block, chunk, fresh); });
      SyncPoint point;
      point.ticket = ticket;
      point.pool = &caller_staging_;
      point.block = block;
      enqueue(std::move(point));
    }});
  }
}

void CudaStream::read(void* target, const void* source, size_t bytes, Completion done) {
  push({.unconditional = [=, this, done = std::move(done)](Ticket ticket) {
    read_chunks(ticket, target, source, bytes, done);
  }});
}

void CudaStream::produce(void* target, size_t bytes, std::function<void(void*)> fill) {
  push({.unconditional = [=, this, fill = std::move(fill)](Ticket ticket) {
    produce_chunks(ticket, target, bytes, fill);
  }});
}

// ---- Launch thread

// Waits in fill(), and so does all work that follows.
void CudaStream::produce_chunks(Ticket ticket, void* target, size_t bytes,
                                const std::function<void(void*)>& fill) {
  std::vector<char> data;
  attempt(ticket, [&] {
    data.resize(bytes);
    fill(data.data());
  });
  for (size_t at = 0; at < bytes && !failed_; at += kCopyChunk) {
    const size_t chunk = std::min(kCopyChunk, bytes - at);
    SyncPoint point;
    point.ticket = ticket;
    point.pool = &launch_staging_;
    point.last = at + chunk == bytes;
    attempt(ticket, [&] {
      point.block = launch_staging_.acquire(kRecordBytes + chunk);
      std::memcpy(point.block.data + kRecordBytes, data.data() + at, chunk);
      copy_to_device(static_cast<char*>(target) + at, point.block, chunk, false);
    });
    enqueue(std::move(point));
  }
}

void CudaStream::read_chunks(Ticket ticket, void* target, const void* source, size_t bytes,
                             const Completion& done) {
  size_t at = 0;
  do {
    const size_t chunk = std::min(kCopyChunk, bytes - at);
    SyncPoint point;
    point.ticket = ticket;
    point.pool = &launch_staging_;
    point.target = static_cast<char*>(target) + at;
    point.bytes = chunk;
    point.last = at + chunk == bytes;
    if (point.last) point.finished = done;
    attempt(ticket, [&] {
      if (recording_)
        throw Error(Code::unsupported,
                    "a graph is being recorded: nothing can be read before it ends.");
      point.block = launch_staging_.acquire(kRecordBytes + chunk);
      if (chunk)
        check_cuda(
            cudaMemcpyAsync(point.block.data + kRecordBytes, static_cast<const char*>(source) + at,
                            chunk, cudaMemcpyDeviceToHost, stream_),
            "cudaMemcpyAsync to the host");
    });
    at += chunk;
    enqueue(std::move(point));
  } while (at < bytes);
}

// Copies the data of a block to the device. Memory that earlier work may still use changes only if
// that work was not void: so it is written by a kernel, from scratch memory.
void CudaStream::copy_to_device(void* target, const PinnedPool::Block& block, size_t bytes,
                                bool fresh) {
  void* to = fresh ? target : scratch_->allocate(static_cast<int64_t>(bytes));
  check_cuda(cudaMemcpyAsync(to, block.data + kRecordBytes, bytes, cudaMemcpyHostToDevice, stream_),
             "cudaMemcpyAsync to the device");
  if (!fresh) enqueue_copy(*this, target, to, static_cast<int64_t>(bytes));
  scratch_->reset();
}

}  // namespace ml::ML_CUDA_NAMESPACE
