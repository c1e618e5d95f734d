#pragma once
// Starting a kernel: the arguments are kept until every thread of the grid has run.

#include <memory>
#include <tuple>
#include <type_traits>

#include "core/failure.h"
#include "simt/runtime.h"

namespace simt {

struct Call {
  const void* kernel;  // its address, for its name and attributes
  std::shared_ptr<void> arguments;
  size_t argument_bytes;
  void (*invoke)(void* arguments);  // runs the kernel as one thread
  bool instrumented;                // each access of memory is told to the emulator
};

toolkit::cudaError_t launch(const toolkit::cudaLaunchConfig_t& config, Call call);
toolkit::cudaError_t set_kernel_attribute(const void* kernel, toolkit::cudaFuncAttribute attribute,
                                          int value);

#ifdef __SANITIZE_THREAD__
inline constexpr bool kInstrumented = true;
#else
inline constexpr bool kInstrumented = false;
#endif

namespace toolkit {

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  struct Bound {
    void (*kernel)(Parameters...);
    std::tuple<std::remove_cv_t<Parameters>...> parameters;
    static void run(void* p) {
      Bound& bound = *static_cast<Bound*>(p);
      std::apply(bound.kernel, bound.parameters);
    }
  };
  const ml::Uncounted uncounted;  // the emulator's own memory
  auto bound = std::make_shared<Bound>(Bound{kernel, {static_cast<Parameters>(arguments)...}});
  return launch(*config, {reinterpret_cast<const void*>(kernel), bound, sizeof(Bound), &Bound::run,
                          kInstrumented});
}

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute,
                                 int value) {
  return set_kernel_attribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

}  // namespace toolkit
}  // namespace simt
