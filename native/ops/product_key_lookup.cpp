#include "ops/product_key_lookup.h"

#ifdef ML_ISA
#include "cpu/gemm.h"
#include "cpu/rows.h"
#include "cpu/select.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int64_t kTileBytes = 256 << 10;  // the score tile of one (block of tokens, head, half): half of a small L2
constexpr int64_t kMostBlockRows = 4 * kTileRows;
constexpr int64_t kFewTokens = 4;          // fewer tokens read the keys as they lie, more pack them first

// The buffers of one thread.
struct Room {
  float* panel_a;     // packed queries
  float* tile;        // scores of a block [rows, n]
  float* half_scores;  // [2, rows, k]
  int32_t* half_ids;   // [2, rows, k]
  int32_t* half_found;  // [2, rows]
  float* pair_sums;    // candidates of one token, at most pairs
  int32_t* pair_slots;
  uint64_t* keys;  // for the sorting path
};

// The pairs (i, j) with (i + 1)(j + 1) <= k, in ascending (i, j).
inline int64_t pairs_of(int64_t k) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < k; ++i) pairs += k / (i + 1);
  return pairs;
}

inline float gate_of(Gate gate, float s) {
  if (gate == Gate::relu) return s > 0 ? s : (s != s ? s : 0.0f);
  if (gate == Gate::sigmoid) return sigmoid(set1(s))[0];
  return s;
}

// Gate over the `found` scores of one (token, head); zeros behind them.
inline void write_weights(Gate gate, const float* scores, int64_t found, int64_t k, bool nan, float* weights) {
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
      if (n == kWidth) sums += e;
      else for (int l = 0; l < n; ++l) sum += e[l];
    });
    const Vec total = set1(reduce_add(sums) + sum);
    for_vectors(found, [&](int64_t i, int n) { store_n(weights + i, load_n(weights + i, n) / total, n); });
  } else {
    for (int64_t r = 0; r < found; ++r) weights[r] = gate_of(gate, scores[r]);
  }
  for (int64_t r = found; r < k; ++r) weights[r] = 0;
}

// The exact best k pairs of two sorted half lists: candidates are laid out in ascending (i, j), so ties fall by position.
inline void combine_halves(const ProductKeyLookup& a, const Room& room, int64_t th, const float* const t[2], const int32_t* const ids[2],
                           const int32_t found[2], bool nan) {
  const int64_t k = a.scores.dim(2), n = a.keys.dim(2);
  float* sums = room.pair_sums;
  int32_t* slots = room.pair_slots;
  int64_t count = 0;
  for (int64_t i = 0; i < found[0]; ++i) {
    const int64_t width = k / (i + 1) < found[1] ? k / (i + 1) : found[1];
    const float own = clamp_finite(t[0][i]);
    const int32_t base = static_cast<int32_t>(ids[0][i] * n);
    for (int64_t j = 0; j < width; ++j) {
      sums[count + j] = pair_score(own, clamp_finite(t[1][j]));
      slots[count + j] = base + ids[1][j];
    }
    count += width;
  }
  float* scores = a.scores.as<float>() + th * k;
  int32_t* indices = a.indices.as<int32_t>() + th * k;
  bool sum_nan;
  const int64_t chosen = select_top(sums, count, k, false, scores, indices, room.keys, sum_nan);
  for (int64_t r = 0; r < chosen; ++r) indices[r] = slots[indices[r]];
  for (int64_t r = chosen; r < k; ++r) {
    scores[r] = -__builtin_inff();
    indices[r] = -1;
  }
  write_weights(a.gate, scores, chosen, k, nan, a.weights.as<float>() + th * k);
}

// The half lists of `rows` score rows (leading dimension ld) of half p; nan[r] is set where a row holds one.
inline void select_halves(const ProductKeyLookup& a, const Room& room, int64_t h, int p, float* scores, int64_t ld, int64_t rows,
                          int64_t row_stride, uint8_t* nan) {
  const int64_t n = a.keys.dim(2), k = a.scores.dim(2);
  const uint8_t* mask = a.mask ? a.mask.as<uint8_t>() + (h * 2 + p) * n : nullptr;
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * ld;
    if (mask)
      for (int64_t j = 0; j < n; ++j) row[j] = mask[j] ? row[j] : -__builtin_inff();
    const int64_t at = p * row_stride + r;
    bool seen;
    room.half_found[at] = static_cast<int32_t>(
        select_top(row, n, k, true, room.half_scores + at * k, room.half_ids + at * k, room.keys, seen));
    nan[r] |= static_cast<uint8_t>(seen);
  }
}

inline void finish_rows(const ProductKeyLookup& a, const Room& room, int64_t t0, int64_t h, int64_t rows, int64_t row_stride,
                        const uint8_t* nan) {
  const int64_t H = a.query.dim(1), k = a.scores.dim(2);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t second = row_stride + r;
    const float* const t[2] = {room.half_scores + r * k, room.half_scores + second * k};
    const int32_t* const ids[2] = {room.half_ids + r * k, room.half_ids + second * k};
    const int32_t found[2] = {room.half_found[r], room.half_found[second]};
    combine_halves(a, room, (t0 + r) * H + h, t, ids, found, nan[r]);
  }
}

// One block of tokens and one head: both score tiles, their half lists, the combination.
inline void lookup_block(const ProductKeyLookup& a, const Room& room, const float* packed, int64_t block_rows, int64_t t0, int64_t rows,
                         int64_t h) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  const int64_t columns = round_up(n, kTileColumns);
  uint8_t nan[kMostBlockRows] = {};
  for (int p = 0; p < 2; ++p) {
    const Matrix query{a.query.as<float>() + (h * 2 + p) * d, H * 2 * d, 1};
    const float* keys = packed + (h * 2 + p) * columns * d;
    const Product product{room.tile, columns, query, {}, rows, columns, d, nullptr, false};
    for (int64_t i = 0; i < rows; i += kTileRows) pack_rows(room.panel_a + i * d, query, 0, d, t0 + i, T);
    for (int64_t j = 0; j < columns; j += kTileColumns) {
      for (int64_t i = 0; i < rows; i += kTileRows) {
        Tile acc{};
        multiply_tile(acc, room.panel_a + i * d, keys + j * d, kTileColumns, d);
        write_tile(product, acc, i, j, true);
      }
    }
    select_halves(a, room, h, p, room.tile, columns, rows, block_rows, nan);
  }
  finish_rows(a, room, t0, h, rows, block_rows, nan);
}

struct Plan {
  int64_t block_rows, columns, pairs, k, keys;
};

Room* make_rooms(Context& ctx, const Plan& plan, int64_t d) {
  Room* rooms = ctx.scratch<Room>(ctx.threads());
  for (int w = 0; w < ctx.threads(); ++w) {
    rooms[w].panel_a = ctx.scratch<float>(plan.block_rows * d);
    rooms[w].tile = ctx.scratch<float>(plan.block_rows * plan.columns);
    rooms[w].half_scores = ctx.scratch<float>(2 * plan.block_rows * plan.k);
    rooms[w].half_ids = ctx.scratch<int32_t>(2 * plan.block_rows * plan.k);
    rooms[w].half_found = ctx.scratch<int32_t>(2 * plan.block_rows);
    rooms[w].pair_sums = ctx.scratch<float>(plan.pairs);
    rooms[w].pair_slots = ctx.scratch<int32_t>(plan.pairs);
    rooms[w].keys = ctx.scratch<uint64_t>(plan.keys);
  }
  return rooms;
}

void lookup(Context& ctx, const ProductKeyLookup& a) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2), k = a.scores.dim(2);
  if (T == 0 || H == 0) return;
  Plan plan;
  plan.k = k;
  plan.columns = round_up(n, kTileColumns);
  plan.pairs = pairs_of(k);
  plan.keys = plan.columns > plan.pairs ? plan.columns : plan.pairs;
  plan.block_rows = kMostBlockRows;
  while (plan.block_rows > kTileRows && plan.block_rows * plan.columns * 4 > kTileBytes) plan.block_rows -= kTileRows;
  const Room* rooms = make_rooms(ctx, plan, d);

  if (T <= kFewTokens) {
    float* scores = ctx.scratch<float>(T * H * 2 * n);
    ctx.parallel_for(2 * H * ((n + 255) / 256), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t u = begin; u < end; ++u) {
        const int64_t hp = u % (2 * H), j0 = u / (2 * H) * 256, j1 = j0 + 256 < n ? j0 + 256 : n;
        multiply_dots({scores + hp * n, 2 * H * n, {a.query.as<float>() + hp * d, 2 * H * d, 1},
                           {a.keys.as<float>() + hp * n * d, 1, d}, T, n, d, nullptr, false}, 0, T, j0, j1);
      }
    });
    ctx.parallel_for(T * H, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t th = begin; th < end; ++th) {
        uint8_t nan = 0;
        for (int p = 0; p < 2; ++p)
          select_halves(a, rooms[worker], th % H, p, scores + (th * 2 + p) * n, n, 1, plan.block_rows, &nan);
        finish_rows(a, rooms[worker], th / H, th % H, 1, plan.block_rows, &nan);
      }
    });
    return;
  }

  float* packed = ctx.scratch<float>(2 * H * plan.columns * d);
  const int64_t panels = plan.columns / kTileColumns;
  ctx.parallel_for(2 * H * panels, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t hp = u / panels, j = u % panels * kTileColumns;
      pack_columns(packed + hp * plan.columns * d + j * d, {a.keys.as<float>() + hp * n * d, 1, d}, 0, d, j, n);
    }
  });
  const int64_t blocks = (T + plan.block_rows - 1) / plan.block_rows;
  // Head by head, so that the packed keys of one head stay in the cache over its blocks.
  ctx.parallel_for(H * blocks, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t t0 = u % blocks * plan.block_rows;
      const int64_t rows = T - t0 < plan.block_rows ? T - t0 : plan.block_rows;
      lookup_block(a, rooms[worker], packed, plan.block_rows, t0, rows, u / blocks);
    }
  });
}

// ds of the winners of tokens begin … end (token-heads), and dquery from them.
void backward_queries(const ProductKeyLookupBackward& a, float* ds, int64_t begin, int64_t end) {
  const int64_t H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2), k = a.weights.dim(2);
  for (int64_t th = begin; th < end; ++th) {
    const float *w = a.weights.as<float>() + th * k, *dw = a.dweights.as<float>() + th * k;
    const float* s = a.scores.as<float>() + th * k;
    const int32_t* index = a.indices.as<int32_t>() + th * k;
    float* own = ds + th * k;
    const float mean = a.gate == Gate::softmax ? dot(w, dw, k) : 0;
    for (int64_t r = 0; r < k; ++r) own[r] = index[r] < 0 ? 0 : score_gradient(a.gate, dw[r], w[r], s[r], mean);
    if (!a.dquery) continue;
    for (int p = 0; p < 2; ++p) {
      const float* keys = a.keys.as<float>() + (th % H * 2 + p) * n * d;
      float* dq = a.dquery.as<float>() + (th * 2 + p) * d;
      for_vectors(d, [&](int64_t c, int lanes) {
        Vec sum{};
        for (int64_t r = 0; r < k; ++r) {
          if (index[r] < 0) continue;
          const int64_t j = p == 0 ? index[r] / n : index[r] % n;
          sum = fma(set1(own[r]), load_n(keys + j * d + c, lanes), sum);
        }
        store_n(dq + c, sum, lanes);
      });
    }
  }
}

// dkeys of one (head, half), columns c0 … c1, over all tokens in order.
void backward_keys(const ProductKeyLookupBackward& a, const float* ds, int64_t hp, int64_t c0, int64_t c1) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2), k = a.weights.dim(2);
  float* dkeys = a.dkeys.as<float>() + hp * n * d + c0;
  for (int64_t t = 0; t < T; ++t) {
    const int64_t th = t * H + hp / 2;
    const float* q = a.query.as<float>() + (th * 2 + hp % 2) * d + c0;
    for (int64_t r = 0; r < k; ++r) {
      const int32_t index = a.indices.as<int32_t>()[th * k + r];
      if (index < 0) continue;
      const int64_t j = hp % 2 == 0 ? index / n : index % n;
      const Vec g = set1(ds[th * k + r]);
      float* row = dkeys + j * d;
      for_vectors(c1 - c0, [&](int64_t c, int lanes) { store_n(row + c, fma(g, load_n(q + c, lanes), load_n(row + c, lanes)), lanes); });
    }
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "ops/product_key_lookup.cpp"
#include "cpu/foreach_isa.h"
#include "cpu/widen.h"

namespace ml::cpu {

namespace {
constexpr int64_t kColumns = 64;  // of the keys' gradient for one piece: whole vectors for every instruction set
}

void product_key_lookup(Context& ctx, const ProductKeyLookup& args) {
  ProductKeyLookup a = args;
  a.query = widened(ctx, args.query);
  a.keys = widened(ctx, args.keys);
  ML_DISPATCH(lookup)(ctx, a);
}

void product_key_lookup_backward(Context& ctx, const ProductKeyLookupBackward& args) {
  ProductKeyLookupBackward a = args;
  if (a.dkeys) a.query = widened(ctx, args.query);
  if (a.dquery) a.keys = widened(ctx, args.keys);
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2), k = a.weights.dim(2);
  const int32_t* index = a.indices.as<int32_t>();
  for (int64_t i = 0; i < T * H * k; ++i) {
    if (index[i] < -1 || index[i] >= n * n)
      throw Error(Code::index_range, "productKeyLookupBackward: \"lookup.indices\"[" + std::to_string(i) + "] is " +
                                         std::to_string(index[i]) + ", outside [0, " + std::to_string(n * n) + ").");
  }
  float* ds = ctx.scratch<float>(T * H * k);
  const auto queries = ML_DISPATCH(backward_queries);
  ctx.parallel_for(T * H, 16, [&](int64_t begin, int64_t end, int) { queries(a, ds, begin, end); });
  if (!a.dkeys) return;
  const auto keys = ML_DISPATCH(backward_keys);
  const int64_t blocks = (d + kColumns - 1) / kColumns;
  ctx.parallel_for(2 * H * blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t c0 = u % blocks * kColumns;
      keys(a, ds, u / blocks, c0, c0 + kColumns < d ? c0 + kColumns : d);
    }
  });
}

}  // namespace ml::cpu
#endif
