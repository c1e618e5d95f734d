#include "cpu/context.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "core/error.h"
#include "core/failure.h"
#include "cpu/thread_pool.h"

namespace ml::cpu {

namespace {
constexpr int64_t kAlign = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;
}  // namespace

KernelContext::KernelContext(int threads) : threads_(threads) {}

KernelContext::~KernelContext() {
  for (Block& b : blocks_) std::free(b.data);
}

void KernelContext::run(int64_t n, int64_t grain, RangeBody body) {
  pool_run(threads_, n, grain, body);
}

void* KernelContext::scratch_bytes(int64_t bytes) {
  bytes = std::max<int64_t>(kAlign, (bytes + kAlign - 1) / kAlign * kAlign);
  if (blocks_.empty() || blocks_.back().used + bytes > blocks_.back().bytes) {
    const int64_t last = blocks_.empty() ? 0 : blocks_.back().bytes;
    const int64_t size = (std::max(bytes, last * 2) + kHugePage - 1) / kHugePage * kHugePage;
    blocks_.reserve(blocks_.size() + 1);
    char* data = fails(Failure::malloc)
                     ? nullptr
                     : static_cast<char*>(std::aligned_alloc(kHugePage, static_cast<size_t>(size)));
    if (!data)
      throw Error(Code::out_of_memory,
                  "cpu: no memory for " + std::to_string(size) + " bytes of scratch space.");
    madvise(data, static_cast<size_t>(size), MADV_HUGEPAGE);
    blocks_.push_back({data, size, 0});
  }
  Block& b = blocks_.back();
  void* p = b.data + b.used;
  b.used += bytes;
  return p;
}

// After growth only the largest block stays, so a steady stream of operations allocates nothing.
void KernelContext::reset_scratch() {
  while (blocks_.size() > 1) {
    std::free(blocks_.front().data);
    blocks_.erase(blocks_.begin());
  }
  if (!blocks_.empty()) blocks_.back().used = 0;
}

}  // namespace ml::cpu
