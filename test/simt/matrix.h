#pragma once
// The tensor core and ldmatrix, for a whole warp.

#include "machine.h"

namespace simt {

void multiply(Kind kind, Request* const* lanes);
void load_matrices(bool transposed, Request* const* lanes);

}  // namespace simt
