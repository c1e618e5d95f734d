// Accesses counted by hand.

#include "harness.h"

namespace simt_test {
namespace {

bool same(const simt::Access& a, uint64_t accesses, uint64_t bytes, uint64_t sectors) {
  const bool ok = a.accesses == accesses && a.bytes == bytes && a.sectors == sectors;
  if (!ok)
    std::fprintf(stderr, "%zu accesses, %zu bytes, %zu sectors\n", static_cast<size_t>(a.accesses),
                 static_cast<size_t>(a.bytes), static_cast<size_t>(a.sectors));
  return ok;
}
bool same(const simt::Shared& a, uint64_t accesses, uint64_t bytes, uint64_t conflicts) {
  const bool ok = a.accesses == accesses && a.bytes == bytes && a.conflicts == conflicts;
  if (!ok)
    std::fprintf(stderr, "%zu accesses, %zu bytes, %zu conflicts\n",
                 static_cast<size_t>(a.accesses), static_cast<size_t>(a.bytes),
                 static_cast<size_t>(a.conflicts));
  return ok;
}

// What one launch of a warp with `bytes` of shared memory counts.
template <class... Parameters, class... Arguments>
auto counted(Device& d, const char* name, void (*kernel)(Guard, Parameters...), size_t bytes,
             Arguments... arguments) {
  simt::reset_counts();
  launch(kernel, 1, 32, bytes, d.stream, arguments...);
  d.wait();
  return simt::counts(name);
}

// Each kernel's guard is one access of 4 bytes a lane, one sector a warp.
constexpr uint64_t kGuardBytes = 4 * 32;

__global__ void coalesced_kernel(Guard guard, float* out, const float* in) {
  if (guard.aborted()) return;
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = in[i];
}
void coalesced() {
  Device d;
  launch(coalesced_kernel, 3, 64, 0, d.stream, d.array<float>(192),
         d.array(std::vector<float>(192)));
  d.wait();
  const auto c = simt::counts("coalesced_kernel");
  expect(c.launches == 1 && c.blocks == 3 && c.threads == 192, "launches, blocks, threads");
  expect(same(c.loads, 12, 6 * 128 + 6 * kGuardBytes, 6 * 4 + 6),
         "six warps load four sectors each");
  expect(same(c.stores, 6, 6 * 128, 6 * 4), "six warps store four sectors each");
}

__global__ void strided_kernel(Guard guard, float* out, const float* in, int stride) {
  if (guard.aborted()) return;
  out[threadIdx.x] = in[stride * threadIdx.x];
}
void strided() {
  Device d;
  launch(strided_kernel, 1, 32, 0, d.stream, d.array<float>(32),
         d.array(std::vector<float>(32 * 8)), 8);
  launch(strided_kernel, 1, 32, 0, d.stream, d.array<float>(32),
         d.array(std::vector<float>(32 * 3)), 3);
  launch(strided_kernel, 1, 32, 0, d.stream, d.array<float>(32), d.array(std::vector<float>(32)),
         0);
  d.wait();
  expect(same(simt::counts("strided_kernel").loads, 6, 3 * 128 + 3 * kGuardBytes, 32 + 12 + 1 + 3),
         "one sector a lane, 12 in all, one");
}

// A warp copies a row of 1 KiB in 16-byte vectors: one that begins at a sector, and one that
// begins in the middle of a sector.
__global__ void rows_kernel(Guard guard, float* out, const float* table, int shift) {
  if (guard.aborted()) return;
  for (int i = 0; i < 2; i++)
    store(out + 128 * i + 4 * lane(), load<4>(table + shift + 128 * i + 4 * lane()));
}
void rows() {
  Device d;
  launch(rows_kernel, 1, 32, 0, d.stream, d.array<float>(256), d.array(std::vector<float>(256)), 0);
  d.wait();
  expect(same(simt::counts("rows_kernel").loads, 3, 1024 + kGuardBytes, 32 + 1),
         "full sectors only");
  simt::reset_counts();
  launch(rows_kernel, 1, 32, 0, d.stream, d.array<float>(256), d.array(std::vector<float>(260)), 4);
  d.wait();
  expect(same(simt::counts("rows_kernel").loads, 3, 1024 + kGuardBytes, 2 * 17 + 1),
         "one sector more a load");
  expect(same(simt::counts("rows_kernel").stores, 2, 1024, 32), "stores");
}

// Lanes whose loops have different lengths share an access as long as they go on.
__global__ void ragged_kernel(Guard guard, float* out, const float* in) {
  if (guard.aborted()) return;
  float sum = 0;
  for (int i = 0; i < 1 + lane() / 8; i++) sum += in[32 * i + lane()];
  out[lane()] = sum;
}
void ragged() {
  Device d;
  launch(ragged_kernel, 1, 32, 0, d.stream, d.array<float>(32), d.array(std::vector<float>(128)));
  d.wait();
  // Rounds with 32, 24, 16 and 8 lanes: 4 + 3 + 2 + 1 sectors.
  expect(same(simt::counts("ragged_kernel").loads, 5, 80 * 4 + kGuardBytes, 10 + 1),
         "rounds of a ragged loop");
}

// Columns of a tile: rows of 32 floats put a column in one bank, rows of 33 do not.
__global__ void tile_kernel(Guard guard, float* out, int row) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  for (int i = 0; i < 4; i++) s[row * i + lane()] = 1;
  for (int i = 4; i < 32; i++) s[row * i + lane()] = 2;
  block_sync();
  float sum = 0;
  for (int i = 0; i < 8; i++) sum += s[row * lane() + i];
  out[lane()] = sum;
}
void bank_conflicts() {
  Device d;
  auto* out = d.array<float>(32);
  const auto c = counted(d, "tile_kernel", tile_kernel, 32 * 32 * 4, out, 32);
  expect(same(c.shared_stores, 32, 32 * 128, 0), "rows have no conflicts");
  expect(same(c.shared_loads, 8, 8 * 128, 8 * 31), "32 passes for a column");
  expect(c.barriers == 1, "one barrier");
  expect(same(counted(d, "tile_kernel", tile_kernel, 32 * 33 * 4, out, 33).shared_loads, 8, 8 * 128,
              0),
         "padded rows have none");
}

// 16-byte vectors go in four quarters; every second vector makes two passes of each.
__global__ void vectors_kernel(Guard guard, float* out, int step) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  store(s + 4 * step * lane(), Pack<float, 4>{{1, 2, 3, 4}});
  out[lane()] = load<4>(s + 4 * step * lane()).v[2];
}
void vector_conflicts() {
  Device d;
  auto* out = d.array<float>(32);
  expect(
      same(counted(d, "vectors_kernel", vectors_kernel, 32 * 16, out, 1).shared_stores, 1, 512, 0),
      "neighbouring vectors have no conflicts");
  expect(
      same(counted(d, "vectors_kernel", vectors_kernel, 32 * 32, out, 2).shared_stores, 1, 512, 4),
      "every second vector: one more pass a quarter");
}

// 8-byte vectors go in two halves.
__global__ void pairs_kernel(Guard guard, float* out, int step) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  store(s + 2 * step * lane(), Pack<float, 2>{{1, 2}});
  out[lane()] = load<2>(s + 2 * step * lane()).v[1];
}
void pair_conflicts() {
  Device d;
  auto* out = d.array<float>(32);
  expect(same(counted(d, "pairs_kernel", pairs_kernel, 32 * 8, out, 1).shared_stores, 1, 256, 0),
         "the halves may share banks");
  expect(same(counted(d, "pairs_kernel", pairs_kernel, 32 * 24, out, 3).shared_stores, 1, 256, 0),
         "every third pair: each bank once");
  const auto c = counted(d, "pairs_kernel", pairs_kernel, 32 * 32, out, 4);
  expect(same(c.shared_stores, 1, 256, 2 * 3), "every fourth pair: four passes a half");
  expect(same(c.shared_loads, 1, 256, 2 * 3), "loads as stores");
}

// Lanes that access the same word share it, at each width.
template <int n>
__device__ float shared_word(const float* s, int words, int pitch) {
  return load<n>(s + lane() % words * pitch).v[n - 1];
}
__global__ void broadcast_kernel(Guard guard, float* out, int words, int pitch) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  for (int i = lane(); i < 128; i += 32) s[i] = 1;
  warp_sync();
  out[lane()] = shared_word<1>(s, words, pitch) + shared_word<2>(s, words, pitch) +
                shared_word<4>(s, words, pitch);
}
void broadcasts() {
  Device d;
  auto* out = d.array<float>(32);
  expect(same(counted(d, "broadcast_kernel", broadcast_kernel, 512, out, 1, 0).shared_loads, 3,
              128 + 256 + 512, 0),
         "one word for all");
  expect(same(counted(d, "broadcast_kernel", broadcast_kernel, 512, out, 4, 4).shared_loads, 3,
              128 + 256 + 512, 0),
         "four words in different banks");
  expect(same(counted(d, "broadcast_kernel", broadcast_kernel, 512, out, 2, 32).shared_loads, 3,
              128 + 256 + 512, 1 + 2 + 4),
         "two words of one bank: a pass more each time");
}

// Asynchronous copies write shared memory like stores of 16 bytes: eight runs of four units of 16
// bytes, with a pitch of five units.
__global__ void copies_kernel(Guard guard, float* out, const float* in, int stride) {
  if (guard.aborted()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  const int i = lane() / 4, run = stride == 1 ? i : i % 2 * 4 + i / 2, at = lane() % 4 * 4;
  copy_async16(s + run * 20 + at, in + run * 16 + at, 16);
  copy_async_commit();
  copy_async_wait<0>();
  warp_sync();
  out[lane()] = s[lane() / 16 * 20 + lane() % 16];
}
void copy_conflicts() {
  Device d;
  auto* out = d.array<float>(32);
  const auto* in = d.array(std::vector<float>(128));
  auto c = counted(d, "copies_kernel", copies_kernel, 8 * 80, out, in, 1);
  expect(same(c.shared_stores, 1, 512, 4),
         "neighbouring runs: one bank of units twice in each quarter");
  expect(same(c.loads, 2, 512 + kGuardBytes, 16 + 1), "all of the sectors");
  c = counted(d, "copies_kernel", copies_kernel, 8 * 80, out, in, 4);
  expect(same(c.shared_stores, 1, 512, 0), "runs with a stride of four: every bank once");
  expect(same(c.loads, 2, 512 + kGuardBytes, 16 + 1), "the same sectors");
}

// ldmatrix loads eight rows of 16 bytes at a time.
__global__ void matrices_kernel(Guard guard, uint32_t* out, int pitch) {
  if (guard.aborted()) return;
  char* s = shared_bytes();
  for (int i = 0; i < 4; i++)
    store(reinterpret_cast<uint32_t*>(s + lane() * pitch + 16 * i), Pack<uint32_t, 4>{});
  warp_sync();
  uint32_t r[4];
  ldmatrix_x4(r, s + lane() * pitch);
  out[lane()] = r[0];
}
void matrix_conflicts() {
  Device d;
  auto* out = d.array<uint32_t>(32);
  expect(same(counted(d, "matrices_kernel", matrices_kernel, 32 * 64, out, 64).shared_loads, 1, 512,
              4 * 3),
         "rows of 64 bytes: four of eight begin in one bank");
  expect(same(counted(d, "matrices_kernel", matrices_kernel, 32 * 80, out, 80).shared_loads, 1, 512,
              0),
         "rows of 80 bytes: every bank once");
}

// 16-bit elements: two lanes share a word, which is one access of the bank.
__global__ void halves_kernel(Guard guard, float* out) {
  if (guard.aborted()) return;
  uint16_t* s = reinterpret_cast<uint16_t*>(shared_bytes());
  s[lane()] = static_cast<uint16_t>(lane());
  out[lane()] = s[lane()];
}
void halves() {
  Device d;
  auto* out = d.array<float>(32);
  launch(halves_kernel, 1, 32, 64, d.stream, out);
  d.wait();
  expect(same(simt::counts("halves_kernel").shared_loads, 1, 64, 0), "16-bit loads");
}

__global__ void operations_kernel(Guard guard, uint32_t* out) {
  if (guard.aborted()) return;
  uint32_t v = static_cast<uint32_t>(warp_sum(1.0f));
  v += ballot(v > 3);
  warp_sync();
  block_sync();
  block_sync();
  if (lane() < 3) atomic_add(out, v);
}
void operations() {
  Device d;
  launch(operations_kernel, 2, 64, 0, d.stream, d.array(std::vector<uint32_t>{0}));
  d.wait();
  const auto c = simt::counts("operations_kernel");
  expect(c.shuffles == 4 * 5 && c.votes == 4 && c.warp_syncs == 4, "four warps");
  expect(c.barriers == 4 && c.atomics == 12, "two blocks");
  expect(
      simt::counts_json().find(
          "\"kernel\": \"operations_kernel\", \"launches\": 1, \"blocks\": 2") != std::string::npos,
      "as JSON");
}

}  // namespace

const std::vector<Test>& count_tests() {
  static const std::vector<Test> tests = {
      {"coalesced accesses", coalesced},
      {"strided accesses", strided},
      {"vectors of rows", rows},
      {"ragged loops", ragged},
      {"bank conflicts", bank_conflicts},
      {"bank conflicts of vectors", vector_conflicts},
      {"bank conflicts of pairs", pair_conflicts},
      {"words that lanes share", broadcasts},
      {"bank conflicts of copies", copy_conflicts},
      {"bank conflicts of matrices", matrix_conflicts},
      {"16-bit elements", halves},
      {"other operations", operations},
  };
  return tests;
}

}  // namespace simt_test
