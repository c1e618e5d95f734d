#include "cpu/isa.h"

#include <cstdlib>

#include "core/error.h"

namespace ml::cpu {
namespace {

bool supported(Isa candidate) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2") &&
                    __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("lzcnt");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
  if (candidate == Isa::avx2) return avx2;
  if (candidate == Isa::avx512) return avx512;
  if (candidate == Isa::avx512vnni) return avx512 && __builtin_cpu_supports("avx512vnni");
#endif
  return candidate == Isa::baseline;
}

const char* name(Isa isa) {
  switch (isa) {
    case Isa::avx512vnni: return "avx512vnni";
    case Isa::avx512: return "avx512";
    case Isa::avx2: return "avx2";
    case Isa::baseline: break;
  }
#if defined(__aarch64__)
  return "neon";
#else
  return "baseline";
#endif
}

constexpr Isa kBestFirst[] = {Isa::avx512vnni, Isa::avx512, Isa::avx2, Isa::baseline};

Isa choose() {
  const char* wanted = std::getenv("MEMORY_LAYERS_ISA");
  std::string known;
  for (Isa candidate : kBestFirst) {
    if (!supported(candidate)) continue;
    if (!wanted || !*wanted || std::string(wanted) == name(candidate)) return candidate;
    known += (known.empty() ? "" : ", ") + std::string(name(candidate));
  }
  throw Error(Code::device, "openDevice: MEMORY_LAYERS_ISA is \"" + std::string(wanted) +
                                "\", but this machine runs: " + known + ".");
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

const char* isa_name() { return name(isa()); }

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (Isa candidate : kBestFirst)
    if (supported(candidate)) names.emplace_back(name(candidate));
  return names;
}

}  // namespace ml::cpu
