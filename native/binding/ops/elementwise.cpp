// Activations, and the sum of two tensors.

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

Napi::Value add(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x"), y = a.tensor("y");
  const Add args{
      .x = x.view(), .y = y.view(), .alpha = a.float32("alpha"), .beta = a.float32("beta")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

}  // namespace

void define_elementwise(Napi::Object exports) {
  define<activate>(exports, "activate");
  define<activate_backward>(exports, "activateBackward");
  define<add>(exports, "add");
}

}  // namespace ml::binding
