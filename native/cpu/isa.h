#pragma once
// The instruction set of this process: the best one the machine has, or the one MEMORY_LAYERS_ISA
// names.

#include <string>
#include <vector>

namespace ml::cpu {

// In ascending order; each includes those before it. On arm64 baseline is NEON. avx512vnni runs the
// code of avx512, which asks isa() for int8 dot products where it can use them.
enum class Isa { baseline, avx2, avx512, avx512vnni };

Isa isa();               // chosen once; throws ERR_DEVICE for a name this machine can't run
const char* isa_name();  // "avx512vnni", "avx512", "avx2", "baseline", "neon"
std::vector<std::string> isa_names();  // every one this machine can run, best first

}  // namespace ml::cpu

// Picks the variant of a function that foreach_isa.h has compiled, once, at an operation's entry
// point.
#if defined(__x86_64__)
#define ML_DISPATCH(function)                                               \
  (::ml::cpu::isa() >= ::ml::cpu::Isa::avx512 ? ::ml::cpu::avx512::function \
   : ::ml::cpu::isa() == ::ml::cpu::Isa::avx2 ? ::ml::cpu::avx2::function   \
                                              : ::ml::cpu::baseline::function)
#else
#define ML_DISPATCH(function) (::ml::cpu::baseline::function)
#endif
