#pragma once
// Elementwise kernels over the elements of many tensors in one launch. They are cut into chunks of
// equal size, the last of each tensor may be shorter, and a block takes every gridDim-th of all.

#include <algorithm>
#include <vector>

#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// Tensors as an argument of a kernel. Item: what the kernel needs of one.
template <class Item>
struct TensorList {
  static constexpr int kCapacity =
      (kListBytes - 16) / static_cast<int>(sizeof(Item) + 2 * sizeof(int64_t));

  Item item[kCapacity];
  int64_t size[kCapacity];  // elements
  int64_t end[kCapacity];   // chunks of all tensors up to this one
  int count = 0;

  __host__ __device__ int64_t chunks() const { return count == 0 ? 0 : end[count - 1]; }
};

template <class Item>
struct Listed {
  Item item;
  int64_t size;
};

// body(item, chunk, begin, end) for each chunk of this block: elements [begin, end) of one tensor.
template <class Item, class F>
__device__ inline void for_chunks(const TensorList<Item>& list, int64_t chunk_size, F body) {
  const int64_t chunks = list.chunks();
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    int low = 0, high = list.count - 1;  // the first tensor whose end is past the chunk
    while (low < high) {
      const int middle = (low + high) / 2;
      if (list.end[middle] > chunk) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const int64_t begin = (chunk - (low == 0 ? 0 : list.end[low - 1])) * chunk_size;
    const int64_t left = list.size[low] - begin;
    body(list.item[low], chunk, begin, begin + (left < chunk_size ? left : chunk_size));
  }
}

// Whether packs of four can be accessed from here on.
template <class T>
bool has_packs_of_four(const T* from) {
  return widest(from, 4) == 4;
}

template <int n>
struct Width {};

// at(i, Width<n>{}): n elements from i on, for all of [begin, end), by a block of kThreads. vec4:
// packs of four are aligned where i is a multiple of four, as begin is.
template <class F>
__device__ inline void for_packs(bool vec4, int64_t begin, int64_t end, F at) {
  const int64_t packed = vec4 ? begin + (end - begin) / 4 * 4 : begin;
  for (int64_t i = begin + 4 * int64_t{threadIdx.x}; i < packed; i += 4 * kThreads)
    at(i, Width<4>{});
  for (int64_t i = packed + threadIdx.x; i < end; i += kThreads) at(i, Width<1>{});
}

// make(input): Listed<Item>, of each of `inputs`; launch(list, grid, first) for lists of them with
// elements, `first`: the chunks of all lists before.
template <class Item, class Input, class Make, class Launch>
void launch_lists(CudaStream& stream, int64_t chunk_size, const std::vector<Input>& inputs,
                  Make make, Launch launch_one) {
  TensorList<Item> list;
  int64_t first = 0;
  const auto flush = [&] {
    if (list.count == 0) return;
    launch_one(list, dim3(striding_blocks(list.chunks(), 1, stream.limits().multiprocessors)),
               first);
    first += list.chunks();
    list.count = 0;
  };
  for (const Input& input : inputs) {
    const Listed<Item> next = make(input);
    if (next.size == 0) continue;
    if (list.count == TensorList<Item>::kCapacity) flush();
    const int64_t before = list.chunks();
    list.item[list.count] = next.item;
    list.size[list.count] = next.size;
    list.end[list.count] = before + (next.size + chunk_size - 1) / chunk_size;
    ++list.count;
  }
  flush();
}

}  // namespace ml::ML_CUDA_NAMESPACE
