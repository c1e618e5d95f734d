// Accesses counted by hand.

#include "harness.h"

namespace simt_test {
namespace {

bool same(const simt::Access& a, uint64_t accesses, uint64_t bytes, uint64_t sectors) {
  const bool ok = a.accesses == accesses && a.bytes == bytes && a.sectors == sectors;
  if (!ok)
    std::fprintf(stderr, "%zu accesses, %zu bytes, %zu sectors\n", static_cast<size_t>(a.accesses), static_cast<size_t>(a.bytes),
                 static_cast<size_t>(a.sectors));
  return ok;
}
bool same(const simt::Shared& a, uint64_t accesses, uint64_t bytes, uint64_t conflicts) {
  const bool ok = a.accesses == accesses && a.bytes == bytes && a.conflicts == conflicts;
  if (!ok)
    std::fprintf(stderr, "%zu accesses, %zu bytes, %zu conflicts\n", static_cast<size_t>(a.accesses), static_cast<size_t>(a.bytes),
                 static_cast<size_t>(a.conflicts));
  return ok;
}

// Each kernel's guard is one access of 4 bytes a lane, one sector a warp.
constexpr uint64_t kGuardBytes = 4 * 32;

__global__ void coalesced_kernel(Guard guard, float* out, const float* in) {
  if (guard.closed()) return;
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = in[i];
}
void coalesced() {
  Device d;
  launch(coalesced_kernel, 3, 64, 0, d.stream, d.array<float>(192), d.array(std::vector<float>(192)));
  d.wait();
  const auto c = simt::counts("coalesced_kernel");
  expect(c.launches == 1 && c.blocks == 3 && c.threads == 192, "launches, blocks, threads");
  expect(same(c.loads, 12, 6 * 128 + 6 * kGuardBytes, 6 * 4 + 6), "six warps load four sectors each");
  expect(same(c.stores, 6, 6 * 128, 6 * 4), "six warps store four sectors each");
}

__global__ void strided_kernel(Guard guard, float* out, const float* in, int stride) {
  if (guard.closed()) return;
  out[threadIdx.x] = in[stride * threadIdx.x];
}
void strided() {
  Device d;
  launch(strided_kernel, 1, 32, 0, d.stream, d.array<float>(32), d.array(std::vector<float>(32 * 8)), 8);
  launch(strided_kernel, 1, 32, 0, d.stream, d.array<float>(32), d.array(std::vector<float>(32 * 3)), 3);
  launch(strided_kernel, 1, 32, 0, d.stream, d.array<float>(32), d.array(std::vector<float>(32)), 0);
  d.wait();
  expect(same(simt::counts("strided_kernel").loads, 6, 3 * 128 + 3 * kGuardBytes, 32 + 12 + 1 + 3), "one sector a lane, 12 in all, one");
}

// Rows of 16-byte vectors, one warp a row of 1 KiB, and a row that begins in the middle of a sector.
__global__ void rows_kernel(Guard guard, float* out, const float* table, int shift) {
  if (guard.closed()) return;
  for (int i = 0; i < 2; i++) store(out + 128 * i + 4 * lane(), load_once<4>(table + shift + 128 * i + 4 * lane()));
}
void rows() {
  Device d;
  launch(rows_kernel, 1, 32, 0, d.stream, d.array<float>(256), d.array(std::vector<float>(256)), 0);
  d.wait();
  expect(same(simt::counts("rows_kernel").loads, 3, 1024 + kGuardBytes, 32 + 1), "full sectors only");
  simt::reset_counts();
  launch(rows_kernel, 1, 32, 0, d.stream, d.array<float>(256), d.array(std::vector<float>(260)), 4);
  d.wait();
  expect(same(simt::counts("rows_kernel").loads, 3, 1024 + kGuardBytes, 2 * 17 + 1), "one sector more a load");
  expect(same(simt::counts("rows_kernel").stores, 2, 1024, 32), "stores");
}

// Lanes whose loops have different lengths share an access as long as they go on.
__global__ void ragged_kernel(Guard guard, float* out, const float* in) {
  if (guard.closed()) return;
  float sum = 0;
  for (int i = 0; i < 1 + lane() / 8; i++) sum += in[32 * i + lane()];
  out[lane()] = sum;
}
void ragged() {
  Device d;
  launch(ragged_kernel, 1, 32, 0, d.stream, d.array<float>(32), d.array(std::vector<float>(128)));
  d.wait();
  // Rounds with 32, 24, 16 and 8 lanes: 4 + 3 + 2 + 1 sectors.
  expect(same(simt::counts("ragged_kernel").loads, 5, 80 * 4 + kGuardBytes, 10 + 1), "rounds of a ragged loop");
}

// Columns of a tile: rows of 32 floats put a column in one bank, rows of 33 do not.
__global__ void tile_kernel(Guard guard, float* out, int row) {
  if (guard.closed()) return;
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
  launch(tile_kernel, 1, 32, 32 * 32 * 4, d.stream, out, 32);
  d.wait();
  auto c = simt::counts("tile_kernel");
  expect(same(c.shared_stores, 32, 32 * 128, 0), "rows have no conflicts");
  expect(same(c.shared_loads, 8, 8 * 128, 8 * 31), "32 passes for a column");
  expect(c.barriers == 1, "one barrier");
  simt::reset_counts();
  launch(tile_kernel, 1, 32, 32 * 33 * 4, d.stream, out, 33);
  d.wait();
  expect(same(simt::counts("tile_kernel").shared_loads, 8, 8 * 128, 0), "padded rows have none");
}

// 16-byte vectors go in four quarters; every second vector makes two passes of each.
__global__ void vectors_kernel(Guard guard, float* out, int step) {
  if (guard.closed()) return;
  float* s = reinterpret_cast<float*>(shared_bytes());
  store(s + 4 * step * lane(), Pack<float, 4>{{1, 2, 3, 4}});
  out[lane()] = load<4>(s + 4 * step * lane()).v[2];
}
void vector_conflicts() {
  Device d;
  auto* out = d.array<float>(32);
  launch(vectors_kernel, 1, 32, 32 * 16, d.stream, out, 1);
  d.wait();
  expect(same(simt::counts("vectors_kernel").shared_stores, 1, 512, 0), "neighbouring vectors have no conflicts");
  simt::reset_counts();
  launch(vectors_kernel, 1, 32, 32 * 32, d.stream, out, 2);
  d.wait();
  expect(same(simt::counts("vectors_kernel").shared_stores, 1, 512, 4), "every second vector: one more pass a quarter");
}

// 16-bit elements: two lanes share a word, which is one access of the bank.
__global__ void halves_kernel(Guard guard, float* out) {
  if (guard.closed()) return;
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
  if (guard.closed()) return;
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
  expect(simt::counts_json().find("\"kernel\": \"operations_kernel\", \"launches\": 1, \"blocks\": 2") != std::string::npos, "as JSON");
}

}  // namespace

const std::vector<Test>& count_tests() {
  static const std::vector<Test> tests = {
      {"coalesced accesses", coalesced}, {"strided accesses", strided},          {"vectors of rows", rows},
      {"ragged loops", ragged},          {"bank conflicts", bank_conflicts},     {"bank conflicts of vectors", vector_conflicts},
      {"16-bit elements", halves},       {"other operations", operations},
  };
  return tests;
}

}  // namespace simt_test
