// The kernels on the emulator against the CPU: kernel_test [operation]. What the mutations of mutations.mjs must not pass.

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

// Both devices, and the same numbers on both.
struct Pair {
  std::shared_ptr<Device> cpu = cpu::open(1), simt = simt::open(0);
};

struct Both {
  Tensor cpu, simt;
};

Both from_host(Pair& p, const Shape& shape, DType dtype, const void* data) {
  Both b{empty(*p.cpu, shape, dtype), empty(*p.simt, shape, dtype)};
  for (Tensor* t : {&b.cpu, &b.simt}) t->device().stream().write(t->view().data, data, static_cast<size_t>(t->bytes()), false);
  require(!p.cpu->stream().wait() && !p.simt->stream().wait(), "writes");
  return b;
}

// Numbers in [-1, 1), the same for every device and run.
Both numbers(Pair& p, const Shape& shape, uint64_t seed, DType dtype = DType::f32) {
  std::vector<float> values(static_cast<size_t>(shape.size()));
  for (float& v : values) v = static_cast<float>((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 40) * 0x1p-23f - 1;
  if (dtype == DType::f32) return from_host(p, shape, dtype, values.data());
  std::vector<uint16_t> bits;
  for (const float v : values) bits.push_back(dtype == DType::bf16 ? to_bfloat16(v).bits : to_half(v).bits);
  return from_host(p, shape, dtype, bits.data());
}

Both indices(Pair& p, const Shape& shape, int64_t slots, uint64_t seed) {
  std::vector<int32_t> values(static_cast<size_t>(shape.size()));
  for (int32_t& v : values) v = static_cast<int32_t>((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 33) % static_cast<int32_t>(slots);
  return from_host(p, shape, DType::i32, values.data());
}

Both room(Pair& p, const Shape& shape, DType dtype = DType::f32) { return {empty(*p.cpu, shape, dtype), empty(*p.simt, shape, dtype)}; }
Both zeros_of(Pair& p, const Shape& shape) { return {zeros(*p.cpu, shape), zeros(*p.simt, shape)}; }

std::vector<char> read(const Tensor& t) {
  std::vector<char> host(static_cast<size_t>(t.bytes()));
  t.device().stream().read(host.data(), t.view().data, host.size(), nullptr);
  require(!t.device().stream().wait(), "no fault");
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
template <class Args, class Make>
void on_both(Pair& p, Slot<Args> Operations::*slot, Make make) {
  run(*p.cpu, slot, make([](const Both& b) { return b.cpu.view(); }));
  run(*p.simt, slot, make([](const Both& b) { return b.simt.view(); }));
}

void linear() {
  Pair p;
  for (DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const auto& [R, I, O] : {std::array<int64_t, 3>{70, 80, 75}, {5, 97, 3}, {66, 1030, 65}}) {
      const Both x = numbers(p, {R, I}, 1, dtype), w = numbers(p, {O, I}, 2, dtype), bias = numbers(p, {O}, 3), y = room(p, {R, O});
      on_both(p, &Operations::linear, [&](auto v) { return Linear{v(y), v(x), v(w), v(bias)}; });
      compare(y, "linear", 1e-4);
      const Both dy = numbers(p, {R, O}, 4), dx = room(p, {R, I}), dw = zeros_of(p, {O, I}), db = zeros_of(p, {O});
      on_both(p, &Operations::linear_backward, [&](auto v) { return LinearBackward{v(dx), v(dw), v(db), v(dy), v(x), v(w), false}; });
      compare(dx, "dx", 1e-4);
      compare(dw, "dweight", 1e-4);
      compare(db, "dbias", 1e-4);
    }
}

void topk() {
  Pair p;
  for (const auto& [rows, n, k] : {std::array<int64_t, 3>{20, 300, 40}, {2, 3000, 5}, {9, 33, 33}}) {
    const Both x = numbers(p, {rows, n}, 5), values = room(p, {rows, k}), ids = room(p, {rows, k}, DType::i32);
    on_both(p, &Operations::topk, [&](auto v) { return TopK{v(values), v(ids), v(x)}; });
    compare(ids, "topk indices");
    compare(values, "topk values", 0);
  }
}

void lookup() {
  Pair p;
  for (const auto& [T, H, n, half, k] : {std::array<int64_t, 5>{5, 2, 70, 16, 8}, {40, 1, 33, 9, 33}}) {
    const Both query = numbers(p, {T, H, 2, half}, 6), keys = numbers(p, {H, 2, n, half}, 7), scores = room(p, {T, H, k}),
               ids = room(p, {T, H, k}, DType::i32), weights = room(p, {T, H, k});
    on_both(p, &Operations::product_key_lookup,
            [&](auto v) { return ProductKeyLookup{v(scores), v(ids), v(weights), v(query), v(keys), {}, Gate::softmax}; });
    compare(ids, "slots");
    compare(scores, "scores");
    compare(weights, "weights");
    const Both dw = numbers(p, {T, H, k}, 8), dquery = room(p, {T, H, 2, half}), dkeys = zeros_of(p, {H, 2, n, half});
    on_both(p, &Operations::product_key_lookup_backward, [&](auto v) {
      return ProductKeyLookupBackward{v(dquery), v(dkeys), v(dw), v(scores), v(ids), v(weights), v(query), v(keys), Gate::softmax};
    });
    compare(dquery, "dquery");
    compare(dkeys, "dkeys");
  }
}

void rows() {
  Pair p;
  for (const int64_t n : {3, 100, 2500}) {
    const Both x = numbers(p, {5, n}, 9), dy = numbers(p, {5, n}, 10), y = room(p, {5, n}), dx = room(p, {5, n});
    on_both(p, &Operations::softmax, [&](auto v) { return Softmax{v(y), v(x)}; });
    compare(y, "softmax");
    on_both(p, &Operations::softmax_backward, [&](auto v) { return SoftmaxBackward{v(dx), v(dy), v(y)}; });
    compare(dx, "softmax backward");
    const Both gain = numbers(p, {n}, 11), dgain = zeros_of(p, {n});
    on_both(p, &Operations::rms_norm, [&](auto v) { return RmsNorm{v(y), v(x), v(gain), 1e-6f}; });
    compare(y, "rms norm");
    on_both(p, &Operations::rms_norm_backward, [&](auto v) { return RmsNormBackward{v(dx), v(dgain), v(dy), v(x), v(gain), 1e-6f}; });
    compare(dx, "rms norm backward");
    compare(dgain, "dgain");
    const Both targets = indices(p, {5}, n, 12), loss = room(p, {5});
    on_both(p, &Operations::cross_entropy, [&](auto v) { return CrossEntropy{v(loss), v(x), v(targets)}; });
    compare(loss, "cross entropy");
  }
}

// The lowest of several bad places is told.
void faults() {
  Pair p;
  std::vector<int32_t> targets(3000, 1);
  for (const int i : {2900, 1777, 1801, 2000}) targets[static_cast<size_t>(i)] = 7;
  const Both t = from_host(p, {3000}, DType::i32, targets.data()), x = numbers(p, {3000, 2}, 17), loss = room(p, {3000});
  run(*p.simt, &Operations::cross_entropy, CrossEntropy{loss.simt.view(), x.simt.view(), t.simt.view()});
  const auto fault = p.simt->stream().wait();
  require(fault && std::strstr(fault->error.what(), "1777"), "the first bad place");
}

struct Test {
  const char* name;
  void (*run)();
};
constexpr Test kTests[] = {{"linear", linear}, {"topk", topk}, {"lookup", lookup}, {"rows", rows}, {"faults", faults}};

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
