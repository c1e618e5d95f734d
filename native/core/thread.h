#pragma once
// Starting threads, which the system may refuse: a container limits their number.

#include <cerrno>
#include <system_error>
#include <thread>
#include <utility>

#ifdef __linux__
#include <pthread.h>
#endif

#include "core/error.h"
#include "core/failure.h"

namespace ml {

// `name`, at most 15 characters, is what debuggers and profilers show. Throws ERR_DEVICE, saying
// `what` it is, where it can't be started.
template <class F>
std::thread start_thread(const char* name, const char* what, F body) {
  try {
    if (fails(Failure::thread))
      throw std::system_error(EAGAIN, std::generic_category(), "pthread_create");
    return std::thread([name, body = std::move(body)]() mutable {
#ifdef __linux__
      pthread_setname_np(pthread_self(), name);
#endif
      body();
    });
  } catch (const std::system_error& error) {
    throw Error(Code::device, std::string(what) + " can't be started: " + error.what() +
                                  ".\n  The limit of threads of this user or container is reached "
                                  "(ulimit -u, pids.max).");
  }
}

}  // namespace ml
