#pragma once
// Which ranks are alive, apart from the transport: a rank that dies closes its connection, one that
// is cut off or stopped is silent. Rank 0 is connected to all others and tells them whom it has
// lost. Only beats go over it, no data.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"

namespace ml {

class Liveness {
 public:
  // Where rank 0 listens, as bytes of a fixed size that it sends to all.
  struct Meeting {
    static constexpr int kMost = 16;
    uint64_t token = 0;  // of this world
    uint16_t port = 0;
    uint16_t count = 0;
    uint32_t addresses[kMost]{};  // IPv4, in network order
  };

  // Never destroyed: its thread may outlive everything else.
  Liveness() = default;
  ~Liveness() = delete;
  Liveness(const Liveness&) = delete;
  Liveness& operator=(const Liveness&) = delete;

  // Rank 0: where the others are to connect to. Throws ERR_DISTRIBUTED.
  Meeting listen(int ranks);
  // Others: connects to rank 0. Throws ERR_DISTRIBUTED.
  void connect(int rank, const Meeting& meeting, std::chrono::milliseconds limit);
  // Rank 0: waits until all are connected, after listen(). Throws ERR_DISTRIBUTED naming one that
  // is not.
  void accept_all(const Meeting& meeting, std::chrono::milliseconds limit);
  // Starts the thread. `lost` is called there, once, with the rank that is gone and why.
  void watch(std::chrono::milliseconds silence, std::function<void(const Error&)> lost);
  // Tells the others that this rank can't go on because of another. Any thread.
  void report(const Error& error);
  // This rank leaves, and the others no longer expect it.
  void leave();

 private:
  using Clock = std::chrono::steady_clock;
  struct Peer {
    int rank;
    int socket;
    Clock::time_point heard;
    bool left = false;
    std::string unread{};
  };
  struct Note;

  void loop(std::chrono::milliseconds silence);
  void hear(Peer& peer);
  void lose(int rank, const std::string& why);
  void tell_all(const Note& note);

  int listener_ = -1;
  int ranks_ = 1;
  std::vector<Peer> peers_;
  std::function<void(const Error&)> lost_;
  bool has_lost_ = false;
  std::atomic<bool> leaving_{false};
  std::atomic<int> reported_{-1};  // a rank that report() named
  int wake_[2] = {-1, -1};         // a pipe that wakes the thread
};

}  // namespace ml
