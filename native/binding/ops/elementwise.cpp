// Elementwise functions and arithmetic, and reductions over axes.

#include "binding/exports.h"

namespace ml::binding {
namespace {

Napi::Value activate(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x");
  const Activate args{.x = x.view(), .kind = a.choice<Activation>("kind")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

Napi::Value activate_backward(Arguments& a) {
  const Tensor out = a.optional_output("out"), dy = a.tensor("dy"), x = a.tensor("x");
  const ActivateBackward args{.dy = dy.view(), .x = x.view(), .kind = a.choice<Activation>("kind")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

// (operation, out, x or undefined, its value, y or undefined, its value, kind, alpha, beta)
Napi::Value arithmetic(Arguments& a) {
  a.name_operation();
  const Tensor out = a.optional_output("out"), x = a.optional_tensor("x");
  const float value_x = a.float32("x");
  const Tensor y = a.optional_tensor("y");
  const float value_y = a.float32("y");
  if (!x && !y) throw Error(Code::value, "binding: neither \"x\" nor \"y\" is a tensor.");
  const auto kind = a.choice<ArithmeticKind>("kind");
  const Arithmetic args{.x = x.view(),
                        .y = y.view(),
                        .constant_x = {value_x, {}},
                        .constant_y = {value_y, {}},
                        .kind = kind,
                        .alpha = a.float32("alpha"),
                        .beta = a.float32("beta")};
  return to_js(a.env(), compute((x ? x : y).device(), args, {out}));
}

Napi::Value unary(Arguments& a) {
  a.name_operation();
  const Tensor out = a.optional_output("out"), x = a.tensor("x");
  const Unary args{.x = x.view(), .kind = a.choice<UnaryKind>("kind")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

AxisSet axes(Arguments& a) { return static_cast<AxisSet>(a.integer("axes")); }

Napi::Value reduce(Arguments& a) {
  a.name_operation();
  const Tensor out = a.optional_output("out"), x = a.tensor("x");
  const Reduce args{.x = x.view(),
                    .axes = axes(a),
                    .keep_axes = a.boolean("keepDims"),
                    .kind = a.choice<ReduceKind>("kind")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

Napi::Value sum_backward(Arguments& a) {
  a.name_operation();
  const Tensor out = a.optional_output("out"), dy = a.tensor("dy");
  const SumBackward args{.dy = dy.view(),
                         .shape = a.shape("shape"),
                         .axes = axes(a),
                         .keep_axes = a.boolean("keepDims"),
                         .kind = a.choice<ReduceKind>("kind")};
  return to_js(a.env(), compute(dy.device(), args, {out}));
}

Napi::Value max_backward(Arguments& a) {
  const Tensor out = a.optional_output("out"), dy = a.tensor("dy"), x = a.tensor("x"),
               y = a.tensor("y");
  const MaxBackward args{.dy = dy.view(),
                         .x = x.view(),
                         .y = y.view(),
                         .axes = axes(a),
                         .keep_axes = a.boolean("keepDims")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

}  // namespace

void define_elementwise(Napi::Object exports) {
  define<activate>(exports, "activate");
  define<activate_backward>(exports, "activateBackward");
  define<arithmetic>(exports, "arithmetic");
  define<unary>(exports, "unary");
  define<reduce>(exports, "reduce");
  define<sum_backward>(exports, "sumBackward");
  define<max_backward>(exports, "maxBackward");
}

}  // namespace ml::binding
