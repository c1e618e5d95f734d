#include "distributed/liveness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/thread.h"

namespace ml {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kBeat{1000};
constexpr milliseconds kConnect{2000};  // for one address

struct Greeting {
  uint64_t token;
  int64_t rank;
};

Error unconnected(int rank, const std::string& why) {
  return Error::of_rank(rank, "initDistributed: no connection to rank " + std::to_string(rank) +
                                  ": " + why + ".\n  Ranks must reach rank 0 by TCP on any port.");
}

Error system_error(const char* call) {
  return Error(Code::distributed,
               std::string("initDistributed: ") + call + ": " + std::strerror(errno) + ".");
}

bool wait_for(int socket, short events, milliseconds limit) {
  pollfd entry{socket, events, 0};
  int ready;
  do ready = ::poll(&entry, 1, static_cast<int>(std::max<int64_t>(limit.count(), 0)));
  while (ready < 0 && errno == EINTR);
  return ready > 0;
}

void set_up(int socket) {
  const int on = 1;
  (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  (void)fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
}

// All or nothing: notes are small, and a socket that is full belongs to a rank that does not read.
void send_all(int socket, const void* data, size_t bytes) {
  (void)!::send(socket, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool receive_all(int socket, void* data, size_t bytes, milliseconds limit) {
  auto* to = static_cast<char*>(data);
  while (bytes > 0) {
    if (!wait_for(socket, POLLIN, limit)) return false;
    const ssize_t count = ::recv(socket, to, bytes, 0);
    if (count <= 0) return false;
    to += count;
    bytes -= static_cast<size_t>(count);
  }
  return true;
}

// Addresses of this machine, those of networks first.
void list_addresses(Liveness::Meeting& meeting) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return;
  for (const bool loopback : {false, true})
    for (const ifaddrs* i = list; i && meeting.count < Liveness::Meeting::kMost; i = i->ifa_next) {
      if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP)) continue;
      if (static_cast<bool>(i->ifa_flags & IFF_LOOPBACK) != loopback) continue;
      const auto* address = reinterpret_cast<const sockaddr_in*>(i->ifa_addr);
      meeting.addresses[meeting.count++] = address->sin_addr.s_addr;
    }
  freeifaddrs(list);
}

// A connection to rank 0 that has answered with the token of this world; -1: none at this address.
int try_address(uint32_t address, const Liveness::Meeting& meeting, int rank) {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (s < 0) return -1;
  set_up(s);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(meeting.port);
  to.sin_addr.s_addr = address;
  int error = 0;
  socklen_t size = sizeof(error);
  const Greeting greeting{meeting.token, rank};
  uint64_t answer = 0;
  if ((::connect(s, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0 || errno == EINPROGRESS) &&
      wait_for(s, POLLOUT, kConnect) && getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &size) == 0 &&
      error == 0) {
    send_all(s, &greeting, sizeof(greeting));
    if (receive_all(s, &answer, sizeof(answer), kConnect) && answer == meeting.token) return s;
  }
  ::close(s);
  return -1;
}

}  // namespace

struct Liveness::Note {
  enum Kind : int32_t { beat, lost, leaving };
  Kind kind;
  int32_t rank;
};

Liveness::Meeting Liveness::listen(int ranks) {
  ranks_ = ranks;
  Meeting meeting;
  if (::getrandom(&meeting.token, sizeof(meeting.token), 0) != sizeof(meeting.token))
    throw system_error("getrandom");
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener_ < 0) throw system_error("socket");
  sockaddr_in any{};
  any.sin_family = AF_INET;
  socklen_t size = sizeof(any);
  auto* address = reinterpret_cast<sockaddr*>(&any);
  if (::bind(listener_, address, size) != 0 || ::listen(listener_, ranks) != 0 ||
      getsockname(listener_, address, &size) != 0)
    throw system_error("listen");
  meeting.port = ntohs(any.sin_port);
  list_addresses(meeting);
  return meeting;
}

void Liveness::connect(int rank, const Meeting& meeting, milliseconds limit) {
  const auto end = Clock::now() + limit;
  do
    for (int i = 0; i < meeting.count; ++i)
      if (const int s = try_address(meeting.addresses[i], meeting, rank); s >= 0) {
        peers_.push_back({0, s, Clock::now()});
        return;
      }
  while (Clock::now() < end);
  throw unconnected(0, "none of its addresses answers");
}

void Liveness::accept_all(const Meeting& meeting, milliseconds limit) {
  const auto end = Clock::now() + limit;
  std::vector<bool> connected(static_cast<size_t>(ranks_));
  connected[0] = true;
  while (static_cast<int>(peers_.size()) < ranks_ - 1) {
    const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now());
    if (left.count() <= 0) {
      const auto missing = std::find(connected.begin(), connected.end(), false);
      throw unconnected(static_cast<int>(missing - connected.begin()), "it has not connected");
    }
    if (!wait_for(listener_, POLLIN, left)) continue;
    const int s = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (s < 0) continue;
    set_up(s);
    Greeting greeting{};
    const bool known = receive_all(s, &greeting, sizeof(greeting), kConnect) &&
                       greeting.token == meeting.token && greeting.rank > 0 &&
                       greeting.rank < ranks_ && !connected[static_cast<size_t>(greeting.rank)];
    if (!known) {
      ::close(s);
      continue;
    }
    send_all(s, &greeting.token, sizeof(greeting.token));
    connected[static_cast<size_t>(greeting.rank)] = true;
    peers_.push_back({static_cast<int>(greeting.rank), s, Clock::now()});
  }
}

void Liveness::watch(milliseconds silence, std::function<void(const Error&)> lost) {
  lost_ = std::move(lost);
  if (listener_ >= 0) ::close(listener_);
  if (peers_.empty()) return;
  if (::pipe2(wake_, O_CLOEXEC | O_NONBLOCK) != 0) throw system_error("pipe");
  start_thread("ml-alive", "the thread that watches ranks", [this, silence] {
    loop(silence);
  }).detach();
}

void Liveness::report(const Error& error) {
  if (error.rank() < 0) return;
  reported_ = error.rank();
  if (wake_[1] >= 0) (void)!::write(wake_[1], "", 1);
}

void Liveness::leave() {
  leaving_ = true;
  if (wake_[1] >= 0) (void)!::write(wake_[1], "", 1);
}

// ---- The thread

void Liveness::loop(milliseconds silence) {
  std::vector<pollfd> entries;
  auto next_beat = Clock::now();
  for (auto& peer : peers_) peer.heard = next_beat;
  while (!leaving_) {
    if (Clock::now() >= next_beat) {
      tell_all({Note::beat, 0});
      next_beat = Clock::now() + kBeat;
    }
    entries.clear();
    entries.push_back({wake_[0], POLLIN, 0});
    for (const Peer& peer : peers_) entries.push_back({peer.left ? -1 : peer.socket, POLLIN, 0});
    const auto pause = std::chrono::duration_cast<milliseconds>(next_beat - Clock::now());
    (void)::poll(entries.data(), entries.size(),
                 static_cast<int>(std::max<int64_t>(pause.count(), 0)));
    char byte;
    while (::read(wake_[0], &byte, 1) > 0) continue;
    for (size_t i = 0; i < peers_.size(); ++i)
      if (entries[i + 1].revents) hear(peers_[i]);
    for (const Peer& peer : peers_)
      if (!peer.left && Clock::now() - peer.heard > silence)
        lose(peer.rank, "it has been silent for " + std::to_string(silence.count() / 1000) +
                            " s: it was stopped, or the network was cut");
    if (reported_ >= 0) lose(reported_, "");
  }
  tell_all({Note::leaving, 0});
  for (const Peer& peer : peers_) ::close(peer.socket);
}

void Liveness::hear(Peer& peer) {
  char data[512];
  const ssize_t count = ::recv(peer.socket, data, sizeof(data), 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    peer.left = true;
    return lose(peer.rank, "its process has ended, or the connection to it");
  }
  peer.heard = Clock::now();
  peer.unread.append(data, static_cast<size_t>(count));
  size_t at = 0;
  for (Note note; at + sizeof(note) <= peer.unread.size(); at += sizeof(note)) {
    std::memcpy(&note, peer.unread.data() + at, sizeof(note));
    if (note.kind == Note::leaving) peer.left = true;
    if (note.kind == Note::lost)
      lose(note.rank, "rank " + std::to_string(peer.rank) + " has told so");
  }
  peer.unread.erase(0, at);
}

// The first loss counts; what follows from it is none.
void Liveness::lose(int rank, const std::string& why) {
  if (has_lost_) return;
  has_lost_ = true;
  tell_all({Note::lost, rank});
  lost_(
      Error::of_rank(rank, "distributed: rank " + std::to_string(rank) + " is lost: " + why + "."));
}

void Liveness::tell_all(const Note& note) {
  for (const Peer& peer : peers_)
    if (!peer.left) send_all(peer.socket, &note, sizeof(note));
}

}  // namespace ml
