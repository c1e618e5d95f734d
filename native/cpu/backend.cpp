#include "cpu/backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "cpu/context.h"
#include "cpu/isa.h"
#include "cpu/stream.h"
#include "cpu/thread_pool.h"
#include "ops/ops.h"

namespace ml::cpu {

// Declares a kernel and gives its arguments their name in profiles.
#define ML_CPU_KERNEL(Args, name)   \
  void name(Context&, const Args&); \
  constexpr const char* name_of(const Args*) { return #name; }
ML_CPU_KERNEL(Fill, fill)
ML_CPU_KERNEL(Copy, copy)
ML_CPU_KERNEL(Combine, combine)
ML_CPU_KERNEL(Activate, activate)
ML_CPU_KERNEL(ActivateBackward, activate_backward)
ML_CPU_KERNEL(RandomFill, random_fill)
ML_CPU_KERNEL(Linear, linear)
ML_CPU_KERNEL(LinearBackward, linear_backward)
ML_CPU_KERNEL(ProductKeyScores, product_key_scores)
ML_CPU_KERNEL(TopK, topk)
ML_CPU_KERNEL(ProductKeyLookup, product_key_lookup)
ML_CPU_KERNEL(ProductKeyLookupBackward, product_key_lookup_backward)
ML_CPU_KERNEL(Softmax, softmax)
ML_CPU_KERNEL(SoftmaxBackward, softmax_backward)
ML_CPU_KERNEL(EmbeddingBag, embedding_bag)
ML_CPU_KERNEL(EmbeddingBagWeightsBackward, embedding_bag_weights_backward)
ML_CPU_KERNEL(SortRows, sort_rows)
ML_CPU_KERNEL(SparseGradValues, sparse_grad_values)
ML_CPU_KERNEL(SparseGradToDense, sparse_grad_to_dense)
ML_CPU_KERNEL(SiluGate, silu_gate)
ML_CPU_KERNEL(SiluGateBackward, silu_gate_backward)
ML_CPU_KERNEL(SigmoidGate, sigmoid_gate)
ML_CPU_KERNEL(SigmoidGateBackward, sigmoid_gate_backward)
ML_CPU_KERNEL(RmsNorm, rms_norm)
ML_CPU_KERNEL(RmsNormBackward, rms_norm_backward)
ML_CPU_KERNEL(CrossEntropy, cross_entropy)
ML_CPU_KERNEL(CrossEntropyBackward, cross_entropy_backward)
ML_CPU_KERNEL(Attention, attention)
ML_CPU_KERNEL(AttentionBackward, attention_backward)
ML_CPU_KERNEL(Peer, peer)
ML_CPU_KERNEL(PeerBackward, peer_backward)
ML_CPU_KERNEL(StepAdvance, step_advance)
ML_CPU_KERNEL(DenseUpdate, dense_update)
ML_CPU_KERNEL(SparseUpdate, sparse_update)
ML_CPU_KERNEL(SumSquares, sum_squares)
ML_CPU_KERNEL(ClipScale, clip_scale)
#undef ML_CPU_KERNEL

namespace {

// A kernel as a slot: enqueued with a copy of its arguments.
template <class Args, void (*kernel)(Context&, const Args&)>
void enqueue(Stream& stream, const Args& args) {
  static_cast<CpuStream&>(stream).launch(name_of(static_cast<const Args*>(nullptr)),
                                         [args](Context& context) { kernel(context, args); });
}

constexpr Operations kOperations = {
    .fill = enqueue<Fill, fill>,
    .copy = enqueue<Copy, copy>,
    .combine = enqueue<Combine, combine>,
    .activate = enqueue<Activate, activate>,
    .activate_backward = enqueue<ActivateBackward, activate_backward>,
    .random_fill = enqueue<RandomFill, random_fill>,
    .linear = enqueue<Linear, linear>,
    .linear_backward = enqueue<LinearBackward, linear_backward>,
    .product_key_scores = enqueue<ProductKeyScores, product_key_scores>,
    .topk = enqueue<TopK, topk>,
    .product_key_lookup = enqueue<ProductKeyLookup, product_key_lookup>,
    .product_key_lookup_backward = enqueue<ProductKeyLookupBackward, product_key_lookup_backward>,
    .softmax = enqueue<Softmax, softmax>,
    .softmax_backward = enqueue<SoftmaxBackward, softmax_backward>,
    .embedding_bag = enqueue<EmbeddingBag, embedding_bag>,
    .embedding_bag_weights_backward =
        enqueue<EmbeddingBagWeightsBackward, embedding_bag_weights_backward>,
    .sort_rows = enqueue<SortRows, sort_rows>,
    .sparse_grad_values = enqueue<SparseGradValues, sparse_grad_values>,
    .sparse_grad_to_dense = enqueue<SparseGradToDense, sparse_grad_to_dense>,
    .silu_gate = enqueue<SiluGate, silu_gate>,
    .silu_gate_backward = enqueue<SiluGateBackward, silu_gate_backward>,
    .sigmoid_gate = enqueue<SigmoidGate, sigmoid_gate>,
    .sigmoid_gate_backward = enqueue<SigmoidGateBackward, sigmoid_gate_backward>,
    .rms_norm = enqueue<RmsNorm, rms_norm>,
    .rms_norm_backward = enqueue<RmsNormBackward, rms_norm_backward>,
    .cross_entropy = enqueue<CrossEntropy, cross_entropy>,
    .cross_entropy_backward = enqueue<CrossEntropyBackward, cross_entropy_backward>,
    .attention = enqueue<Attention, attention>,
    .attention_backward = enqueue<AttentionBackward, attention_backward>,
    .peer = enqueue<Peer, peer>,
    .peer_backward = enqueue<PeerBackward, peer_backward>,
    .step_advance = enqueue<StepAdvance, step_advance>,
    .dense_update = enqueue<DenseUpdate, dense_update>,
    .sparse_update = enqueue<SparseUpdate, sparse_update>,
    .sum_squares = enqueue<SumSquares, sum_squares>,
    .clip_scale = enqueue<ClipScale, clip_scale>,
};

constexpr int64_t kHugePage = int64_t{2} << 20;

// Large blocks come straight from the system, aligned to huge pages and asking for them: random
// rows of a table then cost a quarter of the page walks. Small ones come from malloc.
void* take(int64_t bytes) {
  if (bytes < kHugePage) return std::aligned_alloc(64, static_cast<size_t>((bytes + 63) / 64 * 64));
  const size_t span = static_cast<size_t>(bytes + kHugePage);
  void* raw = mmap(nullptr, span, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  char* base = static_cast<char*>(raw);
  char* aligned = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(base) + kHugePage - 1) /
                                          kHugePage * kHugePage);
  if (aligned != base) munmap(base, static_cast<size_t>(aligned - base));
  char* end = base + span;
  if (aligned + bytes != end) munmap(aligned + bytes, static_cast<size_t>(end - (aligned + bytes)));
  madvise(aligned, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return aligned;
}

void give(void* data, int64_t bytes) {
  if (bytes < kHugePage) {
    std::free(data);
  } else {
    munmap(data, static_cast<size_t>(bytes));
  }
}

std::string processor() {
  // Not a C++ stream: its locales would be a tenth of the binary.
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> info(std::fopen("/proc/cpuinfo", "r"),
                                                             std::fclose);
  char line[256];
  constexpr const char* kStart = "model name\t: ";
  while (info && std::fgets(line, sizeof line, info.get()))
    if (std::strncmp(line, kStart, std::strlen(kStart)) == 0)
      return {line + std::strlen(kStart), line + std::strcspn(line, "\n")};
  return "CPU";
}

}  // namespace

int64_t total_memory() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
}

std::string describe(int threads) {
  const int used = threads > 0 ? threads : usable_cores();
  static const std::string name = processor();
  return name + ", " + isa_name() + ", " + std::to_string(used) +
         (used == 1 ? " thread" : " threads");
}

std::shared_ptr<Device> open(int threads) {
  isa();
  const int used = threads > 0 ? threads : usable_cores();
  auto device = std::make_shared<Device>(kOperations, std::make_unique<CpuStream>(used),
                                         MemorySource{take, give, total_memory()});
  device->name = "cpu";
  device->kind = "cpu";
  device->description = describe(threads);
  return device;
}

}  // namespace ml::cpu
