#include "binding/addon.h"

#include "device/dependence.h"

namespace ml::binding {
namespace {

// One finished wait on its way from another thread to JavaScript.
struct Delivery {
  std::shared_ptr<DeliveryDoor> door;
  std::shared_ptr<Device> device;  // whose stream it was for; else nullptr
  MakeValue value;
  Settles settles = Settles::with_fault;
  napi_deferred deferred = nullptr;
  FaultPtr fault{};
  Ticket synchronized = 0;       // work up to here was waited for, for its faults too
  std::optional<Error> error{};  // of what no device did

  // On any thread, once: JavaScript's may end it meanwhile.
  void deliver() {
    const std::shared_ptr<DeliveryDoor> kept = door;
    kept->deliver(this);
  }
};

void reject(Napi::Env env, const Delivery& d, const Error& error) noexcept {
  napi_reject_deferred(env, d.deferred,
                       make_error(env, error.code_name(), error.what(), error.rank()));
}

void settle(napi_env raw, napi_value, void*, void* data) noexcept {
  std::unique_ptr<Delivery> d(static_cast<Delivery*>(data));
  if (raw == nullptr) {  // the environment is being torn down: no JavaScript can run
    return;
  }
  Napi::Env env(raw);
  Napi::HandleScope scope(env);
  Addon& addon = addon_of(env);
  if (--addon.waiting == 0) napi_unref_threadsafe_function(env, addon.deliver);
  if (d->settles == Settles::without_fault)
    d->fault = nullptr;
  else if (d->fault)
    d->fault->report();
  else if (d->synchronized && !d->device->ended())
    d->fault = d->device->stream().report_fault(d->synchronized);
  try {
    if (d->fault) {
      reject(env, *d, d->fault->error);
    } else if (d->error) {
      reject(env, *d, *d->error);
    } else {
      napi_resolve_deferred(env, d->deferred, d->value(env));
    }
  } catch (const Napi::Error&) {  // a worker is being terminated
  } catch (const std::exception&) {
    reject(env, *d, Error::without_memory(Code::out_of_memory, kNoBookkeeping));
  }
}

// The promise of what start(delivery) is to deliver.
template <class F>
Napi::Promise promise_of(Napi::Env env, std::shared_ptr<Device> device, MakeValue value,
                         Settles settles, const F& start) {
  Addon& addon = addon_of(env);
  auto d = std::make_unique<Delivery>(addon.door, std::move(device), std::move(value), settles);
  napi_value promise = nullptr;
  check_napi(env, napi_create_promise(env, &d->deferred, &promise));
  start(d.get());
  (void)d.release();
  if (addon.waiting++ == 0) napi_ref_threadsafe_function(env, addon.deliver);
  return Napi::Promise(env, promise);
}

// The devices end before the environment is torn down: their work writes into its array buffers.
void clean_up(void* data) {
  Addon* addon = static_cast<Addon*>(data);
  for (const auto& weak : addon->devices)
    if (auto device = weak.lock()) device->end();
  addon->door->close();
  napi_release_threadsafe_function(addon->deliver, napi_tsfn_abort);
}

}  // namespace

SpareBlocks::~SpareBlocks() {
  while (count_ > 0) ::operator delete(blocks_[--count_]);
}

Addon& addon_of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }

void start(Napi::Env env) {
  auto* addon = new Addon;
  env.SetInstanceData(addon);
  addon->array_buffer = Napi::Persistent(env.Global().Get("ArrayBuffer").As<Napi::Function>());
  napi_value name;
  napi_create_string_utf8(env, "memory-layers", NAPI_AUTO_LENGTH, &name);
  napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr,
                                  settle, &addon->deliver);
  addon->door = std::make_shared<DeliveryDoor>(addon->deliver);
  napi_unref_threadsafe_function(env, addon->deliver);
  napi_add_env_cleanup_hook(env, clean_up, addon);
}

// By the constructor, which throws: napi_create_arraybuffer ends the process.
Napi::ArrayBuffer new_array_buffer(Napi::Env env, size_t bytes) {
  napi_value size, buffer;
  napi_status status = napi_create_double(env, static_cast<double>(bytes), &size);
  if (status == napi_ok)
    status = napi_new_instance(env, addon_of(env).array_buffer.Value(), 1, &size, &buffer);
  if (status == napi_ok) return Napi::ArrayBuffer(env, buffer);
  napi_value ignored;
  napi_get_and_clear_last_exception(env, &ignored);
  throw Error(Code::out_of_memory, "no memory for an ArrayBuffer of " + std::to_string(bytes) +
                                       " bytes.\n  Read the rows of a large tensor in parts: "
                                       "tensor.rows(begin, end).");
}

Napi::Promise read_later(Napi::Env env, const std::shared_ptr<Device>& device, void* target,
                         const View& source, MakeValue value, Settles settles) {
  const auto start = [&](Delivery* d) {
    // The stream's thread owns no reference to the device: the last one must be released on the
    // JavaScript thread.
    const Stream::Completion done = [d](const FaultPtr& fault) {
      d->fault = fault;
      d->deliver();
    };
    if (source) return read(target, source, done);
    d->synchronized = device->stream().submitted();
    synchronize(*device, done);
  };
  return promise_of(env, device, std::move(value), settles, start);
}

Napi::Promise promise_later(Napi::Env env, MakeValue value,
                            const std::function<void(SettlePromise)>& start) {
  return promise_of(env, nullptr, std::move(value), Settles::with_fault, [&](Delivery* d) {
    start([d](std::optional<Error> error) {
      d->error = std::move(error);
      d->deliver();
    });
  });
}

Napi::Value make_error(Napi::Env env, const char* code, const char* message, int rank) noexcept {
  napi_value strings[3], error = nullptr;
  if (napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &strings[0]) != napi_ok ||
      napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &strings[1]) != napi_ok ||
      napi_create_int32(env, rank, &strings[2]) != napi_ok)
    return {};
  const size_t given = rank < 0 ? 2 : 3;
  const napi_ref reference = addon_of(env).error_class;
  napi_value error_class = nullptr;
  if (reference) (void)napi_get_reference_value(env, reference, &error_class);
  if (!error_class || napi_new_instance(env, error_class, given, strings, &error) != napi_ok)
    (void)napi_create_error(env, strings[0], strings[1], &error);
  return Napi::Value(env, error);
}

}  // namespace ml::binding
