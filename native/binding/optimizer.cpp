// Optimizers: one crossing for each step.

#include <span>

#include "binding/exports.h"
#include "layer/apart.h"

namespace ml::binding {
namespace {

// Tensors that are going to be written: not mapped from a file, and each in memory of its own.
// name(i): of the i-th, for messages.
template <class Name>
void check_written(const std::string& where, const std::vector<Tensor>& tensors, const Name& name) {
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].storage->read_only())
      fail(Code::unsupported, where.c_str(), name(i).c_str(), "be writable",
           "rows that are mapped from a file", "Copy them with .to(dtype).");
  if (const auto overlap = find_overlap(tensors))
    fail(Code::value, where.c_str(), name(overlap->second).c_str(), "have memory of its own",
         "memory that overlaps \"" + name(overlap->first) + "\"",
         "Each parameter and each gradient is a tensor of its own.");
}

std::string text_at(const Napi::Array& list, size_t i) {
  return list.Get(static_cast<uint32_t>(i)).ToString().Utf8Value();
}

// (device, the optimizer's name, rule, names of dense parameters and then of tables, dense values,
// their gradients, tables)
Napi::Value optimizer_create(Arguments& a) {
  const auto device = a.shared_device();
  const std::string where = a.next().ToString().Utf8Value();
  const auto rule = a.choice<Rule>("rule");
  const Napi::Array names = a.array("names");
  const std::vector<Tensor> values = a.tensors("values"), grads = a.tensors("grads");
  auto tables = a.tables("tables");
  if (values.size() != grads.size())
    throw Error(Code::value, "binding: values and gradients differ in number.");
  std::vector<Tensor> written = values;
  written.insert(written.end(), grads.begin(), grads.end());
  for (const auto& t : tables)
    if (!t->read_only()) written.push_back(t->weight());  // else the optimizer refuses the table
  check_written(where, written, [&](size_t i) {
    const size_t n = values.size();
    if (i < n) return text_at(names, i);
    return i < 2 * n ? text_at(names, i - n) + ".grad" : text_at(names, i - n);
  });
  std::vector<Optimizer::Dense> dense;
  for (size_t i = 0; i < values.size(); ++i) dense.push_back({values[i], grads[i]});
  OptimizerBox box{std::make_unique<Optimizer>(device, rule, dense, tables)};

  const auto states = [&](const OptimizerState& s) {
    return to_js(a.env(), {{"state1", s.state1}, {"state2", s.state2}});
  };
  Napi::Array dense_states = Napi::Array::New(a.env()), table_states = Napi::Array::New(a.env());
  for (size_t i = 0; i < dense.size(); ++i)
    dense_states.Set(static_cast<uint32_t>(i), states(box.optimizer->dense_state(i)));
  for (size_t i = 0; i < tables.size(); ++i)
    table_states.Set(static_cast<uint32_t>(i), states(box.optimizer->table_state(i)));
  const Tensor step = box.optimizer->step_count();
  Napi::Object handle = wrap(a.env(), std::move(box));
  handle.Set("step", to_js(a.env(), step));
  handle.Set("dense", dense_states);
  handle.Set("tables", table_states);
  return handle;
}

// Learning rate and weight decay of each parameter.
std::span<const double> rates(Arguments& a, size_t parameters) {
  const Napi::Value value = a.next();
  napi_typedarray_type type{};
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(a.env(), value, &type, &length, &data, nullptr, nullptr) !=
          napi_ok ||
      type != napi_float64_array || length != 2 * parameters)
    throw Error(Code::value, "binding: \"rates\" must be two float64 numbers a parameter.");
  return {static_cast<const double*>(data), length};
}

// (optimizer, rates, beta1, beta2, eps, every row, condition)
Napi::Value optimizer_step(Arguments& a) {
  Optimizer& optimizer =
      live(unwrap<OptimizerBox>(a.next(), "optimizer").optimizer, "optimizer.step");
  const std::span<const double> given = rates(a, optimizer.parameters());
  const Hyper common{
      .beta1 = a.float32("beta1"), .beta2 = a.float32("beta2"), .eps = a.float32("eps")};
  std::vector<Hyper> hyper(optimizer.parameters(), common);
  for (size_t i = 0; i < hyper.size(); ++i) {
    hyper[i].lr = static_cast<float>(given[2 * i]);
    hyper[i].weight_decay = static_cast<float>(given[2 * i + 1]);
  }
  const bool every_row = a.boolean("everyRow");
  optimizer.step(hyper, every_row, a.optional_tensor("condition"));
  return a.undefined();
}

// (x, after, what, step, scale): values and unit (ops/require_finite.h)
Napi::Value require_finite(Arguments& a) {
  static constexpr const char* kWhat[] = {"loss", "gradient norm"};
  const Tensor x = a.tensor("x"), after = a.optional_tensor("after");
  const bool norm = a.boolean("norm");
  const int64_t step = a.integer("step");
  const auto [values, unit] = compute(x.device(), RequireFinite{.x = x.view(),
                                                                .after = after.view(),
                                                                .what = kWhat[norm ? 1 : 0],
                                                                .step = step,
                                                                .scale = a.float32("scale")});
  return to_js(a.env(), {{"values", values}, {"unit", unit}});
}

Napi::Value optimizer_zero_grad(Arguments& a) {
  live(unwrap<OptimizerBox>(a.next(), "optimizer").optimizer, "optimizer.zeroGrad").zero_grad();
  return a.undefined();
}

Napi::Value optimizer_dispose(Arguments& a) {
  unwrap<OptimizerBox>(a.next(), "optimizer").optimizer.reset();
  return a.undefined();
}

// (device, names of dense gradients, dense gradients, tables, tables apart, max norm)
Napi::Value clip_gradients(Arguments& a) {
  Device& device = a.device();
  const Napi::Array names = a.array("names");
  const std::vector<Tensor> grads = a.tensors("grads");
  const auto tables = a.tables("tables");
  const auto apart = a.optional_tables("apart");
  const auto name = [&](size_t i) { return text_at(names, i) + ".grad"; };
  for (size_t i = 0; i < grads.size(); ++i)
    if (grads[i].dtype != DType::f32)
      fail(Code::dtype, "clipGradNorm", name(i).c_str(), "be float32", name_of(grads[i].dtype));
  check_written("clipGradNorm", grads, name);
  const double max_norm = a.number("maxNorm");
  return to_js(a.env(), clip_grad_norm(device, grads, tables, max_norm, apart ? &*apart : nullptr));
}

// (device, dense gradients, tables): the sum of their squares, a part of the whole
Napi::Value gradient_squares(Arguments& a) {
  Device& device = a.device();
  const std::vector<Tensor> grads = a.tensors("grads");
  return to_js(a.env(), grad_squares(device, grads, a.tables("tables")));
}

// (device, dense gradients, tables, sums of squares, max norm): the norm
Napi::Value clip_by_sums(Arguments& a) {
  Device& device = a.device();
  const std::vector<Tensor> grads = a.tensors("grads");
  const auto tables = a.tables("tables");
  const Tensor sums = a.tensor("sums");
  return to_js(a.env(), clip_by_squares(device, grads, tables, sums, a.number("maxNorm")));
}

}  // namespace

void define_optimizer(Napi::Object exports) {
  define<optimizer_create>(exports, "optimizerCreate", "optimizer");
  define<optimizer_step>(exports, "optimizerStep", "optimizer.step");
  define<optimizer_zero_grad>(exports, "optimizerZeroGrad", "optimizer.zeroGrad");
  define<optimizer_dispose, Makes::nothing>(exports, "optimizerDispose", "optimizer.dispose");
  define<clip_gradients>(exports, "clipGradients", "clipGradNorm");
  define<gradient_squares>(exports, "gradientSquares", "clipGradNorm");
  define<clip_by_sums>(exports, "clipBySquares", "clipGradNorm");
  define<require_finite>(exports, "requireFinite");
}

}  // namespace ml::binding
