#pragma once
// What this machine can do at best: loops that move rows or multiply, and nothing else. For the
// benchmark alone; never published.
//
//   gather_rows  reads the listed rows, and the scale of each
//                bytes: rows * row_bytes
//   update_rows  reads and writes the listed rows of `tables`, and the state of each
//                bytes: 2 * tables * rows * row_bytes
//   fma_peak     independent multiply-adds in registers
//                flops: the return value
//
// row_bytes: a multiple of 64.

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
  const int32_t* rows;
  int64_t count;
  int tables = 1;
  int64_t stride = 0;             // bytes from a row of one table to the same row of the next
  const float* scales = nullptr;  // by row
  float* states = nullptr;        // by row
  int64_t distance = 0;           // rows from a read to the prefetch of its row; 0: none
  int level = 1;                  // the cache of that prefetch: 1 (L1d) or 2 (L2)
  int64_t l1_distance = 0;        // rows from a read to a second prefetch, into L1d; 0: none
  bool unrolled = false;          // rows of 1, 2, 4, 8 or 16 lines: no l1_distance
};

// Returns the sum of all 32-bit words of the last chunk of rows.
uint32_t gather_rows(const RowWalk& walk, int threads);
void update_rows(const RowWalk& walk, int threads);
double fma_peak(int64_t rounds, int threads);

}  // namespace ml::bench
