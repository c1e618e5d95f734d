#include "distributed/engine.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "core/insist.h"
#include "core/pause.h"
#include "core/thread.h"

namespace ml {
namespace {

constexpr int64_t kPart = int64_t{1} << 30;  // bytes: a transport counts with int

// Polls without a pause, then with one that gives the core away: what is waited for comes within
// some microseconds, or takes a while, and ranks may be more than cores.
class Backoff {
 public:
  void reset() { polls_ = 0; }
  void wait() {
    constexpr int kSpins = 200, kYields = 200;
    constexpr std::chrono::microseconds kShort{20}, kLong{200};
    ++polls_;
    if (polls_ < kSpins)
      pause_cpu();
    else if (polls_ < kSpins + kYields)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(polls_ < 1000 ? kShort : kLong);
  }

 private:
  int polls_ = 0;
};

}  // namespace

Error Engine::transport_error(int code, const char* what) const {
  return Error(Code::distributed,
               std::string("distributed: ") + what + ": " + transport_.error_text(code) + ".");
}

void Engine::start(std::chrono::milliseconds timeout,
                   std::function<void(std::optional<Error>, const Found&)> joined) {
  timeout_ = timeout;
  start_thread("ml-ranks", "the communication thread", [this, joined = std::move(joined)] {
    loop(joined);
  }).detach();
}

void Engine::expect() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++expected_;
}

void Engine::settle() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    --expected_;
  }
  submitted_.notify_one();
}

void Engine::submit(Transfer transfer) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!ended_) {
      queue_.push_back(std::move(transfer));
      submitted_.notify_one();
      return;
    }
  }
  transfer.done(Error(Code::disposed, std::string(transfer.name) +
                                          ": the world was closed.\n  Nothing can be sent after "
                                          "close(), within groups that were split off neither."));
}

void Engine::fail(const Error& error) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (failure_) return;
    failure_ = error;
    failed_.store(true, std::memory_order_release);
  }
  submitted_.notify_one();
  if (on_failure) on_failure(error);
}

std::optional<Error> Engine::failure() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failure_;
}

void Engine::finish(std::function<void(std::optional<Error>)> finished) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finish_) return;
    finish_ = true;
    finished_ = std::move(finished);
  }
  submitted_.notify_one();
}

// ---- Communication thread

void Engine::loop(const std::function<void(std::optional<Error>, const Found&)>& joined) {
  Found found;
  const int code = transport_.start(&found.rank, &found.ranks, &found.tags);
  if (code) fail(transport_error(code, "joining the ranks has failed"));
  joined(failure(), found);
  Backoff backoff;
  while (take()) {
    bool progress = false;
    for (auto& active : active_) progress = advance(*active) || progress;
    std::erase_if(active_, [](const auto& active) { return active->parts.empty(); });
    if (failed_.load(std::memory_order_acquire)) drop_all();
    if (progress)
      backoff.reset();
    else
      backoff.wait();
  }
  std::optional<Error> error = failure();
  if (!error)
    if (const int failed = transport_.finish())
      error = transport_error(failed, "leaving the ranks has failed");
  std::function<void(std::optional<Error>)> finished;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished = std::move(finished_);
  }
  if (finished) finished(error);
}

// Begins what was submitted; sleeps while there is nothing to do. False at the end.
bool Engine::take() {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto last = [this] { return finish_ && expected_ == 0 && queue_.empty(); };
  if (active_.empty()) submitted_.wait(lock, [&] { return last() || !queue_.empty(); });
  while (!queue_.empty()) {
    Transfer next = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    begin(std::move(next));
    lock.lock();
  }
  ended_ = last() && active_.empty();
  return !ended_;
}

void Engine::begin(Transfer transfer) {
  if (failed_.load(std::memory_order_acquire)) return transfer.done(failure());
  std::unique_ptr<Active> active;
  insist([&] {
    active = std::make_unique<Active>();
    size_t parts = 0;
    for (const auto* list : {&transfer.sends, &transfer.receives})
      for (const Message& message : *list) parts += static_cast<size_t>(message.bytes / kPart + 1);
    active->parts.reserve(parts);
    active_.reserve(active_.size() + 1);
  });
  active->transfer = std::move(transfer);
  active->progress = Clock::now();
  for (const Message& message : active->transfer.receives) post(*active, message, true);
  for (const Message& message : active->transfer.sends) post(*active, message, false);
  if (active->parts.empty()) return active->transfer.done(failure());
  active_.push_back(std::move(active));
}

// A void message is one of no bytes, in place of each part.
void Engine::post(Active& active, const Message& message, bool receive) {
  const Transfer& t = active.transfer;
  for (int64_t at = 0; at < message.bytes; at += kPart) {
    Part part{message.peer, receive, std::min(kPart, message.bytes - at)};
    const int64_t sent = t.is_void ? 0 : part.bytes;
    const int code =
        receive ? transport_.receive(part.peer, t.tag, message.data + at, part.bytes, &part.request)
                : transport_.send(part.peer, t.tag, message.data + at, sent, &part.request);
    if (code) return fail(transport_error(code, t.name));
    active.parts.push_back(part);
  }
}

// Whether anything has arrived or left.
bool Engine::advance(Active& active) {
  const size_t before = active.parts.size();
  std::erase_if(active.parts, [&](Part& part) {
    int done = 0;
    int64_t bytes = part.bytes;
    const int code = transport_.test(&part.request, &done, &bytes);
    if (!code && !done) return false;
    complete(part, code, bytes, active);
    return true;
  });
  if (active.parts.size() == before) {
    check_progress(active, Clock::now());
    return false;
  }
  active.progress = Clock::now();
  if (active.parts.empty()) active.transfer.done(active.error ? active.error : failure());
  return true;
}

void Engine::complete(Part& part, int code, int64_t bytes, Active& active) {
  const char* name = active.transfer.name;
  const std::string rank = "rank " + std::to_string(part.peer);
  if (code && !transport_.is_truncation(code)) {
    const std::string text = transport_.error_text(code);
    return fail(Error::of_rank(part.peer, std::string(name) + ": " + rank + ": " + text + "."));
  }
  if (!part.received || active.error || (!code && bytes == part.bytes)) return;
  if (!code && bytes == 0) {
    active.error =
        Error::of_rank(part.peer, std::string(name) + ": what " + rank +
                                      " had to send is void: its own error " + "says why.");
    return;
  }
  const std::string sent = code ? "more" : std::to_string(bytes);
  active.error = Error::of_rank(part.peer, std::string(name) + ": " + rank + " must send " +
                                               std::to_string(part.bytes) + " bytes, sent " + sent +
                                               ".\n  All ranks call the same collectives in the " +
                                               "same order, with shapes that agree.");
}

void Engine::check_progress(const Active& active, Clock::time_point now) {
  if (now - active.progress <= timeout_) return;
  const auto received = std::find_if(active.parts.begin(), active.parts.end(),
                                     [](const Part& part) { return part.received; });
  const Part& part = received == active.parts.end() ? active.parts.front() : *received;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout_).count();
  fail(Error::of_rank(
      part.peer, std::string(active.transfer.name) + ": rank " + std::to_string(part.peer) +
                     " must take part within " + std::to_string(seconds) +
                     " s, got nothing from it.\n  Its process runs: it computes, waits for " +
                     "something else, or has left out the call. initDistributed's \"timeout\" " +
                     "allows more."));
}

// Requests stay with the transport, which is not called again.
void Engine::drop_all() {
  for (const auto& active : active_)
    if (!active->parts.empty()) active->transfer.done(failure());
  active_.clear();
}

}  // namespace ml
