// Parameter-efficient expert retrieval.

#include "binding/exports.h"

namespace ml::binding {
namespace {

Napi::Value peer(Arguments& a) {
  const Tensor out_output = a.optional_output("out.output"), out_u = a.optional_output("out.u");
  const Tensor x = a.tensor("x"), down = a.tensor("down"), up = a.tensor("up"),
               indices = a.tensor("indices"), weights = a.tensor("weights");
  const auto [output, u] = compute(x.device(),
                                   Peer{.x = x.view(),
                                        .down = down.view(),
                                        .up = up.view(),
                                        .indices = indices.view(),
                                        .weights = weights.view(),
                                        .activation = a.choice<Activation>("activation")},
                                   {out_output, out_u});
  return to_js(a.env(), {{"output", output}, {"u", u}});
}

// The tables' gradients are queued at the tables that are given, else returned.
Napi::Value peer_backward(Arguments& a) {
  const Tensor out_x = a.optional_output("out.dx"), out_weights = a.optional_output("out.dWeights");
  const Tensor dout = a.tensor("dOut"), x = a.tensor("x"), down = a.tensor("down"),
               up = a.tensor("up"), indices = a.tensor("indices"), weights = a.tensor("weights"),
               u = a.tensor("u");
  Device& device = x.device();
  const auto [dx, dweights, du, coefficient] =
      compute(device,
              PeerBackward{.dout = dout.view(),
                           .u = u.view(),
                           .x = x.view(),
                           .down = down.view(),
                           .up = up.view(),
                           .indices = indices.view(),
                           .weights = weights.view(),
                           .activation = a.choice<Activation>("activation")},
              {out_x, out_weights});
  const ValueTable::Read of_down{.indices = indices, .weights = du, .dy = x},
      of_up{.indices = indices, .weights = coefficient, .dy = dout};
  Napi::Object result = to_js(a.env(), {{"dx", dx}, {"dWeights", dweights}});
  const auto add = [&](const char* name, const char* table, ValueTable::Read read,
                       const Tensor& rows) {
    if (const auto queue = a.optional_table(table)) {
      queue->live_weight("peerBackward");
      read.dy = float32_copy(read.dy);  // may be written to before the step
      queue->push(read);
    } else {
      result.Set(name,
                 to_js(a.env(), sparse_grad(device, {&read, 1}, rows.shape[0], rows.shape[1])));
    }
  };
  add("dDown", "downTable", of_down, down);
  add("dUp", "upTable", of_up, up);
  return result;
}

}  // namespace

void define_peer(Napi::Object exports) {
  define<peer>(exports, "peer");
  define<peer_backward>(exports, "peerBackward");
}

}  // namespace ml::binding
