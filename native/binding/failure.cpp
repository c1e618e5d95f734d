// Failures on demand (core/failure.h), in a development build only: what tests call, and the
// addon's operator new, which can fail then. The version script keeps it inside the addon.

#include "core/failure.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "binding/exports.h"
#include "cpu/container.h"

#ifdef ML_FAILURES

namespace ml::binding {
namespace {

int64_t call_count(Arguments& a, const char* name) {
  return static_cast<int64_t>(std::clamp(a.number(name), 0.0, 9e15));
}

// (kind, calls that succeed, calls that fail after them)
Napi::Value fail_next_calls(Arguments& a) {
  const auto kind = a.choice<Failure>("kind");
  const int64_t after = call_count(a, "after"), times = call_count(a, "times");
  fail_next(kind, after, times);
  return a.undefined();
}

// (folder): the limits that a container whose files are there would have
Napi::Value container_limits(Arguments& a) {
  const auto [memory, cores] = cpu::container_limits(a.next().ToString().Utf8Value());
  Napi::Object o = Napi::Object::New(a.env());
  o.Set("memory", to_js(a.env(), memory));
  o.Set("cores", Napi::Number::New(a.env(), cores));
  return o;
}

// (kind)
Napi::Value count_calls(Arguments& a) {
  return to_js(a.env(), failure_calls(a.choice<Failure>("kind")));
}

}  // namespace

void define_failures(Napi::Object exports) {
  define<fail_next_calls, Makes::nothing>(exports, "failNext");
  define<count_calls, Makes::nothing>(exports, "failureCalls");
  define<container_limits>(exports, "containerLimits");
}

}  // namespace ml::binding

namespace {

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (ml::fails(ml::Failure::malloc)) throw std::bad_alloc();
  const std::size_t size = (std::max<std::size_t>(bytes, 1) + alignment - 1) & ~(alignment - 1);
  void* data = alignment <= alignof(std::max_align_t) ? std::malloc(size)
                                                      : std::aligned_alloc(alignment, size);
  if (!data) throw std::bad_alloc();
  return data;
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete(void* data, std::size_t, std::align_val_t) noexcept { std::free(data); }

#else

namespace ml::binding {
void define_failures(Napi::Object) {}
}  // namespace ml::binding

#endif
