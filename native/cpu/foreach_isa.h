// Includes ML_ISA_SOURCE once per instruction set, each time under a target pragma and with ML_ISA
// set to the namespace of that set. A source file has this form:
//
//   #include "ops/topk.h"
//   #ifdef ML_ISA
//   namespace ml::cpu::ML_ISA { namespace { … inner loops, with cpu/simd.h … } }
//   #else
//   #define ML_ISA_SOURCE "ops/topk.cpp"
//   #include "cpu/foreach_isa.h"
//   namespace ml::cpu { … host function: ML_DISPATCH(rows)(…) … }
//   #endif
//
// Headers of inner loops are read once a pass: their guard is defined in one pass and undefined in
// the next (ML_ISA_TOGGLE), so each includes what it uses, in any order.
//
// A pragma, not a compiler flag per file: a flag also compiles shared std:: templates for its
// instruction set, and the linker may keep that copy for a machine that can't run it. Standard
// headers are included before the first pass, and no std:: template is instantiated inside one.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/half.h"
#include "cpu/context.h"
#include "cpu/isa.h"
#include "cpu/matrix_product.h"

#define ML_ISA baseline
#define ML_ISA_LEVEL 0
#include "cpu/simd.h"
#include ML_ISA_SOURCE
#undef ML_ISA
#undef ML_ISA_LEVEL

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,popcnt,lzcnt")
#define ML_ISA avx2
#define ML_ISA_LEVEL 2
#define ML_ISA_TOGGLE
#include "cpu/simd.h"
#include ML_ISA_SOURCE
#undef ML_ISA
#undef ML_ISA_LEVEL
#undef ML_ISA_TOGGLE
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target(                                                                    \
    "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,f16c,bmi,bmi2,popcnt,lzcnt", \
    "prefer-vector-width=512")
#define ML_ISA avx512
#define ML_ISA_LEVEL 3
#include "cpu/simd.h"
#include ML_ISA_SOURCE
#undef ML_ISA
#undef ML_ISA_LEVEL
#pragma GCC pop_options
#endif
