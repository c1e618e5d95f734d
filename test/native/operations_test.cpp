// Every CPU operation and layer without Node, for the sanitizers: odd shapes, every dtype, empty
// sizes, several threads and streams. Results are tested in TypeScript; this tests every access.

#include <string>
#include <thread>
#include <vector>

#include "cpu/backend.h"
#include "cpu/isa.h"
#include "layer/memory_layer.h"
#include "layer/optimizer.h"
#include "layer/peer_layer.h"
#include "tensors.h"

using namespace ml;

namespace {

// Indices of [-1, slots).
Tensor random_indices(Device& device, const Shape& shape, int64_t slots, uint64_t seed) {
  std::vector<int32_t> host(static_cast<size_t>(shape.size()));
  for (int32_t& i : host)
    i = static_cast<int32_t>((seed = seed * 6364136223846793005ull + 1) >> 33) %
            static_cast<int32_t>(slots + 1) -
        1;
  return from_host(device, shape, DType::i32, host);
}

void bags(Device& d, int64_t B, int64_t V, DType dtype) {
  const int64_t L = 1 + V % 9, N = 37;
  const Tensor table = random_normal(d, {N, V}, 1, dtype), weights = random_normal(d, {B, L}, 2);
  const Tensor indices = random_indices(d, {B, L}, N, static_cast<uint64_t>(V));
  const Tensor y = empty(d, {B, V}), dweights = empty(d, {B, L});
  run(d, EmbeddingBag{.y = y.view(),
                      .table = table.view(),
                      .indices = indices.view(),
                      .weights = weights.view()});
  run(d, EmbeddingBagWeightsBackward{.dweights = dweights.view(),
                                     .dy = y.view(),
                                     .table = table.view(),
                                     .indices = indices.view()});
  const ValueTable::Read twice[] = {{indices, weights, y, {}}, {indices, weights, y, {}}};
  const SparseGrad g = sparse_grad(d, twice, N, V);
  const Tensor dense = zeros(d, {N, V});
  run(d, SparseGradToDense{.dense = dense.view(),
                           .values = g.values.view(),
                           .rows = g.rows.view(),
                           .count = g.count.view(),
                           .slots = N});
}

void all_bags(Device& d) {
  for (int64_t V : {1, 3, 7, 8, 15, 16, 17, 33, 64, 65, 100, 255, 256, 257, 300, 1000})
    for (int64_t B : {0, 1, 5, 40})
      for (DType dtype : {DType::f32, DType::f16, DType::bf16}) bags(d, B, V, dtype);
  wait(d);
}

void lookup(Device& d, int64_t T, int64_t n, int64_t k) {
  const int64_t H = 2, half_dim = 1 + n % 37;
  const Tensor query = random_normal(d, {T, H, 2, half_dim}, 1),
               keys = random_normal(d, {H, 2, n, half_dim}, 2);
  const Tensor scores = empty(d, {T, H, k}), indices = empty(d, {T, H, k}, DType::i32),
               weights = empty(d, {T, H, k});
  run(d, ProductKeyLookup{.scores = scores.view(),
                          .indices = indices.view(),
                          .weights = weights.view(),
                          .query = query.view(),
                          .keys = keys.view(),
                          .k = k});
  const Tensor dquery = empty(d, query.shape), dkeys = zeros(d, keys.shape);
  run(d, ProductKeyLookupBackward{.dquery = dquery.view(),
                                  .dkeys = dkeys.view(),
                                  .dweights = weights.view(),
                                  .scores = scores.view(),
                                  .indices = indices.view(),
                                  .weights = weights.view(),
                                  .query = query.view(),
                                  .keys = keys.view()});
}

// The same scores by half, and the k largest of each.
void half_scores(Device& d, int64_t T, int64_t n, int64_t k) {
  const int64_t H = 2, half_dim = 1 + n % 37, k_max = std::min(k, n);
  const Tensor query = random_normal(d, {T, H, 2, half_dim}, 1),
               keys = random_normal(d, {H, 2, n, half_dim}, 2);
  const Tensor values = empty(d, {T * H * 2, k_max}),
               ids = empty(d, {T * H * 2, k_max}, DType::i32), scores = empty(d, {T, H, 2, n});
  run(d, ProductKeyScores{.scores = scores.view(), .query = query.view(), .keys = keys.view()});
  run(d, TopK{.values = values.view(),
              .indices = ids.view(),
              .x = scores.reshaped({T * H * 2, n}).view(),
              .k = k_max});
}

void all_lookups(Device& d) {
  for (int64_t T : {0, 1, 3, 5, 50})
    for (int64_t n : {1, 2, 15, 31, 32, 33, 70, 300, 520, 601})
      for (int64_t k : {1, 5, 33, 70}) {
        lookup(d, T, n, k);
        half_scores(d, T, n, k);
      }
  wait(d);
}

void linear(Device& d, int64_t R, int64_t I, int64_t O) {
  const Tensor x = random_normal(d, {R, I}, 1), w = random_normal(d, {O, I}, 2),
               b = random_normal(d, {O}, 3);
  const Tensor y = empty(d, {R, O}), dx = empty(d, {R, I}), dw = zeros(d, {O, I}),
               db = zeros(d, {O});
  run(d, Linear{.y = y.view(), .x = x.view(), .weight = w.view(), .bias = b.view()});
  run(d, LinearBackward{.dx = dx.view(),
                        .dweight = dw.view(),
                        .dbias = db.view(),
                        .dy = y.view(),
                        .x = x.view(),
                        .weight = w.view()});
}

void all_linears(Device& d) {
  for (int64_t R : {0, 1, 2, 5, 13, 50, 130})
    for (int64_t I : {0, 1, 17, 64, 390, 650})
      for (int64_t O : {1, 2, 31, 33, 100, 200}) linear(d, R, I, O);
  wait(d);
}

// What an operation is said to read and write, with the views that are given.
void operands() {
  const View x{nullptr, DType::f32, true, {2, 3}}, y{nullptr, DType::f32, true, {2, 4}},
      weight{nullptr, DType::f32, true, {4, 3}};
  const LinearBackward args{
      .dx = x, .dweight = weight, .dy = y, .x = x, .weight = weight, .accumulate_dx = true};
  std::string read, written;
  each_input(args, [&](const char* name, const View&, bool) { read += std::string(" ") + name; });
  each_output(args, shape_rule(args), [&](const char* name, const View&, Write write) {
    written += std::string(write == Write::updated ? " +" : " ") + name;
  });
  require(read == " dy x weight", "inputs of linearBackward");
  require(written == " +out.dx +into.weight", "outputs of linearBackward");
  const SparseUpdate update{.table = weight, .step = x, .reads = {{.indices = x, .dy = y}}};
  read = written = "";
  each_input(update, [&](const char* name, const View&, bool) { read += std::string(" ") + name; });
  each_output(update, NoRule{}, [&](const char* name, const View&, Write write) {
    written += std::string(write == Write::updated ? " +" : " ") + name;
  });
  require(read == " step indices dy" && written == " +table", "operands of a sparse update");
}

// Layers, shared tables and every optimizer, on a stream of its own.
void training(int threads, uint64_t seed) {
  const auto d = cpu::open(threads);
  const auto table = std::make_shared<ValueTable>(random_normal(*d, {400, 19}, seed), Tensor{});
  const auto half =
      std::make_shared<ValueTable>(random_normal(*d, {400, 19}, seed, DType::bf16), Tensor{});
  const auto down = std::make_shared<ValueTable>(random_normal(*d, {400, 13}, seed), Tensor{});
  const QueryOptions query{.input_dim = 13,
                           .heads = 2,
                           .knn = 6,
                           .n_keys = 20,
                           .key_dim = 10,
                           .bias = true,
                           .rms_norm = true,
                           .seed = seed};
  const MemoryLayerOptions o{.query = query, .output_dim = 13, .output_gate = true};
  MemoryLayer one(d, o, table), two(d, o, table), three(d, o, half);
  PeerLayer peer(d, {.query = query, .activation = Activation::gelu}, down, table);
  for (Rule rule : {Rule::sgd, Rule::adagrad, Rule::rowwise_adagrad, Rule::adamw}) {
    std::vector<Optimizer::Dense> dense;
    for (auto* layer : {&one, &two, &three})
      for (Parameter* p : layer->parameters()) dense.push_back({p->value, p->grad});
    Optimizer optimizer(d, rule, dense, {table, half, down});
    for (int step = 0; step < 3; ++step) {
      const Tensor x = random_normal(*d, {70, 13}, seed + static_cast<uint64_t>(step));
      for (auto* layer : {&one, &two, &three}) {
        ForwardResult r = layer->forward(x, true);
        layer->backward(*r.context, r.output);
        layer->forward(x, false);
      }
      PeerLayer::Result r = peer.forward(x, true);
      peer.backward(*r.context, r.output);
      const Tables apart{down};
      clip_grad_norm(*d, {dense[0].grad}, {table, half}, 1, &apart);
      Hyper h;
      h.lr = 1e-3f;
      optimizer.step(std::vector<Hyper>(optimizer.parameters(), h), step == 2, {});
      optimizer.zero_grad();
    }
  }
  wait(*d);
}

}  // namespace

int main() {
  operands();
  for (int threads : {1, 2, 3}) {
    const auto device = cpu::open(threads);
    all_bags(*device);
    all_lookups(*device);
    all_linears(*device);
  }
  std::vector<std::thread> streams;
  for (int i = 0; i < 3; ++i)
    streams.emplace_back([i] { training(1 + i, static_cast<uint64_t>(i)); });
  for (std::thread& t : streams) t.join();
  std::printf("%s: ", cpu::isa_name());
  report();
}
