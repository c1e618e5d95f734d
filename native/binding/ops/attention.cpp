// Scaled dot-product attention.

#include "binding/exports.h"

namespace ml::binding {
namespace {

Napi::Value attention(Arguments& a) {
  const Tensor out_y = a.optional_output("out.y"), out_lse = a.optional_output("out.lse");
  const Tensor q = a.tensor("q"), k = a.tensor("k"), v = a.tensor("v");
  const auto [y, lse] = compute(q.device(),
                                Attention{.q = q.view(),
                                          .k = k.view(),
                                          .v = v.view(),
                                          .scale = a.float32("scale"),
                                          .causal = a.boolean("causal")},
                                {out_y, out_lse});
  return to_js(a.env(), {{"y", y}, {"lse", lse}});
}

Napi::Value attention_backward(Arguments& a) {
  const Tensor out_q = a.optional_output("out.dq"), out_k = a.optional_output("out.dk"),
               out_v = a.optional_output("out.dv");
  const Tensor dy = a.tensor("dy"), y = a.tensor("y"), lse = a.tensor("lse"), q = a.tensor("q"),
               k = a.tensor("k"), v = a.tensor("v");
  const auto [dq, dk, dv] = compute(q.device(),
                                    AttentionBackward{.dy = dy.view(),
                                                      .y = y.view(),
                                                      .lse = lse.view(),
                                                      .q = q.view(),
                                                      .k = k.view(),
                                                      .v = v.view(),
                                                      .scale = a.float32("scale"),
                                                      .causal = a.boolean("causal")},
                                    {out_q, out_k, out_v});
  return to_js(a.env(), {{"dq", dq}, {"dk", dk}, {"dv", dv}});
}

}  // namespace

void define_attention(Napi::Object exports) {
  define<attention>(exports, "attention");
  define<attention_backward>(exports, "attentionBackward");
}

}  // namespace ml::binding
