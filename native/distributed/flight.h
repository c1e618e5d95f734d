#pragma once
// A transfer between ranks as the threads that wait for it see it.

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "core/error.h"

namespace ml {

// Ends once, with an error or without. Any thread.
class Flight {
 public:
  // False: it had ended.
  bool end(std::optional<Error> error) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (ended_) return false;
      ended_ = true;
      error_ = std::move(error);
    }
    ended_now_.notify_all();
    return true;
  }

  std::optional<Error> wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    ended_now_.wait(lock, [this] { return ended_; });
    return error_;
  }

  // False: not within `limit`. By the system clock: a wait by the steady clock needs a newer glibc.
  bool wait_for(std::chrono::milliseconds limit) {
    std::unique_lock<std::mutex> lock(mutex_);
    return ended_now_.wait_until(lock, std::chrono::system_clock::now() + limit,
                                 [this] { return ended_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_now_;
  bool ended_ = false;
  std::optional<Error> error_;
};

}  // namespace ml
