#pragma once
// What carries bytes between processes, as a table of C functions: memory_layers_mpi.node, which is
// compiled against the MPI of the machine, hands one to the addon, so that no type of MPI crosses.
// All functions but library() are called on one thread, the communication thread.

#include <stdint.h>

#define ML_TRANSPORT_MAGIC UINT64_C(0x6d6c7472616e7370)
#define ML_TRANSPORT_VERSION 1

typedef struct ml_request {
  uint64_t bits;  // of the transport's own handle
} ml_request;

typedef struct ml_transport {
  uint64_t magic;
  uint32_t version;
  uint32_t size;  // bytes of this table

  // Name and version of the MPI library: "Open MPI v4.1.4, …". Before start() and after.
  const char* (*library)(void);

  // The others return 0, or a code that error_text() explains.
  const char* (*error_text)(int code);

  // Joins the ranks that the launcher has started. Tags are in [0, *tags).
  int (*start)(int* rank, int* ranks, int64_t* tags);
  // Neither call waits. `data` must live until test() has found the request done; at most 1 GiB.
  int (*send)(int peer, int tag, const void* data, int64_t bytes, ml_request* request);
  int (*receive)(int peer, int tag, void* data, int64_t bytes, ml_request* request);
  // Sets *done to 1 when the request is complete; *bytes is then what a receive has received.
  int (*test)(ml_request* request, int* done, int64_t* bytes);
  // Whether a code says that more was sent than the receive has memory for.
  int (*is_truncation)(int code);
  // Leaves the ranks; nothing is called after it.
  int (*finish)(void);
} ml_transport;
