// The kernels on the emulator against the CPU: kernel_test [operation]. Every mutation of
// mutations.mjs must fail it.

#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/half.h"
#include "cpu/backend.h"
#include "cuda/backend.h"
#include "layer/run.h"

using namespace ml;

namespace {

void require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

FaultPtr fault_of(Device& device) {
  device.stream().wait();
  return device.stream().report_fault(device.stream().submitted());
}

// Both devices, and the same numbers on both.
struct Pair {
  std::shared_ptr<Device> cpu = cpu::open(1), simt = simt::open(0);
};

struct Both {
  Tensor cpu, simt;
};

Both from_host(Pair& p, const Shape& shape, DType dtype, const void* data) {
  Both b{empty(*p.cpu, shape, dtype), empty(*p.simt, shape, dtype)};
  for (Tensor* t : {&b.cpu, &b.simt}) write(t->view(), data);
  require(!fault_of(*p.cpu) && !fault_of(*p.simt), "writes");
  return b;
}

// Rounded to TF32, which the CPU does not do.
float to_tf32(float v) {
  return std::bit_cast<float>((std::bit_cast<uint32_t>(v) + 0x1000u) & 0xffffe000u);
}

// Numbers in [-1, 1), the same for every device and run. For products in TF32 the CPU has them
// rounded.
Both numbers(Pair& p, const Shape& shape, uint64_t seed, DType dtype = DType::f32,
             Compute compute = Compute::float32) {
  std::vector<float> values(static_cast<size_t>(shape.size()));
  for (float& v : values)
    v = static_cast<float>((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 40) *
            0x1p-23f -
        1;
  if (dtype == DType::f32) {
    Both b = from_host(p, shape, dtype, values.data());
    if (compute != Compute::tf32) return b;
    for (float& v : values) v = to_tf32(v);
    write(b.cpu.view(), values.data());
    require(!fault_of(*p.cpu), "writes");
    return b;
  }
  std::vector<uint16_t> bits;
  for (const float v : values)
    bits.push_back(dtype == DType::bf16 ? to_bfloat16(v).bits : to_half(v).bits);
  return from_host(p, shape, dtype, bits.data());
}

Both indices(Pair& p, const Shape& shape, int64_t slots, uint64_t seed) {
  std::vector<int32_t> values(static_cast<size_t>(shape.size()));
  for (int32_t& v : values)
    v = static_cast<int32_t>((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 33) %
        static_cast<int32_t>(slots);
  return from_host(p, shape, DType::i32, values.data());
}

Both output(Pair& p, const Shape& shape, DType dtype = DType::f32) {
  return {empty(*p.cpu, shape, dtype), empty(*p.simt, shape, dtype)};
}
Both zeros_of(Pair& p, const Shape& shape) { return {zeros(*p.cpu, shape), zeros(*p.simt, shape)}; }

std::vector<char> read(const Tensor& t) {
  std::vector<char> host(static_cast<size_t>(t.bytes()));
  ml::read(host.data(), t.view(), nullptr);
  require(!fault_of(t.device()), "no fault");
  return host;
}

// Float32 within the tolerance; anything else bit by bit. NaN is never close.
void compare(const Both& b, const char* what, double tolerance = 1e-5) {
  const std::vector<char> cpu = read(b.cpu), simt = read(b.simt);
  if (b.cpu.dtype != DType::f32) return require(cpu == simt, what);
  for (size_t i = 0; i + 4 <= cpu.size(); i += 4) {
    float x, y;
    std::memcpy(&x, &cpu[i], 4);
    std::memcpy(&y, &simt[i], 4);
    if (std::fabs(x - y) <= tolerance * std::fmax(1.0, std::fabs(x))) continue;
    std::fprintf(stderr, "%s: element %zu is %g on the CPU, %g on simt\n", what, i / 4, x, y);
    std::exit(1);
  }
}

// Runs the operation with each device's own arguments.
template <class Make>
void on_both(Pair& p, Make make) {
  run(*p.cpu, make([](const Both& b) { return b.cpu.view(); }));
  run(*p.simt, make([](const Both& b) { return b.simt.view(); }));
}

void linear_in(Pair& p, Compute compute) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const auto& [R, I, O] : {std::array<int64_t, 3>{70, 80, 75},
                                  {5, 97, 3},
                                  {66, 1030, 65},
                                  {72, 80, 88},
                                  {66, 520, 68},
                                  {1, 1032, 9},
                                  {16, 2200, 7}}) {
      const Both x = numbers(p, {R, I}, 1, dtype, compute),
                 w = numbers(p, {O, I}, 2, dtype, compute), bias = numbers(p, {O}, 3),
                 y = output(p, {R, O});
      on_both(p, [&](auto v) {
        return Linear{.y = v(y), .x = v(x), .weight = v(w), .bias = v(bias), .compute = compute};
      });
      compare(y, "linear", 1e-4);
      const Both dy = numbers(p, {R, O}, 4, DType::f32, compute), dx = output(p, {R, I}),
                 dw = zeros_of(p, {O, I}), db = zeros_of(p, {O});
      on_both(p, [&](auto v) {
        return LinearBackward{.dx = v(dx),
                              .dweight = v(dw),
                              .dbias = v(db),
                              .dy = v(dy),
                              .x = v(x),
                              .weight = v(w),
                              .accumulate_dx = false,
                              .compute = compute};
      });
      compare(dx, "dx", 1e-4);
      compare(dw, "dweight", 1e-4);
      // a sum of dy as it is, which the CPU has rounded
      compare(db, "dbias", compute == Compute::tf32 ? 0.02 : 1e-4);
    }
}

void linear() {
  Pair p;
  linear_in(p, Compute::float32);
}

void rounded_products(Compute compute) {
  Pair p;
  linear_in(p, compute);
  const int64_t H = 2, n = 130, d = 24, k = 8;
  for (const int64_t T : {70, 3}) {
    const Both query = numbers(p, {T, H, 2, d}, 1, DType::f32, compute),
               keys = numbers(p, {H, 2, n, d}, 2, DType::f32, compute),
               scores = output(p, {T, H, k}), indices = output(p, {T, H, k}, DType::i32),
               weights = output(p, {T, H, k});
    on_both(p, [&](auto v) {
      return ProductKeyLookup{.scores = v(scores),
                              .indices = v(indices),
                              .weights = v(weights),
                              .query = v(query),
                              .keys = v(keys),
                              .k = k,
                              .compute = compute};
    });
    compare(scores, "scores of a rounded lookup", 1e-4);
    compare(weights, "weights of a rounded lookup", 1e-4);
  }
}

void rounded_products() {
  rounded_products(Compute::bfloat16);
  rounded_products(Compute::tf32);
}

// Groups of several tiles and chunks, of one row and of none; entries that choose no group.
void groups() {
  Pair p;
  const Both chosen = indices(p, {90, 2}, 5, 1), order = output(p, {180}, DType::i32),
             bags = output(p, {180}, DType::i32), positions = output(p, {90, 2}, DType::i32),
             begins = output(p, {7}, DType::i32);
  on_both(p, [&](auto v) {
    return GroupByIndex{.order = v(order),
                        .bags = v(bags),
                        .positions = v(positions),
                        .offsets = v(begins),
                        .indices = v(chosen),
                        .groups = 6};
  });
  for (const Both* b : {&order, &bags, &positions, &begins}) compare(*b, "groups");

  const int64_t G = 4, I = 40, O = 70;
  for (const auto& sizes : {std::array<int32_t, 5>{0, 65, 65, 66, 400}, {0, 0, 128, 130, 400}}) {
    const Both offsets = from_host(p, {G + 1}, DType::i32, sizes.data()),
               x = numbers(p, {400, I}, 1), w = numbers(p, {G, O, I}, 2), b = numbers(p, {G, O}, 3),
               y = output(p, {400, O}), dy = numbers(p, {400, O}, 4), dx = output(p, {400, I}),
               dw = zeros_of(p, {G, O, I}), db = zeros_of(p, {G, O});
    on_both(p, [&](auto v) {
      return GroupedLinear{
          .y = v(y), .x = v(x), .weights = v(w), .offsets = v(offsets), .bias = v(b)};
    });
    compare(y, "grouped_linear", 1e-4);
    on_both(p, [&](auto v) {
      return GroupedLinearBackward{.dx = v(dx),
                                   .dweights = v(dw),
                                   .dbias = v(db),
                                   .dy = v(dy),
                                   .x = v(x),
                                   .weights = v(w),
                                   .offsets = v(offsets)};
    });
    compare(dx, "dx", 1e-4);
    compare(dw, "dweights", 1e-4);
    compare(db, "dbias", 1e-4);
  }
}

// Two batches that read few slots often: a batch counts once for each of its slots.
void counts() {
  Pair p;
  const std::vector<int32_t> none(80, 0), marks(160, -1);
  const Both reads = from_host(p, {80}, DType::i32, none.data()),
             batches = from_host(p, {80}, DType::i32, none.data()),
             mark = from_host(p, {80, 2}, DType::i32, marks.data()),
             total = from_host(p, {1}, DType::i32, none.data()),
             touched = from_host(p, {80}, DType::i32, none.data()),
             sums = from_host(p, {4}, DType::i32, none.data());
  for (int64_t batch = 1; batch <= 2; ++batch) {
    const Both ids = indices(p, {900}, batch == 1 ? 3 : 80, 7);
    on_both(p, [&](auto v) {
      return CountReads{.counts = v(reads),
                        .batches = v(batches),
                        .marks = v(mark),
                        .total = v(total),
                        .touched = v(touched),
                        .sums = v(sums),
                        .indices = v(ids),
                        .batch = batch};
    });
  }
  for (const Both* b : {&reads, &batches, &mark, &total, &sums}) compare(*b, "counts");
}

void axes() {
  Pair p;
  std::vector<float> levels(3 * 70 * 2 * 40);  // few, so that maxima are found more than once
  for (size_t i = 0; i < levels.size(); ++i) levels[i] = static_cast<float>(i * i % 7) - 3;
  const Both x = from_host(p, {3, 70, 2, 40}, DType::f32, levels.data()),
             row = numbers(p, {70, 1, 40}, 2), product = output(p, {3, 70, 2, 40});
  on_both(p, [&](auto v) {
    return Arithmetic{.out = v(product), .x = v(x), .y = v(row), .kind = ArithmeticKind::mul};
  });
  compare(product, "mul");
  for (const AxisSet set : {0b1000u, 0b0011u, 0b0101u, 0b1010u, 0b1111u})
    for (const ReduceKind kind : {ReduceKind::mean, ReduceKind::max}) {
      const Shape shape = reduced_shape(x.cpu.shape, set, false);
      const Both y = output(p, shape);
      on_both(p, [&](auto v) {
        return Reduce{.y = v(y), .x = v(x), .axes = set, .keep_axes = false, .kind = kind};
      });
      compare(y, "reduce");
      if (kind != ReduceKind::max) continue;
      const Both dy = numbers(p, shape, 3), dx = output(p, x.cpu.shape);
      on_both(p, [&](auto v) {
        return MaxBackward{
            .dx = v(dx), .dy = v(dy), .x = v(x), .y = v(y), .axes = set, .keep_axes = false};
      });
      compare(dx, "max_backward", 0);
    }
}

void matmul() {
  Pair p;
  for (DType dtype : {DType::f32, DType::bf16})
    for (const bool transpose : {false, true}) {
      const Both x = numbers(p, {2, transpose ? 35 : 70, transpose ? 70 : 35}, 1, dtype),
                 y = numbers(p, {transpose ? 66 : 35, transpose ? 35 : 66}, 2, dtype),
                 out = output(p, {2, 70, 66}), dx = output(p, x.cpu.shape),
                 dy = output(p, y.cpu.shape);
      on_both(p, [&](auto v) {
        return MatMul{.out = v(out),
                      .x = v(x),
                      .y = v(y),
                      .transpose_x = transpose,
                      .transpose_y = transpose};
      });
      compare(out, "matmul", 1e-4);
      const Both dout = numbers(p, {2, 70, 66}, 3);
      on_both(p, [&](auto v) {
        return MatMulBackward{.dx = v(dx),
                              .dy = v(dy),
                              .dout = v(dout),
                              .x = v(x),
                              .y = v(y),
                              .transpose_x = transpose,
                              .transpose_y = transpose};
      });
      compare(dx, "dx of matmul", 1e-4);
      compare(dy, "dy of matmul", 1e-4);
    }
}

void topk() {
  Pair p;
  for (const auto& [rows, n, k] :
       {std::array<int64_t, 3>{20, 300, 40}, {2, 3000, 5}, {9, 33, 33}}) {
    const Both x = numbers(p, {rows, n}, 5), values = output(p, {rows, k}),
               ids = output(p, {rows, k}, DType::i32);
    on_both(
        p, [&](auto v) { return TopK{.values = v(values), .indices = v(ids), .x = v(x), .k = k}; });
    compare(ids, "topk indices");
    compare(values, "topk values", 0);
  }
}

void lookup() {
  Pair p;
  for (const auto& [T, H, n, half, k] : {std::array<int64_t, 5>{5, 2, 70, 16, 8},
                                         {40, 1, 33, 9, 33},
                                         {70, 1, 9, 20, 12},
                                         {2, 1, 500, 8, 32},
                                         {3, 1, 300, 8, 40}}) {
    const Both query = numbers(p, {T, H, 2, half}, 6), keys = numbers(p, {H, 2, n, half}, 7),
               scores = output(p, {T, H, k}), ids = output(p, {T, H, k}, DType::i32),
               weights = output(p, {T, H, k});
    on_both(p, [&](auto v) {
      return ProductKeyLookup{.scores = v(scores),
                              .indices = v(ids),
                              .weights = v(weights),
                              .query = v(query),
                              .keys = v(keys),
                              .k = k};
    });
    compare(ids, "slots");
    compare(scores, "scores");
    compare(weights, "weights");
    const Both dw = numbers(p, {T, H, k}, 8), dquery = output(p, {T, H, 2, half}),
               dkeys = zeros_of(p, {H, 2, n, half});
    on_both(p, [&](auto v) {
      return ProductKeyLookupBackward{.dquery = v(dquery),
                                      .dkeys = v(dkeys),
                                      .dweights = v(dw),
                                      .scores = v(scores),
                                      .indices = v(ids),
                                      .weights = v(weights),
                                      .query = v(query),
                                      .keys = v(keys),
                                      .gate = Gate::softmax};
    });
    compare(dquery, "dquery");
    compare(dkeys, "dkeys");
  }
}

// Rows of a warp, of blocks of both sizes, and one that a block reads in chunks.
void rows() {
  Pair p;
  for (const int64_t n : {3, 100, 2500, 9000, 33000}) {
    const int64_t R = n > 5000 ? 1 : 5;
    const Both x = numbers(p, {R, n}, 9), dy = numbers(p, {R, n}, 10), y = output(p, {R, n}),
               dx = output(p, {R, n});
    on_both(p, [&](auto v) { return Softmax{.y = v(y), .x = v(x)}; });
    compare(y, "softmax");
    on_both(p, [&](auto v) { return SoftmaxBackward{.dx = v(dx), .dy = v(dy), .y = v(y)}; });
    compare(dx, "softmax backward");
    const Both gain = numbers(p, {n}, 11), dgain = zeros_of(p, {n});
    on_both(p,
            [&](auto v) { return RmsNorm{.y = v(y), .x = v(x), .gain = v(gain), .eps = 1e-6f}; });
    compare(y, "rms norm");
    on_both(p, [&](auto v) {
      return RmsNormBackward{
          .dx = v(dx), .dgain = v(dgain), .dy = v(dy), .x = v(x), .gain = v(gain), .eps = 1e-6f};
    });
    compare(dx, "rms norm backward");
    compare(dgain, "dgain");
    const Both targets = indices(p, {R}, n, 12), loss = output(p, {R}), dloss = numbers(p, {R}, 13);
    on_both(p, [&](auto v) {
      return CrossEntropy{.loss = v(loss), .logits = v(x), .targets = v(targets)};
    });
    compare(loss, "cross entropy");
    on_both(p, [&](auto v) {
      return CrossEntropyBackward{
          .dlogits = v(dx), .dloss = v(dloss), .logits = v(x), .targets = v(targets)};
    });
    compare(dx, "cross entropy backward");
    const Both g = numbers(p, {R, 1}, 14), dg = output(p, {R, 1});
    on_both(p, [&](auto v) { return SigmoidGate{.out = v(y), .y = v(x), .g = v(g)}; });
    compare(y, "sigmoid gate");
    on_both(p, [&](auto v) {
      return SigmoidGateBackward{.dy = v(dx), .dg = v(dg), .dout = v(dy), .y = v(x), .g = v(g)};
    });
    compare(dx, "sigmoid gate backward");
    compare(dg, "dg", 1e-4);
  }
  const Both targets = indices(p, {9000}, 7, 15), weights = output(p, {9000});
  on_both(p, [&](auto v) {
    return TargetWeights{
        .kept = v(targets), .weights = v(weights), .targets = v(targets), .ignore_index = 3};
  });
  compare(weights, "target weights");
}

void attention() {
  Pair p;
  struct Sizes {
    int64_t T, K, H, G, d;
  };
  for (const Sizes& n : {Sizes{7, 7, 3, 3, 40},
                         {5, 5, 3, 3, 33},
                         {70, 80, 2, 1, 64},
                         {9, 75, 2, 2, 20},
                         {30, 40, 1, 1, 100},
                         {20, 20, 2, 1, 256}})
    for (const bool causal : {true, false}) {
      const Shape queries{2, n.T, n.H, n.d}, keys{2, n.K, n.G, n.d};
      const Both q = numbers(p, queries, 20), k = numbers(p, keys, 21), v = numbers(p, keys, 22),
                 y = output(p, queries), lse = output(p, {2, n.H, n.T});
      on_both(p, [&](auto of) {
        return Attention{.y = of(y),
                         .lse = of(lse),
                         .q = of(q),
                         .k = of(k),
                         .v = of(v),
                         .scale = 0.3f,
                         .causal = causal};
      });
      compare(y, "attention");
      compare(lse, "lse");
      const Both dy = numbers(p, queries, 23), dq = output(p, queries), dk = output(p, keys),
                 dv = output(p, keys);
      on_both(p, [&](auto of) {
        return AttentionBackward{.dq = of(dq),
                                 .dk = of(dk),
                                 .dv = of(dv),
                                 .dy = of(dy),
                                 .y = of(y),
                                 .lse = of(lse),
                                 .q = of(q),
                                 .k = of(k),
                                 .v = of(v),
                                 .scale = 0.3f,
                                 .causal = causal};
      });
      compare(dq, "dq");
      compare(dk, "dk");
      compare(dv, "dv");
    }
}

// Forward, backward and update of a table: bags in chunks, hot rows of several chunks, widths that
// are no multiple of four.
void tables() {
  Pair p;
  for (const auto& [B, L, V, N] : {std::array<int64_t, 4>{2, 400, 20, 2},
                                   {9, 33, 7, 40},
                                   {3, 20, 1100, 12},
                                   {140, 2, 1000, 300}}) {
    const Both table = numbers(p, {N, V}, 30), ids = indices(p, {B, L}, N, 31),
               weights = numbers(p, {B, L}, 32), dy = numbers(p, {B, V}, 33);
    const Both y = output(p, {B, V}), dw = output(p, {B, L});
    on_both(p, [&](auto v) {
      return EmbeddingBag{.y = v(y), .table = v(table), .indices = v(ids), .weights = v(weights)};
    });
    compare(y, "bags", 1e-4);
    on_both(p, [&](auto v) {
      return EmbeddingBagWeightsBackward{
          .dweights = v(dw), .dy = v(dy), .table = v(table), .indices = v(ids)};
    });
    compare(dw, "dweights");
    const int64_t C = std::min(B * L, N);
    const Both touched = output(p, {C}, DType::i32), starts = output(p, {C + 1}, DType::i32),
               order = output(p, {B * L}, DType::i32), count = output(p, {1}, DType::i32),
               values = zeros_of(p, {C, V});
    const auto reads = [&](auto v) {
      return std::vector{TableRead{.indices = v(ids), .weights = v(weights), .dy = v(dy)}};
    };
    on_both(p, [&](auto v) {
      return SortRows{.rows = v(touched),
                      .starts = v(starts),
                      .order = v(order),
                      .count = v(count),
                      .reads = reads(v),
                      .slots = N};
    });
    compare(count, "count");
    compare(order, "order");
    on_both(p, [&](auto v) {
      return SparseGradValues{.values = v(values),
                              .rows = v(touched),
                              .starts = v(starts),
                              .order = v(order),
                              .count = v(count),
                              .reads = reads(v),
                              .width = V};
    });
    compare(values, "gradient", 1e-4);
    const int32_t no_steps = 0;
    const Both step = from_host(p, {1}, DType::i32, &no_steps), by_row = zeros_of(p, {N}),
               first = zeros_of(p, {N, V}), second = zeros_of(p, {N, V});
    const auto update = [&](Rule rule, const Both* one, const Both* two, bool every_row) {
      on_both(p, [&](auto v) {
        return SparseUpdate{.table = v(table),
                            .state1 = one ? v(*one) : View{},
                            .state2 = two ? v(*two) : View{},
                            .step = v(step),
                            .rows = v(touched),
                            .starts = v(starts),
                            .order = v(order),
                            .count = v(count),
                            .reads = reads(v),
                            .rule = rule,
                            .hyper = Hyper{.lr = 0.1f},
                            .every_row = every_row};
      });
      compare(table, "updated", 1e-4);
    };
    update(Rule::rowwise_adagrad, &by_row, nullptr, false);
    update(Rule::adamw, &first, &second, true);
  }
}

void experts() {
  Pair p;
  const int64_t T = 3, L = 70, N = 50;
  for (const int64_t C : {24, 13}) {
    const Both x = numbers(p, {T, C}, 40), down = numbers(p, {N, C}, 41),
               up = numbers(p, {N, C}, 42), ids = indices(p, {T, L}, N, 43),
               weights = numbers(p, {T, L}, 44), out = output(p, {T, C}), u = output(p, {T, L});
    on_both(p, [&](auto v) {
      return Peer{.out = v(out),
                  .u = v(u),
                  .x = v(x),
                  .down = v(down),
                  .up = v(up),
                  .indices = v(ids),
                  .weights = v(weights),
                  .activation = Activation::gelu};
    });
    compare(out, "experts", 1e-4);
    const Both dout = numbers(p, {T, C}, 45), dx = zeros_of(p, {T, C}), dw = output(p, {T, L}),
               du = output(p, {T, L}), coefficient = output(p, {T, L});
    on_both(p, [&](auto v) {
      return PeerBackward{.dx = v(dx),
                          .dweights = v(dw),
                          .du = v(du),
                          .coefficient = v(coefficient),
                          .dout = v(dout),
                          .u = v(u),
                          .x = v(x),
                          .down = v(down),
                          .up = v(up),
                          .indices = v(ids),
                          .weights = v(weights),
                          .activation = Activation::gelu};
    });
    compare(dx, "experts backward", 1e-4);
    compare(dw, "dweights of experts", 1e-4);
  }
}

// Rotations, rows of tokens, dropout, samples: the bits of the CPU.
void sequences() {
  Pair p;
  const Shape shape{2, 5, 6, 24};
  const Both x = numbers(p, shape, 50), y = output(p, shape);
  on_both(p, [&](auto v) { return Rope{.out = v(y), .x = v(x), .offset = 77}; });
  compare(y, "rope", 0);
  on_both(p, [&](auto v) { return Dropout{.out = v(y), .x = v(x), .p = 0.3, .seed = 5}; });
  compare(y, "dropout", 0);
  const Both table = numbers(p, {20, 26}, 51, DType::bf16), ids = indices(p, {33}, 20, 52),
             rows = output(p, {33, 26});
  on_both(p, [&](auto v) { return Embedding{.y = v(rows), .table = v(table), .indices = v(ids)}; });
  compare(rows, "embedding", 0);
  for (const int64_t n : {40, 700}) {
    const Both logits = numbers(p, {3, n}, 53), samples = output(p, {3, 9}, DType::i32);
    for (const int64_t top_k : {0, 12})
      for (const float top_p : {1.0f, 0.7f}) {
        on_both(p, [&](auto v) {
          return Multinomial{.out = v(samples),
                             .logits = v(logits),
                             .temperature = 0.3f,
                             .top_k = top_k,
                             .top_p = top_p,
                             .count = 9};
        });
        compare(samples, "samples");
      }
  }
}

void layer_norms() {
  Pair p;
  for (const int64_t n : {3, 100, 2500, 33000}) {
    const int64_t R = n > 5000 ? 1 : 300 / n + 2;
    const Both x = numbers(p, {R, n}, 60), dy = numbers(p, {R, n}, 61), y = output(p, {R, n}),
               weight = numbers(p, {n}, 62), bias = numbers(p, {n}, 63);
    on_both(p, [&](auto v) {
      return LayerNorm{.y = v(y), .x = v(x), .weight = v(weight), .bias = v(bias)};
    });
    compare(y, "layer norm");
    const Both dweight = zeros_of(p, {n}), dbias = zeros_of(p, {n});
    on_both(p, [&](auto v) {
      return LayerNormBackward{.dx = v(y),
                               .dweight = v(dweight),
                               .dbias = v(dbias),
                               .dy = v(dy),
                               .x = v(x),
                               .weight = v(weight)};
    });
    compare(y, "layer norm backward");
    compare(dweight, "dweight");
    compare(dbias, "dbias");
  }
}

void convolution() {
  Pair p;
  for (const auto& [T, C, width, dilation] :
       {std::array<int64_t, 4>{30, 37, 4, 1}, {60, 5, 40, 1}, {300, 3, 3, 4}}) {
    const Both x = numbers(p, {2, T, C}, 70), dy = numbers(p, {2, T, C}, 71),
               weight = numbers(p, {C, width}, 72), bias = numbers(p, {C}, 73),
               y = output(p, {2, T, C}), dweight = zeros_of(p, {C, width}),
               dbias = zeros_of(p, {C});
    on_both(p, [&](auto v) {
      return CausalConv1d{
          .y = v(y), .x = v(x), .weight = v(weight), .bias = v(bias), .dilation = dilation};
    });
    compare(y, "convolution");
    on_both(p, [&](auto v) {
      return CausalConv1dBackward{.dx = v(y),
                                  .dweight = v(dweight),
                                  .dbias = v(dbias),
                                  .dy = v(dy),
                                  .x = v(x),
                                  .weight = v(weight),
                                  .dilation = dilation};
    });
    compare(y, "dx of a convolution");
    compare(dweight, "dweight of a convolution");
    compare(dbias, "dbias of a convolution");
  }
}

// Copies of boxes: words of all sizes, tiles, and single elements.
void boxes() {
  Pair p;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Both x = numbers(p, {3, 40, 4, 36}, 80, dtype);
    for (const Shape& axes : {Shape{0, 2, 1, 3}, {0, 1, 3, 2}, {3, 0, 2, 1}}) {
      Shape shape = axes;
      for (int i = 0; i < 4; ++i)
        shape.dims[static_cast<size_t>(i)] = x.cpu.shape[static_cast<int>(axes[i])];
      const Both y = output(p, shape, dtype);
      on_both(p, [&](auto v) { return Permute{.out = v(y), .x = v(x), .axes = axes}; });
      compare(y, "permute", 0);
    }
    const Both flat = numbers(p, {40}, 81, dtype), part = output(p, {30}, dtype);
    on_both(
        p, [&](auto v) { return Slice{.out = v(part), .x = v(flat), .begin = {8}, .size = {30}}; });
    compare(part, "slice of one axis", 0);
    const Shape begin{1, 3, 0, 4};
    for (const int64_t last : {32, 30, 1}) {
      const Shape size{2, 30, 4, last};
      const Both box = output(p, size, dtype), back = output(p, x.cpu.shape, dtype);
      on_both(
          p, [&](auto v) { return Slice{.out = v(box), .x = v(x), .begin = begin, .size = size}; });
      compare(box, "slice", 0);
      on_both(p, [&](auto v) {
        return SliceBackward{.dx = v(back), .dy = v(box), .begin = begin, .shape = x.cpu.shape};
      });
      compare(back, "slice backward", 0);
      const Both joined = output(p, {2, 30, 8, last}, dtype);
      on_both(p, [&](auto v) {
        return Concat{.out = v(joined), .parts = {v(box), v(box)}, .axis = 2};
      });
      compare(joined, "concat", 0);
    }
  }
}

// The lowest of several bad positions is reported.
void faults() {
  Pair p;
  std::vector<int32_t> targets(3000, 1);
  for (const int i : {2900, 1777, 1801, 2000}) targets[static_cast<size_t>(i)] = 7;
  const Both t = from_host(p, {3000}, DType::i32, targets.data()), x = numbers(p, {3000, 2}, 17),
             loss = output(p, {3000});
  run(*p.simt,
      CrossEntropy{.loss = loss.simt.view(), .logits = x.simt.view(), .targets = t.simt.view()});
  const FaultPtr fault = fault_of(*p.simt);
  require(fault && std::strstr(fault->error.what(), "1777"), "the lowest bad position");
}

struct Test {
  const char* name;
  void (*run)();
};
constexpr Test kTests[] = {{"linear", linear},
                           {"rounded_products", rounded_products},
                           {"groups", groups},
                           {"counts", counts},
                           {"topk", topk},
                           {"lookup", lookup},
                           {"rows", rows},
                           {"attention", attention},
                           {"tables", tables},
                           {"experts", experts},
                           {"faults", faults},
                           {"axes", axes},
                           {"matmul", matmul},
                           {"boxes", boxes},
                           {"sequences", sequences},
                           {"layer_norms", layer_norms},
                           {"convolution", convolution}};

}  // namespace

int main(int argc, char** argv) {
  int passed = 0;
  for (const Test& test : kTests) {
    if (argc > 1 && std::strcmp(argv[1], test.name) != 0) continue;
    test.run();
    passed++;
  }
  std::printf("%d passed, 0 failed\n", passed);
  return passed > 0 ? 0 : 1;
}
