#include "ops/require_finite.h"

#include "core/index_error.h"
#include "cpu/context.h"

namespace ml::cpu {

void require_finite(KernelContext&, const RequireFinite& a) {
  const auto* bits = a.x.as<int32_t>();
  for (int64_t i = 0; i < a.x.size(); ++i)
    if (!is_finite_float(bits[i])) throw finite_error(a.what, a.step, bits[i]);
  for (int64_t i = 0; i < a.x.size(); ++i) a.values.as<int32_t>()[i] = bits[i];
  *a.unit.as<float>() = a.scale;
}

}  // namespace ml::cpu
