#pragma once
// Collectives on tensors, composed of exchanges (distributed/exchange.h) and operations. Sums are
// taken in the order of the ranks by this rank's own kernels, so every rank, every run and every
// MPI gives the same bits. P ranks; "rows" are of the first axis, and rank r's may differ from
// others'. Bytes that a rank sends are counted by name in Group::traffic().

#include <cstdint>
#include <span>
#include <vector>

#include "distributed/exchange.h"

namespace ml {

enum class Combine : uint8_t { sum, mean };
constexpr int count_of(Combine) { return 2; }

// A part of n elements for each of P ranks: part r is [n r / P, n (r + 1) / P).
constexpr int64_t part_begin(int64_t n, int r, int ranks) {
  return n / ranks * r + n % ranks * r / ranks;
}

// t, float32, becomes its sum or mean over the ranks. Sends: its parts to their ranks, then the
// rank's own sum to all others: n - n_r + (P - 1) n_r elements.
void all_reduce(const GroupPtr& group, const Tensor& t, Combine combine);

// As all_reduce, beside the work that follows: advance() has the stream sum what has arrived and
// send the sums on, wait() also waits for those of the others. t must not be used before wait().
class PendingReduce {
 public:
  PendingReduce() = default;
  void advance();
  void wait();

 private:
  friend PendingReduce start_all_reduce(const GroupPtr&, const Tensor&, Combine);
  GroupPtr group_;
  Tensor tensor_, received_;
  Combine combine_ = Combine::sum;
  bool summed_ = false;
  Pending pending_;
};
PendingReduce start_all_reduce(const GroupPtr& group, const Tensor& t, Combine combine);

// t of `root` to all others. Sends: t to each, by the root.
void broadcast(const GroupPtr& group, const Tensor& t, int root);

// Results that are on their way: what `tensor` holds is defined from wait() on.
struct Arriving {
  Tensor tensor;
  Pending pending;

  Tensor wait() {
    if (pending) pending.wait();
    return tensor;
  }
};

// x [rows of this rank, …] of all ranks, below each other. `rows`: of every rank. Sends: x to each
// other rank.
Arriving start_all_gather(const GroupPtr& group, const Tensor& x, std::span<const int64_t> rows);

// x holds send[0] rows for rank 0, then send[1] for rank 1, …; the result receive[r] rows of each
// rank r. Sends: the rows for others.
Arriving start_all_to_all(const GroupPtr& group, const Tensor& x, std::span<const int64_t> send,
                          std::span<const int64_t> receive);

// x, float32, holds rows[r] rows for each rank r; the result is the sum over the ranks of those for
// this one. Sends: the rows for others.
Tensor reduce_scatter(const GroupPtr& group, const Tensor& x, std::span<const int64_t> rows);

}  // namespace ml
