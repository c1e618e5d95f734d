#pragma once
// Operations on the rows of a matrix [rows, n]. A team of threads has a row: a warp where rows are
// short, a block where they are long. Each thread holds its elements in registers, so a row is read
// once. A row that is longer than the registers of the largest team is cut into parts; what needs
// all of the row before it can write reads such a row twice.

#include <type_traits>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// floats of one row, or of two together, that a thread holds: with all else they fit 64 registers
constexpr int kHeld = 32;
constexpr int kTogether = 8;  // loads that are on their way together, without a branch between them

// kTeam threads, kSlots elements of a row in each. Slot i of a thread holds the part's element
// first + i * kTeam.
template <int kTeam_, int kSlots_, bool kHoldsRow_>
struct RowTeam {
  static constexpr int kTeam = kTeam_, kSlots = kSlots_;
  static constexpr bool kHoldsRow = kHoldsRow_;  // else it takes the row part by part
  static constexpr int kPart = kTeam * kSlots;   // elements
  static constexpr int kBlock = kTeam == kWarp ? kThreads : kTeam;
  // that a multiprocessor should have room for
  static constexpr int kBlocks = kLargestBlock / kBlock;
  static constexpr size_t kSharedBytes = kTeam == kWarp ? 0 : kWarp * sizeof(float);
  static_assert(kSlots % kTogether == 0);
  using Slots = float[kSlots];

  int64_t row, n;
  bool exists;  // false past the last row, where n is 0: threads stay for the reductions
  int first;

  __device__ RowTeam(int64_t rows, int64_t length) {
    row = static_cast<int64_t>(blockIdx.x) * (kBlock / kTeam) + threadIdx.x / kTeam;
    exists = row < rows;
    n = exists ? length : 0;
    first = static_cast<int>(threadIdx.x) % kTeam;
  }
  __device__ bool leads() const { return first == 0 && exists; }

  // f(begin) for each part of the row, in order
  template <class F>
  __device__ void parts(F f) const {
    if constexpr (kHoldsRow) {
      f(int64_t{0});
    } else {
#pragma unroll 1
      for (int64_t begin = 0; begin < n; begin += kPart) f(begin);
    }
  }

  // x is what this thread holds of the part; `absent` in some slots past the end of the row
  __device__ void load(Slots& x, const float* from, int64_t begin, float absent = 0.0f) const {
    const float* mine = from + begin + first;
    slots(begin, [&](int i, bool there) {
      const float loaded = load_if<1>(there, mine + i * kTeam).v[0];
      x[i] = there ? loaded : absent;
    });
  }

  // x times the elements of `by` in the same places
  __device__ void multiply(Slots& x, const float* by, int64_t begin) const {
    const float* mine = by + begin + first;
    slots(begin, [&](int i, bool there) { x[i] *= load_if<1>(there, mine + i * kTeam).v[0]; });
  }

  // f(slot) for what load() has set
  template <class F>
  __device__ void held(int64_t begin, F f) const {
    slots(begin, [&](int i, bool) { f(i); });
  }

  // Writes f(slot, element of the row) to what this thread holds of the part.
  template <class F>
  __device__ void store(float* to, int64_t begin, F f) const {
    float* mine = to + begin + first;
    slots(begin, [&](int i, bool there) {
      if (there) mine[i * kTeam] = f(i, begin + first + i * kTeam);
    });
  }

  __device__ float sum(float v) const {
    if constexpr (kTeam == kWarp)
      return warp_sum(v);
    else
      return block_sum(v, &shared<float>());
  }
  __device__ float greatest(float v) const {
    if constexpr (kTeam == kWarp)
      return warp_max(v);
    else
      return block_max(v, &shared<float>());
  }

 private:
  template <class F>
  __device__ void slots(int64_t begin, F f) const {
    const int count = n - begin < kPart ? static_cast<int>(n - begin) : kPart;
#pragma unroll
    for (int i = 0; i < kSlots; i += kTogether) {
      if (i * kTeam >= count) break;
#pragma unroll
      for (int j = i; j < i + kTogether; ++j) f(j, first + j * kTeam < count);
    }
  }
};

inline int64_t rows_of(const View& x) { return x.dim(-1) == 0 ? 0 : x.size() / x.dim(-1); }

// kernel_of(std::type_identity<Team>) gives the instance for a team; rows are held in kSlots
// elements a thread.
template <int kSlots, class KernelOf, class... Arguments>
void launch_rows(int64_t rows, int64_t n, CudaStream& stream, KernelOf kernel_of,
                 const Arguments&... arguments) {
  const auto with = [&]<class Team>(std::type_identity<Team> team) {
    launch(kernel_of(team), dim3(blocks_for(rows, Team::kBlock / Team::kTeam)), dim3(Team::kBlock),
           Team::kSharedBytes, stream, arguments...);
  };
  if (n <= kWarp * kSlots)
    with(std::type_identity<RowTeam<kWarp, kSlots, true>>{});
  else if (n <= kThreads * kSlots)
    with(std::type_identity<RowTeam<kThreads, kSlots, true>>{});
  else if (n <= kLargestBlock * kSlots)
    with(std::type_identity<RowTeam<kLargestBlock, kSlots, true>>{});
  else
    with(std::type_identity<RowTeam<kLargestBlock, kTogether, false>>{});
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
