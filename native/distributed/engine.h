#pragma once
// The communication thread: the only one that calls the transport. It keeps any number of transfers
// in progress by nonblocking calls, so none waits for another, and none for a rank that is gone.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "distributed/transport.h"

namespace ml {

// Bytes to or from a rank of the world.
struct Message {
  int peer;
  char* data;
  int64_t bytes;
};

// Messages that belong together: all ranks concerned have a transfer with the same tag, and begin
// the transfers of one tag in the same order.
struct Transfer {
  const char* name = "";  // of the collective, in errors
  int tag = 0;
  bool is_void = false;  // what this rank sends is void: its messages are empty instead
  std::vector<Message> sends, receives;
  std::function<void(std::optional<Error>)> done;  // on the communication thread, once
};

class Engine {
 public:
  // What start() has found.
  struct Found {
    int rank = 0, ranks = 1;
    int64_t tags = 0;
  };

  // Never destroyed: its thread may be inside of start() for good.
  explicit Engine(const ml_transport& transport) : transport_(transport) {}
  ~Engine() = delete;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Starts the thread, which joins the ranks: `joined` is called there.
  void start(std::chrono::milliseconds timeout,
             std::function<void(std::optional<Error>, const Found&)> joined);
  // One will be submitted, or is not needed: settle() says that it has ended. Any thread.
  void expect();
  void settle();
  // done() comes with an error once the world has failed or was left. Any thread.
  void submit(Transfer transfer);
  // All transfers end with this error, and so do all that are submitted from here on. The first
  // error stays. Any thread.
  void fail(const Error& error);
  std::optional<Error> failure() const;
  // Called once, with the first error, on any thread.
  std::function<void(const Error&)> on_failure;
  // When all transfers that are expected have ended, leaves the ranks, unless the world has failed,
  // and ends the thread.
  void finish(std::function<void(std::optional<Error>)> finished);

 private:
  using Clock = std::chrono::steady_clock;
  struct Part {  // of a message, at most kPart bytes
    int peer;
    bool received;
    int64_t bytes;
    ml_request request{};
  };
  struct Active {
    Transfer transfer;
    std::vector<Part> parts;
    Clock::time_point progress;
    std::optional<Error> error;
  };

  void loop(const std::function<void(std::optional<Error>, const Found&)>& joined);
  bool take();
  void begin(Transfer transfer);
  void post(Active& active, const Message& message, bool receive);
  bool advance(Active& active);
  void complete(Part& part, int code, int64_t bytes, Active& active);
  void check_progress(const Active& active, Clock::time_point now);
  void drop_all();
  Error transport_error(int code, const char* what) const;

  const ml_transport& transport_;
  std::chrono::milliseconds timeout_{0};
  // Communication thread
  std::vector<std::unique_ptr<Active>> active_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable submitted_;
  std::deque<Transfer> queue_;
  int64_t expected_ = 0;
  bool finish_ = false, ended_ = false;
  std::function<void(std::optional<Error>)> finished_;
  std::optional<Error> failure_;
  std::atomic<bool> failed_{false};
};

}  // namespace ml
