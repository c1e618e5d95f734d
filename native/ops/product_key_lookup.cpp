#include "ops/product_key_lookup.h"

#ifdef ML_ISA
#include "cpu/gemm.h"
#include "cpu/rows.h"
#include "cpu/screen.h"
#include "cpu/select.h"

namespace ml::cpu::ML_ISA {
namespace {

// the score tile of one (block of tokens, head, half): half of a small L2
constexpr int64_t kTileBytes = 256 << 10;
constexpr int64_t kMostBlockRows = 4 * kTileRows;

using ml::clamp_finite;
inline Vec clamp_finite(Vec x) {
  return x > kGreatest ? set1(kGreatest) : (x < -kGreatest ? set1(-kGreatest) : x);  // NaN stays
}

// The buffers of one thread.
struct Room {
  float* panel_a;       // packed queries
  float* tile;          // scores of a block [rows, stride]
  float* maxima;        // lane maxima of those rows [rows, folds * kWidth]
  float* lanes;         // for find_thresholds
  float* thresholds;    // [rows]; NaN: this row has none
  float* half_scores;   // [2, rows, k], with room for a vector behind
  int32_t* half_ids;    // [2, rows, k], as well
  int32_t* half_found;  // [2, rows]
  float* pair_sums;     // candidates of one token, with room for a vector behind
  int32_t* pair_slots;
  uint64_t* keys;  // for the sorting path
};

struct Plan {
  int64_t block_rows, columns, pairs, k;
  // of the rows of a tile: not a power of two, so that neighbours do not lie in the same sets of
  // the cache
  int64_t stride;
  int64_t folds;         // 0: maxima are not taken from the tiles
  const int32_t* width;  // [k]: how many j there are for each i of the pairs
  const int32_t* reach;  // [k]: the first j with (i + 1)(j + 1) >= k
};

// The pairs (i, j) with (i + 1)(j + 1) <= k, in ascending (i, j).
inline int64_t pairs_of(int64_t k) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < k; ++i) pairs += k / (i + 1);
  return pairs;
}

// Gate over the `found` scores of one (token, head); zeros behind them.
inline void write_weights(Gate gate, const float* scores, int64_t found, int64_t k, bool nan,
                          float* weights) {
  if (nan) {
    for (int64_t r = 0; r < k; ++r) weights[r] = __builtin_nanf("");
    return;
  }
  if (gate == Gate::softmax) {
    float sum = 0;
    Vec sums{};
    for_vectors(found, [&](int64_t i, int n) {
      Vec e = exp(load_n(scores + i, n) - scores[0]);
      store_n(weights + i, e, n);
      if (n == kWidth)
        sums += e;
      else
        for (int l = 0; l < n; ++l) sum += e[l];
    });
    const Vec total = set1(reduce_add(sums) + sum);
    for_vectors(found,
                [&](int64_t i, int n) { store_n(weights + i, load_n(weights + i, n) / total, n); });
  } else {
    const auto sigmoid_of = [](float s) { return sigmoid(set1(s))[0]; };
    for (int64_t r = 0; r < found; ++r) weights[r] = gate_weight(gate, scores[r], sigmoid_of);
  }
  for (int64_t r = found; r < k; ++r) weights[r] = 0;
}

// The candidates of two sorted half lists of finite scores, in ascending (i, j), so that ties fall
// by position. Returns how many.
inline int64_t add_pairs(const Plan& plan, int64_t n, const Room& room, const float* const t[2],
                         const int32_t* const ids[2], const int32_t found[2]) {
  // Copies: the compiler can't know that what is written leaves them alone.
  float* const sums = room.pair_sums;
  int32_t* const slots = room.pair_slots;
  const float *const first = t[0], *const second = t[1];
  int64_t count = 0;
  for (int64_t i = 0; i < found[0]; ++i) {
    const int64_t width = plan.width[i] < found[1] ? plan.width[i] : found[1];
    const Vec own = set1(first[i]);
    const IVec base = IVec{} + static_cast<int32_t>(ids[0][i] * n);
    for (int64_t j = 0; j < width; j += kWidth) {
      // What is written past the width is written over by the next i, or lies in the room behind.
      store(sums + count + j, clamp_finite(own + load(second + j)));
      IVec slot;
      __builtin_memcpy(&slot, ids[1] + j, sizeof(slot));
      slot += base;
      __builtin_memcpy(slots + count + j, &slot, sizeof(slot));
    }
    count += width;
  }
  return count;
}

// A sum that at least k candidates reach: (i + 1)(j + 1) pairs stand before the pair (i, j) or are
// it. The least of all if a list is short.
inline float pair_threshold(const Plan& plan, const float* const t[2], const int32_t found[2]) {
  if (found[0] < plan.k || found[1] < plan.k) return -kGreatest;
  constexpr int kChains = 4;  // of comparisons, so that they need not wait for each other
  float best[kChains];
  for (float& b : best) b = -kGreatest;
  for (int64_t i = 0; i < plan.k; ++i) {
    const float sum = t[0][i] + t[1][plan.reach[i]];
    float& b = best[i % kChains];
    b = sum > b ? sum : b;
  }
  for (float b : best) best[0] = b > best[0] ? b : best[0];
  return clamp_finite(best[0]);
}

// The exact best k pairs of two sorted half lists.
inline void combine_halves(const ProductKeyLookup& a, const Room& room, const Plan& plan,
                           int64_t th, float* const t[2], const int32_t* const ids[2],
                           const int32_t found[2], bool nan) {
  const int64_t k = plan.k;
  for (int p = 0; p < 2; ++p)
    for (int64_t r = 0; r < found[p]; ++r) t[p][r] = clamp_finite(t[p][r]);
  const int64_t count = add_pairs(plan, a.keys.dim(2), room, t, ids, found);
  float* scores = a.scores.as<float>() + th * k;
  int32_t* indices = a.indices.as<int32_t>() + th * k;
  int64_t chosen = count < k ? count : k;
  if (nan || k > kMostFast ||
      !select_above(room.pair_sums, count, k, pair_threshold(plan, t, found), scores, indices))
    chosen = sort_top(room.pair_sums, count, k, false, scores, indices, room.keys);
  for (int64_t r = 0; r < chosen; ++r) indices[r] = room.pair_slots[indices[r]];
  for (int64_t r = chosen; r < k; ++r) {
    scores[r] = -__builtin_inff();
    indices[r] = -1;
  }
  write_weights(a.gate, scores, chosen, k, nan, a.weights.as<float>() + th * k);
}

// The half list of row r of a block, in half p. threshold: of the row, or NaN. Sets `nan` if the
// row holds one.
inline void select_half(const ProductKeyLookup& a, const Room& room, const Plan& plan, int64_t h,
                        int p, int64_t r, float* row, int64_t length, float threshold,
                        uint8_t& nan) {
  const int64_t n = a.keys.dim(2), k = plan.k, at = p * plan.block_rows + r;
  float* scores = room.half_scores + at * k;
  int32_t* ids = room.half_ids + at * k;
  if (threshold == threshold && select_above(row, length, k, threshold, scores, ids)) {
    room.half_found[at] = static_cast<int32_t>(k);
    return;
  }
  if (a.mask) {
    const uint8_t* mask = a.mask.as<uint8_t>() + (h * 2 + p) * n;
    for (int64_t j = 0; j < n; ++j) row[j] = mask[j] ? row[j] : -__builtin_inff();
  }
  bool seen;
  room.half_found[at] =
      static_cast<int32_t>(select_top(row, n, k, true, scores, ids, room.keys, seen));
  nan |= static_cast<uint8_t>(seen);
}

inline void finish_row(const ProductKeyLookup& a, const Room& room, const Plan& plan, int64_t th,
                       int64_t r, bool nan) {
  const int64_t second = plan.block_rows + r, k = plan.k;
  float* const t[2] = {room.half_scores + r * k, room.half_scores + second * k};
  const int32_t* const ids[2] = {room.half_ids + r * k, room.half_ids + second * k};
  const int32_t found[2] = {room.half_found[r], room.half_found[second]};
  combine_halves(a, room, plan, th, t, ids, found, nan);
}

// A tile of scores into its rows of the block.
inline __attribute__((always_inline)) void keep_tile(const Tile& acc, float* tile, int64_t stride) {
  for (int r = 0; r < kTileRows; ++r)
    for (int v = 0; v < kTileVectors; ++v) store(tile + r * stride + v * kWidth, acc[r][v]);
}

// Its lane maxima into those of its rows, which are `stride` apart. Read back from the cache: the
// registers belong to the product.
inline void fold_tile(const float* tile, int64_t tile_stride, float* maxima, int64_t stride,
                      bool first) {
  for (int r = 0; r < kTileRows; ++r, tile += tile_stride, maxima += stride) {
    const Vec greatest = max(load(tile), load(tile + kWidth));
    store(maxima, first ? greatest : max(greatest, load(maxima)));
  }
}

// Scores of one block of tokens against one half of a head's keys, into the tile. Columns past n
// hold -Inf.
inline void score_block(const ProductKeyLookup& a, const Room& room, const Plan& plan,
                        const float* keys, int64_t t0, int64_t rows, int64_t hp) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  const int64_t columns = plan.columns, folds = plan.folds;
  const Matrix query{a.query.as<float>() + hp * d, H * 2 * d, 1};
  for (int64_t i = 0; i < rows; i += kTileRows)
    pack_rows(room.panel_a + i * d, query, 0, d, t0 + i, T);
  for (int64_t j = 0, fold = 0; j < columns;
       j += kTileColumns, fold = fold + 1 == folds ? 0 : fold + 1)
    for (int64_t i = 0; i < rows; i += kTileRows) {
      float* tile = room.tile + i * plan.stride;
      Tile acc{};
      multiply_tile(acc, room.panel_a + i * d, keys + j * d, kTileColumns, d);
      keep_tile(acc, tile + j, plan.stride);
      for (int64_t c = n; c < j + kTileColumns; ++c)
        for (int r = 0; r < kTileRows; ++r) tile[r * plan.stride + c] = -__builtin_inff();
      if (folds)
        fold_tile(tile + j, plan.stride, room.maxima + (i * folds + fold) * kWidth, folds * kWidth,
                  j < folds * kTileColumns);
    }
}

// The thresholds of a block's rows, from their maxima.
inline void block_thresholds(const Room& room, const Plan& plan, int64_t rows) {
  const int64_t maxima = plan.folds * kWidth;
  for (int64_t r = 0; r < rows; r += kWidth) {
    if (maxima)
      find_thresholds(room.maxima + r * maxima, maxima, plan.k, room.lanes, room.thresholds + r);
    else
      store(room.thresholds + r, set1(__builtin_nanf("")));
  }
}

// The half lists of a block of tokens in one half of a head, from its scores. packed: the keys of
// that half.
inline void select_block(const ProductKeyLookup& a, const Room& room, const Plan& plan,
                         const float* packed, int64_t t0, int64_t rows, int64_t h, int p,
                         uint8_t* nan) {
  score_block(a, room, plan, packed, t0, rows, h * 2 + p);
  block_thresholds(room, plan, rows);
  for (int64_t r = 0; r < rows; ++r)
    select_half(a, room, plan, h, p, r, room.tile + r * plan.stride, plan.columns,
                room.thresholds[r], nan[r]);
}

Plan make_plan(Context& ctx, const ProductKeyLookup& a) {
  Plan plan;
  plan.k = a.scores.dim(2);
  plan.columns = round_up(a.keys.dim(2), kTileColumns);
  plan.stride = plan.columns + kTileColumns;
  plan.pairs = pairs_of(plan.k);
  plan.block_rows = kMostBlockRows;
  while (plan.block_rows > kTileRows && plan.block_rows * plan.stride * 4 > kTileBytes)
    plan.block_rows -= kTileRows;
  // Every fold needs a panel of its own, else there are too few maxima; masked scores are masked
  // after the product.
  const bool fold =
      !a.mask && plan.k <= kMostFast && folds_of(plan.k) <= plan.columns / kTileColumns;
  plan.folds = fold ? folds_of(plan.k) : 0;
  int32_t *width = ctx.scratch<int32_t>(plan.k), *reach = ctx.scratch<int32_t>(plan.k);
  for (int64_t i = 0; i < plan.k; ++i) {
    width[i] = static_cast<int32_t>(plan.k / (i + 1));
    reach[i] = static_cast<int32_t>((plan.k - 1) / (i + 1));
  }
  plan.width = width;
  plan.reach = reach;
  return plan;
}

Room* make_rooms(Context& ctx, const Plan& plan, int64_t d) {
  Room* rooms = ctx.scratch<Room>(ctx.threads());
  for (int w = 0; w < ctx.threads(); ++w) {
    rooms[w].panel_a = ctx.scratch<float>(plan.block_rows * d);
    rooms[w].tile = ctx.scratch<float>(plan.block_rows * plan.stride);
    rooms[w].maxima = ctx.scratch<float>(round_up(plan.block_rows, kWidth) * plan.folds * kWidth);
    rooms[w].lanes = ctx.scratch<float>(plan.folds * kWidth * kWidth);
    rooms[w].thresholds = ctx.scratch<float>(round_up(plan.block_rows, kWidth));
    rooms[w].half_scores = ctx.scratch<float>(2 * plan.block_rows * plan.k + kWidth);
    rooms[w].half_ids = ctx.scratch<int32_t>(2 * plan.block_rows * plan.k + kWidth);
    rooms[w].half_found = ctx.scratch<int32_t>(2 * plan.block_rows);
    rooms[w].pair_sums = ctx.scratch<float>(plan.pairs + kWidth);
    rooms[w].pair_slots = ctx.scratch<int32_t>(plan.pairs + kWidth);
    rooms[w].keys = ctx.scratch<uint64_t>(plan.columns > plan.pairs ? plan.columns : plan.pairs);
  }
  return rooms;
}

// Few tokens: the keys are read as they lie, once, by all threads.
void lookup_few(Context& ctx, const ProductKeyLookup& a, const Plan& plan, const Room* rooms) {
  constexpr int64_t kKeys = 256;  // of one piece
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  float* scores = ctx.scratch<float>(T * H * 2 * n);
  ctx.parallel_for(2 * H * divide_up(n, kKeys), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t hp = u % (2 * H), j0 = u / (2 * H) * kKeys,
                    j1 = j0 + kKeys < n ? j0 + kKeys : n;
      multiply_dots({scores + hp * n,
                     2 * H * n,
                     {a.query.as<float>() + hp * d, 2 * H * d, 1},
                     {a.keys.as<float>() + hp * n * d, 1, d},
                     T,
                     n,
                     d,
                     nullptr,
                     false},
                    0, T, j0, j1);
    }
  });
  ctx.parallel_for(T * H, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t th = begin; th < end; ++th) {
      uint8_t nan = 0;
      for (int p = 0; p < 2; ++p)
        select_half(a, rooms[worker], plan, th % H, p, 0, scores + (th * 2 + p) * n, n,
                    __builtin_nanf(""), nan);
      finish_row(a, rooms[worker], plan, th, 0, nan);
    }
  });
}

// select(worker, t0, rows, h, p, nan): the half lists of a block of tokens in half p of head h,
// into the worker's room.
template <class Select>
void lookup_blocks(Context& ctx, const ProductKeyLookup& a, const Plan& plan, const Room* rooms,
                   Select&& select) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), blocks = divide_up(T, plan.block_rows);
  // Head by head, so that the packed keys of one head stay in the cache over its blocks.
  ctx.parallel_for(H * blocks, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t h = u / blocks, t0 = u % blocks * plan.block_rows;
      const int64_t rows = T - t0 < plan.block_rows ? T - t0 : plan.block_rows;
      uint8_t nan[kMostBlockRows] = {};
      for (int p = 0; p < 2; ++p) select(worker, t0, rows, h, p, nan);
      for (int64_t r = 0; r < rows; ++r)
        finish_row(a, rooms[worker], plan, (t0 + r) * H + h, r, nan[r]);
    }
  });
}

#if ML_ISA_LEVEL == 3
// What one thread knows of the head it is at.
struct ScreenRoom {
  ByteRows rows;  // queries of a block
  int64_t head;
  // rows of its last block, in each half, of which too many scores might be among the greatest
  int64_t failed[2];
};

// Bounds of the scores of a block's rows, into the tile, and the thresholds that k of each row's
// reach.
inline void bound_block(const Room& room, const Plan& plan, const ByteRows& rows,
                        const ByteColumns& keys, int64_t count, int64_t d) {
  const int64_t folds = plan.folds, groups = groups_of(d);
  for (int64_t i = 0; i < count * folds * kWidth; i += kWidth)
    store(room.maxima + i, set1(-__builtin_inff()));
  for (int64_t j = 0, fold = 0; j < plan.columns;
       j += kTileColumns, fold = fold + 1 == folds ? 0 : fold + 1)
    for (int64_t r = 0; r < count; r += kTileRows)
      bound_tile(rows, r, keys, j, groups, room.tile + r * plan.stride + j, plan.stride,
                 room.maxima + (r * folds + fold) * kWidth, folds * kWidth);
  block_thresholds(room, plan, count);
}

// The half lists of a block of tokens in one half of a head, from bounds of its scores, or from all
// scores where bounds don't help.
inline void screen_block(const ProductKeyLookup& a, const Room& room, const Plan& plan,
                         ScreenRoom& screen, const ByteColumns& keys, const ByteBounds& bounds,
                         int64_t t0, int64_t rows, int64_t h, int p, uint8_t* nan) {
  const int64_t H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2), hp = h * 2 + p;
  const float* lines = a.keys.as<float>() + hp * n * d;
  const auto query = [&](int64_t r) { return a.query.as<float>() + ((t0 + r) * H * 2 + hp) * d; };
  if (screen.head != h) screen.head = h, screen.failed[0] = screen.failed[1] = 0;
  // else this block is much like the last one
  const bool worth = screen.failed[p] <= plan.block_rows / 2;
  if (worth) {
    for (int64_t r = 0; r < rows; ++r) pack_byte_row(screen.rows, r, query(r), d, bounds);
    bound_block(room, plan, screen.rows, keys, rows, d);
  }
  int64_t failed[kMostBlockRows], count = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = p * plan.block_rows + r;
    const float threshold = room.thresholds[r];
    room.half_found[at] = static_cast<int32_t>(plan.k);
    if (!worth || !select_screened(query(r), lines, d, room.tile + r * plan.stride, n, plan.k,
                                   screen.rows.scales[r], threshold,
                                   threshold + 2 * screen.rows.slack[r] * bounds.norm,
                                   room.half_scores + at * plan.k, room.half_ids + at * plan.k))
      failed[count++] = r;
  }
  screen.failed[p] = count;
  for (int64_t i = 0; i < count; i += kScoredRows) {
    const float* x[kScoredRows];
    float* scores[kScoredRows];
    for (int64_t s = 0; s < kScoredRows; ++s) {
      const int64_t r = failed[i + s < count ? i + s : count - 1];
      x[s] = query(r);
      scores[s] = room.tile + r * plan.stride;
    }
    score_all(x, lines, d, n, scores);
  }
  for (int64_t i = 0; i < count; ++i)
    select_half(a, room, plan, h, p, failed[i], room.tile + failed[i] * plan.stride, n,
                __builtin_nanf(""), nan[failed[i]]);
}

// The lookup by bounds of the scores; false, and nothing written, if the keys are not fit for them.
bool lookup_screened(Context& ctx, const ProductKeyLookup& a, const Plan& plan, const Room* rooms) {
  const int64_t H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2),
                panels = plan.columns / kTileColumns, bytes = groups_of(d) * kGroup;
  const auto columns = ctx.scratch<ByteColumns>(2 * H);
  // of each panel; the first of a half becomes that of all
  const auto bounds = ctx.scratch<ByteBounds>(2 * H * panels);
  for (int64_t hp = 0; hp < 2 * H; ++hp)
    columns[hp] = {ctx.scratch<uint8_t>(plan.columns * bytes), ctx.scratch<float>(plan.columns),
                   ctx.scratch<float>(plan.columns)};
  ctx.parallel_for(2 * H * panels, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t hp = u / panels;
      bounds[u] = pack_byte_columns(columns[hp], a.keys.as<float>() + hp * n * d, d,
                                    u % panels * kTileColumns, n);
    }
  });
  for (int64_t hp = 0; hp < 2 * H; ++hp) {
    for (int64_t i = 1; i < panels; ++i) bounds[hp * panels].join(bounds[hp * panels + i]);
    if (!bounds[hp * panels].usable) return false;
  }
  const auto screens = ctx.scratch<ScreenRoom>(ctx.threads());
  for (int w = 0; w < ctx.threads(); ++w)
    screens[w] = {
        {ctx.scratch<int8_t>(plan.block_rows * bytes), ctx.scratch<int32_t>(plan.block_rows),
         ctx.scratch<float>(plan.block_rows), ctx.scratch<float>(plan.block_rows)},
        -1,
        {}};
  lookup_blocks(ctx, a, plan, rooms,
                [&](int worker, int64_t t0, int64_t rows, int64_t h, int p, uint8_t* nan) {
                  const int64_t hp = h * 2 + p;
                  screen_block(a, rooms[worker], plan, screens[worker], columns[hp],
                               bounds[hp * panels], t0, rows, h, p, nan);
                });
  return true;
}
#endif

void lookup(Context& ctx, const ProductKeyLookup& a) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  if (T == 0 || H == 0) return;
  const Plan plan = make_plan(ctx, a);
  const Room* rooms = make_rooms(ctx, plan, d);
  if (T <= kFewRows) return lookup_few(ctx, a, plan, rooms);

#if ML_ISA_LEVEL == 3
  if (isa() == Isa::avx512vnni && plan.folds && n >= kFewestScreened && d <= kLongestScreened &&
      lookup_screened(ctx, a, plan, rooms))
    return;
#endif
  float* packed = ctx.scratch<float>(2 * H * plan.columns * d);
  const int64_t panels = plan.columns / kTileColumns;
  ctx.parallel_for(2 * H * panels, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t hp = u / panels, j = u % panels * kTileColumns;
      pack_columns(packed + hp * plan.columns * d + j * d, {a.keys.as<float>() + hp * n * d, 1, d},
                   0, d, j, n);
    }
  });
  lookup_blocks(ctx, a, plan, rooms,
                [&](int worker, int64_t t0, int64_t rows, int64_t h, int p, uint8_t* nan) {
                  select_block(a, rooms[worker], plan, packed + (h * 2 + p) * plan.columns * d, t0,
                               rows, h, p, nan);
                });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "ops/product_key_lookup.cpp"
#include "cpu/foreach_isa.h"
#include "cpu/widen.h"

namespace ml::cpu {

void product_key_lookup(Context& ctx, const ProductKeyLookup& args) {
  ProductKeyLookup a = args;
  a.query = widened(ctx, args.query);
  a.keys = widened(ctx, args.keys);
  ML_DISPATCH(lookup)(ctx, a);
}

}  // namespace ml::cpu
#endif
