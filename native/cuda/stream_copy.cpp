// Copies between host and device, in chunks through pinned memory. A block of pinned memory begins
// with the state of the checks; the data follows at kStateBytes.

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/insist.h"
#include "cuda/checks.h"
#include "cuda/on_device.h"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr size_t kSmallWrite = 4096;  // bytes: fewer go in the arguments of kernels
constexpr size_t kChunkBlock = kStateBytes + kCopyChunk;

}  // namespace

// ---- Caller's thread

void CudaStream::write(void* target, const void* source, size_t bytes, OutcomePtr outcome, bool) {
  const char* from = static_cast<const char*>(source);
  if (bytes <= kSmallWrite) {
    if (bytes == 0) return outcome->settle(nullptr);
    return launch_own(
        "write",
        [target, bytes, data = stage(source, bytes)](CudaStream& s) {
          enqueue_upload(s, target, data.get(), static_cast<int64_t>(bytes));
        },
        std::move(outcome));
  }
  const OnDevice current(device_);
  if (!caller_staging_.has_room(bytes / kCopyChunk * kChunkBlock + kChunkBlock))
    return launch_unconditional([=, this, data = stage(source, bytes)](Ticket ticket) {
      begin(outcome, ticket);
      const auto* staged = static_cast<const char*>(data.get());
      for (size_t at = 0; at < bytes; at += kCopyChunk) {
        const size_t chunk = std::min(kCopyChunk, bytes - at);
        SyncPoint point;
        point.ticket = ticket;
        point.pool = &launch_staging_;
        point.last = at + chunk == bytes;
        FaultPtr fault;
        if (!outcome->known())
          fault = attempt(ticket, [&] {
            point.block = launch_staging_.acquire(kStateBytes + chunk);
            std::memcpy(point.block.data + kStateBytes, staged + at, chunk);
            copy_to_device(static_cast<char*>(target) + at, point.block, chunk);
          });
        if (fault) settle(*outcome, std::move(fault));
        enqueue(std::move(point));
      }
    });
  std::vector<PinnedPool::Block> blocks;
  try {
    blocks.reserve(bytes / kCopyChunk + 1);
    for (size_t at = 0; at < bytes; at += kCopyChunk) {
      const size_t chunk = std::min(kCopyChunk, bytes - at);
      blocks.push_back(caller_staging_.acquire(kStateBytes + chunk));
      std::memcpy(blocks.back().data + kStateBytes, from + at, chunk);
    }
    launch_unconditional(
        [=, this](Ticket ticket) { write_chunks(ticket, target, bytes, outcome, blocks); });
  } catch (const std::exception&) {
    for (const PinnedPool::Block& block : blocks) caller_staging_.release(block);
    throw;
  }
}

void CudaStream::read(void* target, const void* source, size_t bytes, OutcomePtr outcome,
                      Completion done) {
  launch_unconditional([=, this, done = std::move(done)](Ticket ticket) {
    read_chunks(ticket, target, source, bytes, outcome, done);
  });
}

void CudaStream::produce(void* target, size_t bytes, OutcomePtr outcome, Producer fill) {
  launch_unconditional([=, this, fill = std::move(fill)](Ticket ticket) {
    produce_chunks(ticket, target, bytes, outcome, fill);
  });
}

// ---- Launch thread

// Each block holds a chunk of the data.
void CudaStream::write_chunks(Ticket ticket, void* target, size_t bytes, const OutcomePtr& outcome,
                              const std::vector<PinnedPool::Block>& blocks) {
  begin(outcome, ticket);
  for (size_t i = 0; i < blocks.size(); ++i) {
    const size_t at = i * kCopyChunk, chunk = std::min(kCopyChunk, bytes - at);
    SyncPoint point;
    point.ticket = ticket;
    point.pool = &caller_staging_;
    point.block = blocks[i];
    point.last = i + 1 == blocks.size();
    FaultPtr fault;
    if (!outcome->known())
      fault = attempt(ticket,
                      [&] { copy_to_device(static_cast<char*>(target) + at, blocks[i], chunk); });
    if (fault) settle(*outcome, std::move(fault));
    enqueue(std::move(point));
  }
}

// Waits in fill(), and so does all work that follows.
void CudaStream::produce_chunks(Ticket ticket, void* target, size_t bytes,
                                const OutcomePtr& outcome, const Producer& fill) {
  begin(outcome, ticket);
  std::vector<char> data;
  FaultPtr fault = attempt(ticket, [&] {
    data.resize(bytes);
    FaultPtr missing = fill(data.data());
    if (!missing) return;
    found(ticket, missing);
    settle(*outcome, std::move(missing));
  });
  for (size_t at = 0; at < bytes && !fault && !outcome->known(); at += kCopyChunk) {
    const size_t chunk = std::min(kCopyChunk, bytes - at);
    SyncPoint point;
    point.ticket = ticket;
    point.pool = &launch_staging_;
    point.last = at + chunk == bytes;
    fault = attempt(ticket, [&] {
      point.block = launch_staging_.acquire(kStateBytes + chunk);
      std::memcpy(point.block.data + kStateBytes, data.data() + at, chunk);
      copy_to_device(static_cast<char*>(target) + at, point.block, chunk);
    });
    enqueue(std::move(point));
  }
  if (fault) settle(*outcome, std::move(fault));
}

void CudaStream::read_chunks(Ticket ticket, void* target, const void* source, size_t bytes,
                             const OutcomePtr& outcome, const Completion& done) {
  begin(outcome, ticket);
  size_t at = 0;
  do {
    const size_t chunk = std::min(kCopyChunk, bytes - at);
    SyncPoint point;
    point.ticket = ticket;
    point.pool = &launch_staging_;
    point.outcome = outcome;
    point.last = at + chunk == bytes;
    if (point.last) insist([&] { point.finished = done; });
    FaultPtr fault;
    if (chunk > 0 && !outcome->known())
      fault = attempt(ticket, [&] {
        point.block = launch_staging_.acquire(kStateBytes + chunk);
        check_cuda(
            cudaMemcpyAsync(point.block.data + kStateBytes, static_cast<const char*>(source) + at,
                            chunk, cudaMemcpyDeviceToHost, stream_),
            "cudaMemcpyAsync to the host");
        point.target = static_cast<char*>(target) + at;
        point.bytes = chunk;
      });
    if (fault) settle(*outcome, std::move(fault));
    at += chunk;
    enqueue(std::move(point));
  } while (at < bytes);
}

// Copies the data of a block to the device.
void CudaStream::copy_to_device(void* target, const PinnedPool::Block& block, size_t bytes) {
  check_cuda(
      cudaMemcpyAsync(target, block.data + kStateBytes, bytes, cudaMemcpyHostToDevice, stream_),
      "cudaMemcpyAsync to the device");
}

}  // namespace ml::ML_CUDA_NAMESPACE
