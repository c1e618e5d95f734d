// Concatenation, boxes and the order of axes.

#include "binding/exports.h"

namespace ml::binding {
namespace {

Napi::Value concat(Arguments& a) {
  const Tensor out = a.optional_output("out");
  const std::vector<Tensor> tensors = a.tensors("tensors");
  Concat args{.axis = a.integer("axis")};
  for (const Tensor& t : tensors) args.parts.push_back(t.view());
  expect(!tensors.empty(), Code::value, "concat", "tensors", "have at least one tensor", "none");
  return to_js(a.env(), compute(tensors[0].device(), args, {out}));
}

Napi::Value slice(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x");
  const Slice args{.x = x.view(), .begin = a.shape("begin"), .size = a.shape("size")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

Napi::Value slice_backward(Arguments& a) {
  const Tensor out = a.optional_output("out"), dy = a.tensor("dy");
  const SliceBackward args{.dy = dy.view(), .begin = a.shape("begin"), .shape = a.shape("shape")};
  return to_js(a.env(), compute(dy.device(), args, {out}));
}

Napi::Value permute(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x");
  const Permute args{.x = x.view(), .axes = a.shape("axes")};
  return to_js(a.env(), compute(x.device(), args, {out}));
}

}  // namespace

void define_layout(Napi::Object exports) {
  define<concat>(exports, "concat");
  define<slice>(exports, "slice");
  define<slice_backward>(exports, "sliceBackward");
  define<permute>(exports, "permute");
}

}  // namespace ml::binding
