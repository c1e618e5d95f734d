#pragma once
// What this machine can do at best: loops that move rows or multiply, and nothing else. For the
// benchmark alone; never published.
//
//   gather_rows   reads every byte of the listed rows, and the scale of each; returns a sum of the
//   last of them, as integers
//                                                                                bytes: rows *
//                                                                                row_bytes
//   update_rows   reads and writes every byte of the listed rows of `parts` tables that lie one
//   behind the other, and the number of each
//                                                                                bytes: 2 * parts *
//                                                                                rows * row_bytes
//   fma_peak      independent multiply-adds in registers                         flops: the return
//   value
//
// `ahead`: rows between a read and the prefetch of its row, 0 for none. `cache`: the cache that
// prefetch is for, 1 or 2. `again`: rows between a read and a second prefetch, into the first
// cache, 0 for none. row_bytes: a multiple of 64.

#include <cstdint>
#include <vector>

namespace ml::bench {

// Anonymous memory in huge pages where the system has them, every page touched; all floats 1.
class Memory {
 public:
  explicit Memory(int64_t bytes);  // throws std::bad_alloc
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  char* mapped_;
  int64_t mapped_bytes_;
  char* data_;
  int64_t bytes_;
};

struct RowList {
  std::vector<int32_t> rows;
  int64_t slots;  // every row is in [0, slots)
};

struct RowWalk {
  char* data;
  int64_t row_bytes;
  int64_t part_bytes;  // from a row of one table to the same row of the next
  int parts;
  const float* scales;  // by row, or nullptr
  float* numbers;       // by row, or nullptr
  const int32_t* rows;
  int64_t count;
  int64_t ahead;
  int64_t again;
  int cache;
};

uint32_t gather_rows(const RowWalk& walk, int threads);
void update_rows(const RowWalk& walk, int threads);
double fma_peak(int64_t rounds, int threads);

}  // namespace ml::bench
