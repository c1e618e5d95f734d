// The memory accesses of every kernel, counted by the emulator at the design's roofline shapes with
// fewer tokens: counts per token are the same. Prints JSON: for each case its floor (the bytes that
// no schedule can do without) and the counts of its kernels.

#include "counts.h"

#include <initializer_list>
#include <set>

#include "layer/value_table.h"

using namespace ml;

namespace {

void bags(DType dtype, int64_t T, int64_t V) {
  const int64_t L = 128, N = 1000, width = bytes_of(dtype);
  const Tensor table = normal({N, V}, dtype), indices = integers({T, L}, N),
               weights = normal({T, L}), y = empty(*device, {T, V}), dw = empty(*device, {T, L});
  const std::string label = std::string(" ") + name_of(dtype) + ", tokens " + std::to_string(T) +
                            ", dim " + std::to_string(V);
  const int64_t floor = T * L * (V * width + 8) + T * V * 4;
  count("embedding_bag" + label, floor,
        EmbeddingBag{.y = y.view(),
                     .table = table.view(),
                     .indices = indices.view(),
                     .weights = weights.view()});
  count(
      "embedding_bag_weights_backward" + label, floor,
      EmbeddingBagWeightsBackward{
          .dweights = dw.view(), .dy = y.view(), .table = table.view(), .indices = indices.view()});
}

void tables(int64_t V, int64_t T, std::initializer_list<Rule> rules) {
  const int64_t L = 32, N = 600, entries = T * L;
  const Tensor indices = integers({T, L}, N), weights = normal({T, L}), dy = normal({T, V}),
               step = zeros(*device, {1}, DType::i32);
  const ValueTable::Read one{.indices = indices, .weights = weights, .dy = dy};
  const TouchedRows t = find_touched_rows(*device, {&one, 1}, N);
  int32_t R = 0;
  read(&R, t.count.view(), nullptr);
  wait();
  // rows of dy, weights and positions, rows and their starts
  const int64_t walk = entries * (V * 4 + 8) + R * 8;
  const Tensor values = empty(*device, {t.rows.shape[0], V});
  const std::string label = " dim " + std::to_string(V);
  count("sparse_grad_values" + label, walk + R * V * 4,
        SparseGradValues{.values = values.view(),
                         .rows = t.rows.view(),
                         .starts = t.starts.view(),
                         .order = t.order.view(),
                         .count = t.count.view(),
                         .reads = t.reads,
                         .width = V});
  constexpr struct {
    const char* name;
    int64_t per_element, per_row;
  } kRules[] = {{"sgd", 8, 0}, {"adagrad", 16, 0}, {"rowwise_adagrad", 8, 8}, {"adamw", 24, 0}};
  for (const Rule rule : rules) {
    const auto& r = kRules[static_cast<int>(rule)];
    const Tensor table = normal({N, V}), one = zeros(*device, r.per_row ? Shape{N} : Shape{N, V}),
                 two = zeros(*device, {N, V});
    count(std::string("sparse_update ") + r.name + label,
          walk + R * (V * r.per_element + r.per_row),
          SparseUpdate{.table = table.view(),
                       .state1 = rule == Rule::sgd ? View{} : one.view(),
                       .state2 = rule == Rule::adamw ? two.view() : View{},
                       .step = step.view(),
                       .rows = t.rows.view(),
                       .starts = t.starts.view(),
                       .order = t.order.view(),
                       .count = t.count.view(),
                       .reads = t.reads,
                       .rule = rule,
                       .hyper = Hyper{.lr = 0.1f},
                       .every_row = false});
  }
}

std::vector<int32_t> to_host(const Tensor& indices) {
  std::vector<int32_t> host(static_cast<size_t>(indices.size()));
  read(host.data(), indices.view(), nullptr);
  wait();
  return host;
}

// Floor, forward: query, keys and outputs once. Backward: for each distinct half-key of a (token,
// head) its row is read for dquery and the row of the query for dkeys; dquery is written; each
// touched row of dkeys is read and written; score, index, weight and dweight of each winner are
// read. On a GPU most of these gathers come from L2: DRAM moves query, keys and dkeys once.
void lookups(DType dtype, int64_t n, int64_t half, int64_t T = 64) {
  const int64_t H = 1, k = 32, width = bytes_of(dtype);
  const Tensor query = normal({T, H, 2, half}, dtype), keys = normal({H, 2, n, half}, dtype, 2);
  const Tensor scores = empty(*device, {T, H, k}), indices = empty(*device, {T, H, k}, DType::i32),
               weights = empty(*device, {T, H, k});
  const std::string label = std::string(" ") + name_of(dtype) + ", n " + std::to_string(n) +
                            ", half " + std::to_string(half) +
                            (T == 64 ? "" : ", tokens " + std::to_string(T));
  count("product_key_lookup" + label, (query.size() + keys.size()) * width + T * H * k * 12,
        ProductKeyLookup{.scores = scores.view(),
                         .indices = indices.view(),
                         .weights = weights.view(),
                         .query = query.view(),
                         .keys = keys.view(),
                         .k = k});
  if (T == 1) return;
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
        ProductKeyLookupBackward{.dquery = dquery.view(),
                                 .dkeys = dkeys.view(),
                                 .dweights = weights.view(),
                                 .scores = scores.view(),
                                 .indices = indices.view(),
                                 .weights = weights.view(),
                                 .query = query.view(),
                                 .keys = keys.view(),
                                 .gate = Gate::softmax});
  const Tensor all = empty(*device, {T, H, 2, n});
  count("product_key_scores" + label, (query.size() + keys.size()) * width + all.size() * 4,
        ProductKeyScores{.scores = all.view(), .query = query.view(), .keys = keys.view()});
}

void experts() {
  const int64_t T = 8, L = 64, C = 256, N = 500;
  const Tensor x = normal({T, C}), down = normal({N, C}), up = normal({N, C}),
               indices = integers({T, L}, N), weights = normal({T, L}),
               out = empty(*device, {T, C}), u = empty(*device, {T, L});
  count("peer dim 256", T * L * (2 * C * 4 + 12) + T * C * 8,
        Peer{.out = out.view(),
             .u = u.view(),
             .x = x.view(),
             .down = down.view(),
             .up = up.view(),
             .indices = indices.view(),
             .weights = weights.view(),
             .activation = Activation::gelu});
}

}  // namespace

int main() {
  // One multiprocessor, so that few tokens fill it as many fill a GPU.
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
  tables(256, 32, {Rule::sgd, Rule::adagrad, Rule::rowwise_adagrad, Rule::adamw});
  // dy is larger than half of L2, so the rows are visited by their tokens
  tables(1024, 160, {Rule::rowwise_adagrad});
  for (int64_t n : {16, 128, 512}) lookups(DType::f32, n, 64);
  lookups(DType::bf16, 512, 64);
  lookups(DType::f32, 512, 64, 1);
  lookups(DType::f32, 509, 62);  // nothing is a multiple of 16 bytes
  lookups(DType::f16, 509, 62);
  dense_counts();
  sequence_counts();
  training_counts();
  experts();
  call_counts();
  std::printf("\n]\n");
  device.reset();  // before the static objects of the emulator
}
