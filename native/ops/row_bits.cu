// ReadRows and WriteRows (ops/row_bits.h), elementwise in the widest words that divide a row.

#include "ops/row_bits.h"

#include <algorithm>

#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class Word>
struct ReadRowsRule {
  Word* bits;
  const Word* table;
  const int32_t* rows;
  int64_t width;  // words of a row
  template <int n>
  __device__ void at(int64_t i) const {
    const int64_t row = rows[i / width];
    if (row >= 0) store<n>(bits + i, load<n>(table + row * width + i % width));
  }
};

template <class Word>
struct WriteRowsRule {
  Word* table;
  const int32_t* rows;
  const Word* bits;
  int64_t width;  // words of a row
  template <int n>
  __device__ void at(int64_t i) const {
    const int64_t row = rows[i / width];
    if (row >= 0) store<n>(table + row * width + i % width, load<n>(bits + i));
  }
};

// f(Word) with the widest word that divides a row and its address
template <class F>
void with_words(const View& table, const F& f) {
  const auto address = reinterpret_cast<uintptr_t>(table.data);
  const int64_t bytes = row_bytes(table);
  if (bytes % 4 == 0 && address % 4 == 0) return f(uint32_t{});
  if (bytes % 2 == 0 && address % 2 == 0) return f(uint16_t{});
  f(uint8_t{});
}

void read_from(CudaStream& stream, const View& bits, const View& table, const View& rows) {
  with_words(table, [&](auto word) {
    using Word = decltype(word);
    const int64_t width = row_bytes(table) / static_cast<int64_t>(sizeof(Word));
    const ReadRowsRule<Word> rule{.bits = bits.as<Word>(),
                                  .table = table.as<Word>(),
                                  .rows = rows.as<int32_t>(),
                                  .width = width};
    map(stream, rule, rows.size() * width,
        std::min(widest(rule.bits, width), widest(rule.table, width)));
  });
}

void write_to(CudaStream& stream, const View& table, const View& rows, const View& bits) {
  with_words(table, [&](auto word) {
    using Word = decltype(word);
    const int64_t width = row_bytes(table) / static_cast<int64_t>(sizeof(Word));
    const WriteRowsRule<Word> rule{.table = table.as<Word>(),
                                   .rows = rows.as<int32_t>(),
                                   .bits = bits.as<Word>(),
                                   .width = width};
    map(stream, rule, rows.size() * width,
        std::min(widest(rule.bits, width), widest(rule.table, width)));
  });
}

}  // namespace

void read_rows(CudaStream& stream, const ReadRows& a) {
  stream.check_indices("readRows", "rows", a.rows, a.table.dim(0));
  read_from(stream, a.bits, a.table, a.rows);
}

void write_rows(CudaStream& stream, const WriteRows& a) {
  stream.check_indices("writeRows", "rows", a.rows, a.table.dim(0));
  write_to(stream, a.table, a.rows, a.bits);
  if (a.exact) write_to(stream, a.exact, a.rows, a.exact_bits);
}

}  // namespace ml::ML_CUDA_NAMESPACE
