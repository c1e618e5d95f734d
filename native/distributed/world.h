#pragma once
// The ranks that one launcher has started, and groups of them.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "distributed/engine.h"
#include "distributed/flight.h"
#include "distributed/liveness.h"
#include "distributed/transport.h"

namespace ml {

// One in a process, which is never destroyed: a transport can't be joined twice.
class World {
 public:
  explicit World(const ml_transport& transport)
      : transport_(transport), engine_(*new Engine(transport)) {}
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Joins the other ranks. `done` is called on another thread.
  void start(std::chrono::milliseconds timeout, std::function<void(std::optional<Error>)> done);
  // Leaves them when all exchanges that were enqueued have ended, or a rank is lost. `done` is
  // called on another thread.
  void finish(std::function<void(std::optional<Error>)> done);

  Engine& engine() { return engine_; }
  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  std::string library() const { return transport_.library(); }

  // Of tags of one kind, so that a group can have its own.
  static constexpr int kTags = 64;
  // Groups that have ranks in common have different numbers, from 0 (all ranks).
  int groups() const { return static_cast<int>(tags_ / (2 * kTags)); }

 private:
  void meet(std::chrono::milliseconds timeout);

  const ml_transport& transport_;
  int rank_ = 0, ranks_ = 1;
  int64_t tags_ = 0;
  Engine& engine_;
  Liveness& liveness_ = *new Liveness;
};

// Bytes that this rank has sent and received, by collective; not what stays on the rank.
struct Traffic {
  int64_t calls = 0, sent = 0, received = 0;
};

// Used only by the caller's thread.
class Group {
 public:
  // `members`: ranks of the world, in the order of the group.
  Group(World& world, std::vector<int> members, int id);

  World& world() const { return world_; }
  int rank() const { return rank_; }
  int size() const { return static_cast<int>(members_.size()); }
  int world_rank(int rank) const { return members_[static_cast<size_t>(rank)]; }

  // Of the next collective on tensors, and of the next exchange between hosts.
  int next_tag() { return tag(0, collectives_++); }
  int next_exchange_tag() { return tag(1, exchanges_++); }

  const std::map<std::string, Traffic>& traffic() const { return traffic_; }
  void count(const char* collective, int64_t sent, int64_t received, int calls = 1);
  // Bytes to each rank of the group.
  const std::vector<int64_t>& sent_to() const { return sent_to_; }
  void count_sent_to(int rank, int64_t bytes) { sent_to_[static_cast<size_t>(rank)] += bytes; }

  // The same number of bytes of every rank to all, between hosts: in the order of the ranks.
  // `done` is called on the communication thread.
  using Gathered = std::shared_ptr<std::vector<char>>;
  void gather(const void* data, size_t bytes,
              std::function<void(std::optional<Error>, const Gathered&)> done);

 private:
  int tag(int kind, uint64_t number) const {
    return (id_ * 2 + kind) * World::kTags + static_cast<int>(number % World::kTags);
  }

  World& world_;
  const std::vector<int> members_;
  const int id_;
  int rank_ = -1;
  uint64_t collectives_ = 0, exchanges_ = 0;
  std::map<std::string, Traffic> traffic_;
  std::vector<int64_t> sent_to_;
};

using GroupPtr = std::shared_ptr<Group>;

}  // namespace ml
