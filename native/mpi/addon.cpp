// memory_layers_mpi.node: MPI as the transport of native/distributed/transport.h. Its one export,
// `transport`, is an external value with the table. Only nonblocking calls, so that a rank that is
// gone stops no one; no collective of MPI, so results do not depend on the library.

// MPI's own C++ classes are not used.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1

#include <dlfcn.h>
#include <mpi.h>
#include <node_api.h>

#include <cstring>

#include "distributed/transport.h"

namespace {

static_assert(sizeof(MPI_Request) <= sizeof(uint64_t));

MPI_Comm communicator = MPI_COMM_NULL;

// Open MPI opens plugins that expect the symbols of the library to be global; Node loads addons
// with local ones.
void make_global() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&MPI_Init_thread), &info) && info.dli_fname)
    (void)dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}

const char* library() {
  static char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  if (text[0] == '\0' && MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "";
  return text;
}

const char* error_text(int code) {
  static char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  return MPI_Error_string(code, text, &length) == MPI_SUCCESS ? text : "";
}

int start(int* rank, int* ranks, int64_t* tags) {
  make_global();
  int initialized = 0, finalized = 0;
  if (const int code = MPI_Initialized(&initialized)) return code;
  if (const int code = MPI_Finalized(&finalized)) return code;
  if (initialized || finalized) return MPI_ERR_OTHER;
  int level = 0;
  if (const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level)) return code;
  if (level < MPI_THREAD_FUNNELED) return MPI_ERR_OTHER;
  if (const int code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN)) return code;
  communicator = MPI_COMM_WORLD;
  if (const int code = MPI_Comm_rank(communicator, rank)) return code;
  if (const int code = MPI_Comm_size(communicator, ranks)) return code;
  int* most = nullptr;
  int found = 0;
  const int code = MPI_Comm_get_attr(communicator, MPI_TAG_UB, &most, &found);
  *tags = code == MPI_SUCCESS && found ? int64_t{*most} + 1 : 32768;
  return MPI_SUCCESS;
}

ml_request stored(MPI_Request request) {
  ml_request bits{0};
  std::memcpy(&bits.bits, &request, sizeof(request));
  return bits;
}

int send(int peer, int tag, const void* data, int64_t bytes, ml_request* request) {
  MPI_Request handle;
  const int code =
      MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, peer, tag, communicator, &handle);
  if (code == MPI_SUCCESS) *request = stored(handle);
  return code;
}

int receive(int peer, int tag, void* data, int64_t bytes, ml_request* request) {
  MPI_Request handle;
  const int code =
      MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, peer, tag, communicator, &handle);
  if (code == MPI_SUCCESS) *request = stored(handle);
  return code;
}

int test(ml_request* request, int* done, int64_t* bytes) {
  MPI_Request handle;
  std::memcpy(&handle, &request->bits, sizeof(handle));
  MPI_Status status{};
  const int code = MPI_Test(&handle, done, &status);
  *request = stored(handle);
  if (code != MPI_SUCCESS || !*done) return code;
  int count = 0;
  const int counted = MPI_Get_count(&status, MPI_BYTE, &count);
  *bytes = count;
  return counted;
}

int is_truncation(int code) {
  int kind = MPI_SUCCESS;
  return MPI_Error_class(code, &kind) == MPI_SUCCESS && kind == MPI_ERR_TRUNCATE;
}

int finish() { return MPI_Finalize(); }

const ml_transport table{ML_TRANSPORT_MAGIC,
                         ML_TRANSPORT_VERSION,
                         sizeof(ml_transport),
                         library,
                         error_text,
                         start,
                         send,
                         receive,
                         test,
                         is_truncation,
                         finish};

}  // namespace

NAPI_MODULE_INIT() {
  napi_value external;
  auto* data = const_cast<ml_transport*>(&table);
  if (napi_create_external(env, data, nullptr, nullptr, &external) == napi_ok)
    (void)napi_set_named_property(env, exports, "transport", external);
  return exports;
}
