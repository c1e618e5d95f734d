#include "distributed/world.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/thread.h"

namespace ml {
namespace {

// Beats come every second: silence of this length is no hiccup, and leaves the ranks time to end
// within half a minute.
constexpr std::chrono::milliseconds kSilence{15'000};
constexpr std::chrono::milliseconds kLeaving{100};  // between looks for a lost rank

}  // namespace

void World::start(std::chrono::milliseconds timeout,
                  std::function<void(std::optional<Error>)> done) {
  auto joined = std::make_shared<Flight>();
  engine_.on_failure = [this](const Error& error) { liveness_.report(error); };
  engine_.start(timeout, [this, joined](std::optional<Error> error, const Engine::Found& found) {
    rank_ = found.rank;
    ranks_ = found.ranks;
    tags_ = found.tags;
    joined->end(std::move(error));
  });
  start_thread("ml-meet", "the thread that joins the ranks",
               [this, joined, timeout, done = std::move(done)] {
                 std::optional<Error> error;
                 try {
                   if (!joined->wait_for(timeout))
                     throw Error(Code::distributed,
                                 "initDistributed: not all ranks have joined within " +
                                     std::to_string(timeout.count() / 1000) +
                                     " s.\n  Every rank that the launcher starts must call it.");
                   error = joined->wait();
                   if (!error) meet(timeout);
                 } catch (const Error& caught) {
                   error = caught;
                 }
                 if (error) engine_.fail(*error);
                 done(error);
               })
      .detach();
}

// Connects the ranks by their liveness.
void World::meet(std::chrono::milliseconds timeout) {
  Liveness::Meeting meeting;
  if (rank_ == 0 && ranks_ > 1) meeting = liveness_.listen(ranks_);
  Flight told;
  Transfer transfer;
  transfer.name = "initDistributed";
  const Message message{0, reinterpret_cast<char*>(&meeting), sizeof(meeting)};
  if (rank_ > 0) transfer.receives.push_back(message);
  for (int peer = 1; rank_ == 0 && peer < ranks_; ++peer) {
    transfer.sends.push_back(message);
    transfer.sends.back().peer = peer;
  }
  transfer.done = [&told](std::optional<Error> error) { told.end(std::move(error)); };
  engine_.submit(std::move(transfer));
  if (const auto error = told.wait()) throw *error;
  if (rank_ > 0)
    liveness_.connect(rank_, meeting, timeout);
  else
    liveness_.accept_all(meeting, timeout);
  liveness_.watch(std::min(kSilence, timeout), [this](const Error& lost) { engine_.fail(lost); });
}

void World::finish(std::function<void(std::optional<Error>)> done) {
  auto left = std::make_shared<Flight>();
  engine_.finish([this, left](std::optional<Error> error) {
    liveness_.leave();
    left->end(std::move(error));
  });
  start_thread("ml-leave", "the thread that leaves the ranks",
               [this, left, done = std::move(done)] {
                 // The transport may wait for a rank for good that is lost by then.
                 while (!left->wait_for(kLeaving))
                   if (const auto error = engine_.failure()) return done(error);
                 done(left->wait());
               })
      .detach();
}

Group::Group(World& world, std::vector<int> members, int id)
    : world_(world), members_(std::move(members)), id_(id), sent_to_(members_.size()) {
  const auto self = std::find(members_.begin(), members_.end(), world.rank());
  rank_ = static_cast<int>(self - members_.begin());
  if (id >= world.groups())
    throw Error(Code::distributed, "world.split: " + std::to_string(id) +
                                       " groups were made, and this MPI has tags for no more.\n" +
                                       "  Keep a group instead of splitting again.");
}

void Group::count(const char* collective, int64_t sent, int64_t received, int calls) {
  Traffic& t = traffic_[collective];
  t.calls += calls;
  t.sent += sent;
  t.received += received;
}

void Group::gather(const void* data, size_t bytes,
                   std::function<void(std::optional<Error>, const Gathered&)> done) {
  auto all = std::make_shared<std::vector<char>>(bytes * static_cast<size_t>(size()));
  char* own = all->data() + bytes * static_cast<size_t>(rank_);
  if (bytes) std::memcpy(own, data, bytes);
  const auto count = static_cast<int64_t>(bytes);
  Transfer transfer;
  transfer.name = "world.exchange";
  transfer.tag = next_exchange_tag();
  for (int r = 0; r < size(); ++r) {
    if (r == rank_) continue;
    count_sent_to(r, count);
    transfer.sends.push_back({world_rank(r), own, count});
    transfer.receives.push_back({world_rank(r), all->data() + count * r, count});
  }
  this->count("exchange", count * (size() - 1), count * (size() - 1));
  transfer.done = [all, done = std::move(done)](std::optional<Error> error) {
    done(std::move(error), all);
  };
  world_.engine().submit(std::move(transfer));
}

}  // namespace ml
