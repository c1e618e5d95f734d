// Planted mistakes, each of which the emulator must find and name.

#include "harness.h"

namespace simt_test {
namespace {

// Memory.

__global__ void read_beyond_kernel(Guard guard, float* out, const float* in, int n) {
  if (guard.aborted()) return;
  for (int i = threadIdx.x; i <= n; i += blockDim.x) out[threadIdx.x] = in[i];
}
void read_beyond() {
  Device d;
  launch(read_beyond_kernel, 1, 32, 0, d.stream, d.array<float>(32),
         d.array(std::vector<float>(64)), 64);
  d.wait();
}

__global__ void write_before_kernel(Guard guard, float* out) {
  if (guard.aborted()) return;
  out[static_cast<int>(threadIdx.x) - 1] = 1;
}
void write_before() {
  Device d;
  launch(write_before_kernel, 1, 32, 0, d.stream, d.array<float>(32));
  d.wait();
}

__global__ void last_byte_kernel(Guard guard, uint8_t* out, int n) {
  if (guard.aborted()) return;
  out[n] = 1;
}
void last_byte() {
  Device d;
  launch(last_byte_kernel, 1, 1, 0, d.stream, d.array<uint8_t>(33), 33);
  d.wait();
}

void use_after_free() {
  Device d;
  auto* x = d.array<uint8_t>(64);
  cudaFree(x);
  launch(last_byte_kernel, 1, 1, 0, d.stream, x, 0);
  d.wait();
}

__global__ void shared_beyond_kernel(Guard guard, float* out) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  s[threadIdx.x] = 1;
  block_sync();
  out[threadIdx.x] = s[threadIdx.x + 1];
}
void shared_beyond() {
  Device d;
  launch(shared_beyond_kernel, 1, 32, 32 * sizeof(float), d.stream, d.array<float>(32));
  d.wait();
}

__global__ void copy_kernel(Guard guard, float* out, const float* in) {
  if (guard.aborted()) return;
  out[threadIdx.x] = in[threadIdx.x];
}
void unwritten_global() {
  Device d;
  launch(copy_kernel, 1, 32, 0, d.stream, d.array<float>(32), d.array<float>(32));
  d.wait();
}

void host_pointer() {
  Device d;
  static std::vector<float> host(32);
  launch(copy_kernel, 1, 32, 0, d.stream, d.array<float>(32),
         static_cast<const float*>(host.data()));
  d.wait();
}

__global__ void unwritten_shared_kernel(Guard guard, float* out) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  if (threadIdx.x != 7) s[threadIdx.x] = 1;
  block_sync();
  out[threadIdx.x] = s[threadIdx.x ^ 1];
}
void unwritten_shared() {
  Device d;
  launch(unwritten_shared_kernel, 1, 32, 32 * sizeof(float), d.stream, d.array<float>(32));
  d.wait();
}

// What the block before left in shared memory is not there.
__global__ void stale_shared_kernel(Guard guard, float* out) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  if (blockIdx.x == 0) s[0] = 1;
  out[blockIdx.x] = s[0];
}
void stale_shared() {
  Device d;
  launch(stale_shared_kernel, 2, 1, 4, d.stream, d.array<float>(2));
  d.wait();
}

__global__ void misaligned_kernel(Guard guard, float* out, const float* in) {
  if (guard.aborted()) return;
  store(out + 1, load<4>(in));
}
void misaligned() {
  Device d;
  launch(misaligned_kernel, 1, 1, 0, d.stream, d.array<float>(8), d.array(std::vector<float>(4)));
  d.wait();
}

// Order.

__global__ void missing_barrier_kernel(Guard guard, float* out) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  for (int i = 0; i < 2; i++) {
    s[threadIdx.x] = static_cast<float>(i);
    block_sync();
    out[i * blockDim.x + threadIdx.x] = s[(threadIdx.x + 33) % blockDim.x];
    // here one is missing: the next round may write before a neighbour has read
  }
}
void missing_barrier() {
  Device d;
  launch(missing_barrier_kernel, 1, 64, 64 * sizeof(float), d.stream, d.array<float>(128));
  d.wait();
}

__global__ void missing_warp_sync_kernel(Guard guard, float* out) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  s[lane()] = 1;
  const float sum = warp_sum(1.0f);  // a shuffle orders no memory
  out[lane()] = s[lane() ^ 1] + sum;
}
void missing_warp_sync() {
  Device d;
  launch(missing_warp_sync_kernel, 1, 32, 32 * sizeof(float), d.stream, d.array<float>(32));
  d.wait();
}

// Each lane group of eight synchronises by itself, but reads its neighbour's elements.
__global__ void group_sync_kernel(Guard guard, float* out, int distance) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  s[lane()] = 0;
  warp_sync();
  s[lane()] = 1;
  warp_sync(0xffu << (lane() & ~7));
  out[lane()] = s[lane() ^ distance];
}
void wrong_group() {
  Device d;
  launch(group_sync_kernel, 1, 32, 32 * sizeof(float), d.stream, d.array<float>(32), 8);
  d.wait();
}
void right_group() {
  Device d;
  launch(group_sync_kernel, 1, 32, 32 * sizeof(float), d.stream, d.array<float>(32), 7);
  d.wait();
}

__global__ void cross_block_kernel(Guard guard, float* x) {
  if (guard.aborted()) return;
  if (threadIdx.x == 0) x[blockIdx.x] = 1;
  block_sync();
  if (threadIdx.x == 1) x[8 + blockIdx.x] = x[blockIdx.x ^ 1];
}
void cross_block() {
  Device d;
  launch(cross_block_kernel, 2, 32, 0, d.stream, d.array(std::vector<float>(16)));
  d.wait();
}

__global__ void lost_atomic_kernel(Guard guard, uint32_t* count) {
  if (guard.aborted()) return;
  if (threadIdx.x == 0) *count += 1;
}
void lost_atomic() {
  Device d;
  launch(lost_atomic_kernel, 2, 32, 0, d.stream, d.array(std::vector<uint32_t>{0}));
  d.wait();
}

__global__ void half_atomic_kernel(Guard guard, uint32_t* count, uint32_t* out) {
  if (guard.aborted()) return;
  atomic_add(count, 1u);
  out[threadIdx.x] = *count;
}
void half_atomic() {
  Device d;
  launch(half_atomic_kernel, 1, 64, 0, d.stream, d.array(std::vector<uint32_t>{0}),
         d.array<uint32_t>(64));
  d.wait();
}

// The counter is relaxed: it orders nothing.
__global__ void relaxed_arriver_kernel(Guard guard, float* out, float* partial, uint32_t* arrived) {
  if (guard.aborted()) return;
  partial[blockIdx.x] = 1;
  if (atomic_add(arrived, 1u) == gridDim.x - 1)
    for (unsigned b = 0; b < gridDim.x; b++) out[b] = partial[b];
}
void relaxed_arriver() {
  Device d;
  launch(relaxed_arriver_kernel, 3, 1, 0, d.stream, d.array<float>(3), d.array<float>(3),
         d.array(std::vector<uint32_t>{0}));
  d.wait();
}

// The other threads of the block write after the release, for all the counter knows.
__global__ void early_release_kernel(Guard guard, float* out, float* partial, uint32_t* arrived) {
  if (guard.aborted()) return;
  partial[blockIdx.x * blockDim.x + threadIdx.x] = 1;
  uint32_t& arrival = shared<uint32_t>();
  if (threadIdx.x == 0) arrival = atomic_add_acq_rel(arrived, 1);
  block_sync();
  if (arrival == gridDim.x - 1)
    out[threadIdx.x] = partial[threadIdx.x] + partial[blockDim.x + threadIdx.x];
}
void early_release() {
  Device d;
  launch(early_release_kernel, 2, 64, 4, d.stream, d.array<float>(64), d.array<float>(128),
         d.array(std::vector<uint32_t>{0}));
  d.wait();
}

__global__ void missing_wait_kernel(Guard guard, float* out, const float* in) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  copy_async16(s + 4 * threadIdx.x, in + 4 * threadIdx.x);
  copy_async_commit();
  out[threadIdx.x] = s[4 * threadIdx.x];
}
void missing_wait() {
  Device d;
  launch(missing_wait_kernel, 1, 32, 512, d.stream, d.array<float>(32),
         d.array(std::vector<float>(128)));
  d.wait();
}

// Flow.

__global__ void divergent_shuffle_kernel(Guard guard, int* out) {
  if (guard.aborted()) return;
  int v = lane();
  if (lane() < 16) v = shuffle_xor(v, 1);
  out[lane()] = v;
}
void divergent_shuffle() {
  Device d;
  launch(divergent_shuffle_kernel, 1, 32, 0, d.stream, d.array<int>(32));
  d.wait();
}

__global__ void two_shuffles_kernel(Guard guard, int* out) {
  if (guard.aborted()) return;
  int v = lane();
  if (lane() < 16)
    v = shuffle(v, 1);
  else
    v = shuffle(v, 2);
  out[lane()] = v;
}
void two_shuffles() {
  Device d;
  launch(two_shuffles_kernel, 1, 32, 0, d.stream, d.array<int>(32));
  d.wait();
}

__global__ void foreign_source_kernel(Guard guard, int* out) {
  if (guard.aborted()) return;
  const uint32_t mask = 0xffu << (lane() & ~7);
  out[lane()] = shuffle(lane(), 9, mask);
}
void foreign_source() {
  Device d;
  launch(foreign_source_kernel, 1, 32, 0, d.stream, d.array<int>(32));
  d.wait();
}

__global__ void not_in_mask_kernel(Guard guard, int* out) {
  if (guard.aborted()) return;
  out[lane()] = shuffle(lane(), 0, 0xffffu);
}
void not_in_mask() {
  Device d;
  launch(not_in_mask_kernel, 1, 32, 0, d.stream, d.array<int>(32));
  d.wait();
}
void short_warp() {
  Device d;
  launch(divergent_shuffle_kernel, 1, 16, 0, d.stream, d.array<int>(32));
  d.wait();
}

__global__ void partial_mma_kernel(Guard guard, float* out) {
  if (guard.aborted()) return;
  float sums[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  if (lane() < 31) mma_16x8x16(sums, a, b, ml::BFloat16{});
  out[lane()] = sums[0];
}
void partial_mma() {
  Device d;
  launch(partial_mma_kernel, 1, 32, 0, d.stream, d.array<float>(32));
  d.wait();
}

__global__ void divergent_barrier_kernel(Guard guard, int* out) {
  if (guard.aborted()) return;
  if (threadIdx.x < 32)
    block_sync();
  else
    block_sync();
  out[threadIdx.x] = 1;
}
void divergent_barrier() {
  Device d;
  launch(divergent_barrier_kernel, 1, 64, 0, d.stream, d.array<int>(64));
  d.wait();
}

__global__ void return_before_barrier_kernel(Guard guard, int* out, int n) {
  if (guard.aborted()) return;
  if (static_cast<int>(threadIdx.x) >= n) return;
  block_sync();
  out[threadIdx.x] = 1;
}
void return_before_barrier() {
  Device d;
  launch(return_before_barrier_kernel, 1, 64, 0, d.stream, d.array<int>(64), 40);
  d.wait();
}

__global__ void deadlock_kernel(Guard guard, int* out) {
  if (guard.aborted()) return;
  if (threadIdx.x == 3)
    block_sync();
  else
    out[lane()] = shuffle(lane(), 0);
}
void deadlock() {
  Device d;
  launch(deadlock_kernel, 1, 32, 0, d.stream, d.array<int>(64));
  d.wait();
}

// Launches and copies.

void too_many_threads() {
  Device d;
  launch(copy_kernel, 1, 1056, 0, d.stream, d.array<float>(32), d.array(std::vector<float>(32)));
}
void too_much_shared_memory() {
  Device d;
  launch(copy_kernel, 1, 32, 228 * 1024, d.stream, d.array<float>(32),
         d.array(std::vector<float>(32)));
}
void copy_beyond() {
  Device d;
  auto* x = d.array<float>(32);
  cudaMemsetAsync(x, 0, 32 * 4 + 1, d.stream.stream);
  d.wait();
}

}  // namespace

const std::vector<Test>& fault_tests() {
  static const std::vector<Test> tests = {
      {"read one element beyond", read_beyond,
       "read of 4 bytes out of bounds at byte 0: device memory, byte 256 of an allocation of 256 "
       "bytes"},
      {"write one element before", write_before,
       "device memory, 4 bytes before an allocation of 128 bytes"},
      {"write one byte beyond", last_byte, "device memory, byte 33 of an allocation of 33 bytes"},
      {"use after free", use_after_free, "out of bounds"},
      {"read beyond shared memory", shared_beyond, "shared memory, byte 128 of 128"},
      {"read of unwritten device memory", unwritten_global, "never written: device memory, byte 0"},
      {"read of host memory", host_pointer, "read of 4 bytes of host memory"},
      {"read of unwritten shared memory", unwritten_shared,
       "never written: shared memory, byte 28 of 128"},
      {"shared memory of the block before", stale_shared, "never written: shared memory"},
      {"misaligned vector", misaligned, "store of 16 bytes"},
      {"missing barrier", missing_barrier, "at shared memory, byte"},
      {"missing warp_sync", missing_warp_sync, "race: read at shared memory"},
      {"wrong group of lanes", wrong_group, "race: write at shared memory"},
      {"right group of lanes", right_group},
      {"race between blocks", cross_block, "race: write at device memory"},
      {"plain += for an atomic", lost_atomic, "race: read at device memory"},
      {"plain read of an atomic", half_atomic, "race: "},
      {"relaxed last arriver", relaxed_arriver, "race: read at device memory"},
      {"release before the block's barrier", early_release, "race: read at device memory"},
      {"asynchronous copy without a wait", missing_wait, "never written: shared memory"},
      {"divergent shuffle", divergent_shuffle, "shuffle_xor"},
      {"two shuffles for one", two_shuffles, "lanes of a warp diverge"},
      {"shuffle from a lane outside the mask", foreign_source, "which is not in the mask"},
      {"lane outside its mask", not_in_mask, "is not in its own mask"},
      {"mask beyond the block", short_warp, "names lanes that the block does not have"},
      {"mma with 31 lanes", partial_mma, "mma_16x8x16 (bfloat16)"},
      {"barrier in divergent flow", divergent_barrier, "threads of the block diverge"},
      {"return before a barrier", return_before_barrier, "block_sync"},
      {"deadlock", deadlock, "deadlock: no thread of the block can go on"},
      {"too many threads", too_many_threads, "launch: cudaErrorInvalidConfiguration"},
      {"too much shared memory", too_much_shared_memory, "launch: cudaErrorInvalidValue"},
      {"fill beyond", copy_beyond, "fill of 129 bytes out of bounds"},
  };
  return tests;
}

}  // namespace simt_test
