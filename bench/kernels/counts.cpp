// What every kernel asks of memory, counted by the emulator, at shapes of the design's roofline
// scaled down in tokens: counts per token stay as they are. Prints JSON: for each case its floor
// (the bytes that no schedule can do without) and the counts of its kernels.

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>

#include "cuda/backend.h"
#include "layer/run.h"
#include "layer/value_table.h"
#include "simt/control.h"

using namespace ml;

namespace {

std::shared_ptr<Device> device;
bool first_case = true;

void wait() {
  const auto fault = device->stream().wait();
  if (!fault) return;
  std::fprintf(stderr, "%s\n", fault->error.what());
  std::exit(1);
}

Tensor normal(const Shape& shape, DType dtype = DType::f32, uint64_t seed = 1) {
  Tensor t = empty(*device, shape, dtype);
  run(*device, RandomFill{t.view(), RandomFill::Kind::normal, 0, 1, seed});
  return t;
}

Tensor integers(const Shape& shape, int64_t below) {
  std::vector<int32_t> values(static_cast<size_t>(shape.size()));
  uint64_t state = 1;
  for (int32_t& v : values)
    v = static_cast<int32_t>(((state = state * 6364136223846793005u + 1442695040888963407u) >> 33) %
                             static_cast<uint64_t>(below));
  Tensor t = empty(*device, shape, DType::i32);
  device->stream().write(t.view().data, values.data(), values.size() * 4, true);
  return t;
}

// Counts what one operation does. `floor`: the bytes that no schedule can do without.
template <class Args>
void count(const std::string& name, int64_t floor, const Args& args) {
  wait();
  ::simt::reset_counts();
  run(*device, args);
  wait();
  std::printf("%s\n  {\"name\": \"%s\", \"floor\": %lld, \"kernels\": %s}", first_case ? "" : ",",
              name.c_str(), static_cast<long long>(floor), ::simt::counts_json().c_str());
  first_case = false;
}

void bags(DType dtype, int64_t T, int64_t V) {
  const int64_t L = 128, N = 1000, width = bytes_of(dtype);
  const Tensor table = normal({N, V}, dtype), indices = integers({T, L}, N),
               weights = normal({T, L}), y = empty(*device, {T, V}), dw = empty(*device, {T, L});
  const std::string label = std::string(" ") + name_of(dtype) + ", tokens " + std::to_string(T) +
                            ", dim " + std::to_string(V);
  const int64_t floor = T * L * (V * width + 8) + T * V * 4;
  count("embedding_bag" + label, floor,
        EmbeddingBag{y.view(), table.view(), indices.view(), weights.view(), {}, {}});
  count("embedding_bag_weights_backward" + label, floor,
        EmbeddingBagWeightsBackward{dw.view(), y.view(), table.view(), indices.view(), {}, {}});
}

void tables(int64_t V) {
  const int64_t T = 32, L = 32, N = 600, entries = T * L;
  const Tensor indices = integers({T, L}, N), weights = normal({T, L}), dy = normal({T, V}),
               step = zeros(*device, {1}, DType::i32);
  run(*device, StepAdvance{step.view()});
  const TouchedRows t = find_touched_rows(*device, {{indices, weights, dy, {}}}, N);
  int32_t R = 0;
  device->stream().read(&R, t.count.view().data, sizeof(R), nullptr);
  wait();
  // rows of dy, weights and positions, rows and their starts
  const int64_t walk = entries * (V * 4 + 8) + R * 8;
  const Tensor values = empty(*device, {t.rows.shape[0], V});
  const std::string label = " dim " + std::to_string(V);
  count("sparse_grad_values" + label, walk + R * V * 4,
        SparseGradValues{values.view(), t.rows.view(), t.starts.view(), t.order.view(),
                         t.count.view(), t.reads});
  constexpr struct {
    Rule rule;
    const char* name;
    int64_t per_element, per_row;
  } kRules[] = {{Rule::sgd, "sgd", 8, 0},
                {Rule::adagrad, "adagrad", 16, 0},
                {Rule::rowwise_adagrad, "rowwise_adagrad", 8, 8},
                {Rule::adamw, "adamw", 24, 0}};
  for (const auto& r : kRules) {
    const Tensor table = normal({N, V}), one = zeros(*device, r.per_row ? Shape{N} : Shape{N, V}),
                 two = zeros(*device, {N, V});
    count(std::string("sparse_update ") + r.name + label,
          walk + R * (V * r.per_element + r.per_row),
          SparseUpdate{table.view(),
                       {},
                       r.rule == Rule::sgd ? View{} : one.view(),
                       r.rule == Rule::adamw ? two.view() : View{},
                       step.view(),
                       t.rows.view(),
                       t.starts.view(),
                       t.order.view(),
                       t.count.view(),
                       t.reads,
                       r.rule,
                       Hyper{.lr = 0.1f},
                       false});
  }
}

std::vector<int32_t> to_host(const Tensor& indices) {
  std::vector<int32_t> host(static_cast<size_t>(indices.size()));
  device->stream().read(host.data(), indices.view().data, host.size() * 4, nullptr);
  wait();
  return host;
}

// Floor forward: query, keys and what comes out, once. Backward: a half-key's row for each
// different half-key of a (token, head), to dquery, and the query's row for it, to dkeys; dquery
// written; each row of dkeys that gets something read and written; what there is of each winner.
// (On a GPU most of these gathers come from L2: its DRAM need move query, keys and dkeys but once.)
void lookups(DType dtype, int64_t n, int64_t half) {
  const int64_t T = 64, H = 1, k = 32, width = bytes_of(dtype);
  const Tensor query = normal({T, H, 2, half}, dtype), keys = normal({H, 2, n, half}, dtype, 2);
  const Tensor scores = empty(*device, {T, H, k}), indices = empty(*device, {T, H, k}, DType::i32),
               weights = empty(*device, {T, H, k});
  const std::string label = std::string(" ") + name_of(dtype) + ", n " + std::to_string(n) +
                            ", half " + std::to_string(half);
  count("product_key_lookup" + label, (query.size() + keys.size()) * width + T * H * k * 12,
        ProductKeyLookup{.scores = scores.view(),
                         .indices = indices.view(),
                         .weights = weights.view(),
                         .query = query.view(),
                         .keys = keys.view(),
                         .k = k});
  int64_t gathered = 0;
  std::set<int64_t> rows;
  const std::vector<int32_t> slots = to_host(indices);
  for (int64_t th = 0; th < T * H; ++th) {
    std::set<int64_t> own;
    for (int64_t r = 0; r < k; ++r) {
      const int64_t slot = slots[static_cast<size_t>(th * k + r)];
      for (const int64_t row : {slot / n, n + slot % n}) {
        own.insert(row);
        rows.insert(th % H * 2 * n + row);
      }
    }
    gathered += static_cast<int64_t>(own.size());
  }
  const Tensor dquery = empty(*device, query.shape), dkeys = zeros(*device, keys.shape);
  count("product_key_lookup_backward" + label,
        2 * gathered * half * width + query.size() * 4 +
            static_cast<int64_t>(rows.size()) * half * 8 + T * H * k * 16,
        ProductKeyLookupBackward{dquery.view(), dkeys.view(), weights.view(), scores.view(),
                                 indices.view(), weights.view(), query.view(), keys.view(),
                                 Gate::softmax});
  const Tensor all = empty(*device, {T, H, 2, n});
  count("product_key_scores" + label, (query.size() + keys.size()) * width + all.size() * 4,
        ProductKeyScores{all.view(), query.view(), keys.view()});
}

// Floor: every matrix once. A tile of C, 64 or 128 rows and columns, reads its rows of A and its
// columns of B anew, of which all but the first reading comes from L2.
void products(DType dtype, int64_t R, int64_t I, int64_t O) {
  const int64_t width = bytes_of(dtype);
  const Tensor x = normal({R, I}, dtype), w = normal({O, I}, dtype), b = normal({O}),
               y = empty(*device, {R, O}), dw = zeros(*device, {O, I}), db = zeros(*device, {O}),
               dx = empty(*device, {R, I});
  const std::string label = std::string(" ") + name_of(dtype) + ", " + std::to_string(R) + " x " +
                            std::to_string(I) + " -> " + std::to_string(O);
  count("linear" + label, (R * I + O * I) * width + (O + R * O) * 4,
        Linear{y.view(), x.view(), w.view(), b.view()});
  count("linear_backward" + label,
        (R * I + O * I) * width + (R * I + 2 * O * I + R * O + 2 * O) * 4,
        LinearBackward{dx.view(), dw.view(), db.view(), y.view(), x.view(), w.view(), false});
}

void rows() {
  const int64_t T = 32, C = 1024, bytes = T * C * 4;
  const Tensor x = normal({T, C}), y = normal({T, C}), out = empty(*device, {T, C}),
               other = empty(*device, {T, C});
  count("copy", 2 * bytes, Copy{out.view(), x.view()});
  count("add", 3 * bytes, Add{out.view(), x.view(), y.view(), 1, 1});
  count("activate", 2 * bytes, Activate{out.view(), x.view(), Activation::gelu});
  count("random_fill", bytes, RandomFill{out.view(), RandomFill::Kind::normal, 0, 1, 1});
  count("silu_gate", 3 * bytes, SiluGate{out.view(), x.view(), y.view()});
  count("silu_gate_backward", 5 * bytes,
        SiluGateBackward{out.view(), other.view(), x.view(), y.view(), x.view()});
  const Tensor g = normal({T, 1}), dg = empty(*device, {T, 1});
  count("sigmoid_gate", 2 * bytes + T * 4, SigmoidGate{out.view(), x.view(), g.view()});
  count("sigmoid_gate_backward", 3 * bytes + T * 8,
        SigmoidGateBackward{other.view(), dg.view(), out.view(), x.view(), g.view()});
  const Tensor gain = normal({C}), dgain = zeros(*device, {C}), norm = empty(*device, {1}),
               sum = zeros(*device, {1});
  count("rms_norm_backward with gain", 3 * bytes + C * 12,
        RmsNormBackward{out.view(), dgain.view(), y.view(), x.view(), gain.view()});
  count("sum_squares", bytes, SumSquares{sum.view(), x.view(), {}});
  count("clip_scale", 2 * bytes, ClipScale{out.view(), norm.view(), sum.view(), 1});
  const int64_t k = 32;
  const Tensor scores = empty(*device, {T, k}), indices = empty(*device, {T, k}, DType::i32);
  count("topk", bytes + T * k * 8,
        TopK{.values = scores.view(), .indices = indices.view(), .x = x.view(), .k = k});
  count("rms_norm", 2 * bytes, RmsNorm{out.view(), x.view(), {}});
  count("rms_norm_backward", 3 * bytes, RmsNormBackward{out.view(), {}, y.view(), x.view(), {}});
}

void probabilities(int64_t rows, int64_t n, const std::string& label) {
  const int64_t bytes = rows * n * 4;
  const Tensor logits = normal({rows, n}), p = empty(*device, {rows, n}), dp = normal({rows, n}),
               targets = integers({rows}, n), loss = empty(*device, {rows});
  count("softmax" + label, 2 * bytes, Softmax{p.view(), logits.view()});
  count("softmax_backward" + label, 3 * bytes, SoftmaxBackward{logits.view(), dp.view(), p.view()});
  count("cross_entropy" + label, bytes + rows * 8,
        CrossEntropy{loss.view(), logits.view(), targets.view()});
  count("cross_entropy_backward" + label, 2 * bytes + rows * 8,
        CrossEntropyBackward{p.view(), loss.view(), logits.view(), targets.view()});
}

// The floor: every operand once. Each query reads all keys before it again, so what is moved grows
// with the time.
void attentions() {
  const int64_t T = 64, H = 2, d = 64, bytes = T * H * d * 4;
  const Shape shape{1, T, H, d};
  const Tensor q = normal(shape), k = normal(shape), v = normal(shape), y = empty(*device, shape),
               lse = empty(*device, {1, H, T});
  count("attention 64 x 64", 4 * bytes + T * H * 4,
        Attention{y.view(), lse.view(), q.view(), k.view(), v.view(), 0.125f, true});
  const Tensor dy = normal(shape), dq = empty(*device, shape), dk = empty(*device, shape),
               dv = empty(*device, shape);
  count("attention_backward 64 x 64", 8 * bytes + T * H * 4,
        AttentionBackward{dq.view(), dk.view(), dv.view(), dy.view(), y.view(), lse.view(),
                          q.view(), k.view(), v.view(), 0.125f, true});
}

void experts() {
  const int64_t T = 8, L = 64, C = 256, N = 500;
  const Tensor x = normal({T, C}), down = normal({N, C}), up = normal({N, C}),
               indices = integers({T, L}, N), weights = normal({T, L}),
               out = empty(*device, {T, C}), u = empty(*device, {T, L});
  count("peer dim 256", T * L * (2 * C * 4 + 12) + T * C * 8,
        Peer{out.view(), u.view(), x.view(), down.view(), up.view(), indices.view(), weights.view(),
             Activation::gelu});
}

}  // namespace

int main() {
  // One multiprocessor, so that few tokens fill the device as many do a real one.
  ::simt::Settings settings = ::simt::settings();
  settings.multiprocessors = 1;
  ::simt::set(settings);
  device = ml::simt::open(0);
  std::printf("[");
  for (int64_t V : {64, 256, 1024}) bags(DType::bf16, 512, V);
  bags(DType::f16, 512, 256);
  bags(DType::f32, 512, 256);
  bags(DType::bf16, 512, 1000);
  bags(DType::bf16, 1, 1024);
  tables(256);
  for (int64_t n : {16, 128, 512}) lookups(DType::f32, n, 64);
  lookups(DType::bf16, 512, 64);
  lookups(DType::f32, 509, 62);  // nothing is a multiple of 16 bytes
  lookups(DType::f16, 509, 62);
  for (DType dtype : {DType::f32, DType::bf16}) {
    products(dtype, 128, 256, 256);
    products(dtype, 127, 254, 253);
  }
  rows();
  probabilities(32, 1024, "");
  // a row to a block, and one that none holds
  for (const int64_t n : {8192, 32000, 50000}) probabilities(2, n, " " + std::to_string(n));
  attentions();
  experts();
  std::printf("\n]\n");
  device.reset();  // before what static objects of the emulator hold
}
