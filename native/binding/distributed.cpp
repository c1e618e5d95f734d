// Ranks, groups of them, and collectives.

#include "binding/exports.h"
#include "core/insist.h"

namespace ml::binding {
namespace {

// Of the process, and never destroyed: distributed/world.h.
World* the_world = nullptr;

// (transport: the external value of memory_layers_mpi.node)
const ml_transport& transport(Arguments& a) {
  const Napi::Value value = a.next();
  const auto* table =
      value.IsExternal() ? value.As<Napi::External<const ml_transport>>().Data() : nullptr;
  if (!table || table->magic != ML_TRANSPORT_MAGIC || table->version != ML_TRANSPORT_VERSION ||
      table->size != sizeof(ml_transport))
    throw Error(Code::unsupported,
                "initDistributed: memory_layers_mpi.node was built with another version of the "
                "package.\n  Build it anew: npx memory-layers build --mpi");
  return *table;
}

Napi::Value transport_library(Arguments& a) {
  return Napi::String::New(a.env(), transport(a).library());
}

Napi::Object to_js(Napi::Env env, const GroupPtr& group) {
  Napi::Object handle = wrap(env, GroupBox{group});
  handle.Set("rank", Napi::Number::New(env, group->rank()));
  handle.Set("size", Napi::Number::New(env, group->size()));
  return handle;
}

// (transport, timeout in milliseconds): the group of all ranks
Napi::Value world_start(Arguments& a) {
  const ml_transport& table = transport(a);
  const std::chrono::milliseconds timeout{a.integer("timeout")};
  if (the_world)
    throw Error(Code::distributed,
                "initDistributed: must be called once in a process.\n  MPI can't be joined again "
                "after world.close().");
  the_world = new World(table);
  World& world = *the_world;
  return promise_later(
      a.env(),
      [&world](Napi::Env env) {
        std::vector<int> all;
        for (int r = 0; r < world.ranks(); ++r) all.push_back(r);
        return to_js(env, std::make_shared<Group>(world, std::move(all), 0));
      },
      [&world, timeout](SettlePromise settle) { world.start(timeout, std::move(settle)); });
}

GroupPtr group(Arguments& a) {
  const GroupPtr group = unwrap<GroupBox>(a.next(), "group").group;
  if (!group)
    throw Error(Code::disposed, "world: it was closed.\n  Nothing can be sent after close().");
  return group;
}

std::vector<int64_t> integers(Arguments& a, const char* name) {
  const Napi::Array list = a.array(name);
  std::vector<int64_t> numbers;
  for (uint32_t i = 0; i < list.Length(); ++i)
    numbers.push_back(list.Get(i).ToNumber().Int64Value());
  return numbers;
}

Napi::Value world_finish(Arguments& a) {
  GroupBox& box = unwrap<GroupBox>(a.next(), "group");
  World& world = box.group->world();
  box.group = nullptr;
  return promise_later(
      a.env(), [](Napi::Env env) { return env.Undefined(); },
      [&world](SettlePromise settle) { world.finish(std::move(settle)); });
}

// (group, members: ranks of the world, number)
Napi::Value group_make(Arguments& a) {
  World& world = group(a)->world();
  const std::vector<int64_t> members = integers(a, "members");
  const auto id = static_cast<int>(a.integer("number"));
  return to_js(a.env(), std::make_shared<Group>(
                            world, std::vector<int>(members.begin(), members.end()), id));
}

// What a typed array holds now.
struct Bytes {
  const char* data;
  size_t size;
};
Bytes bytes(const Napi::Value& value) {
  if (!value.IsTypedArray()) throw Error(Code::value, "binding: \"data\" is not a typed array.");
  const Napi::TypedArray array = value.As<Napi::TypedArray>();
  if (array.ByteLength() == 0) return {nullptr, 0};
  return {static_cast<const char*>(array.ArrayBuffer().Data()) + array.ByteOffset(),
          array.ByteLength()};
}

Napi::Value copied(Napi::Env env, const std::vector<char>& data) {
  Napi::ArrayBuffer buffer = new_array_buffer(env, data.size());
  std::copy(data.begin(), data.end(), static_cast<char*>(buffer.Data()));
  return buffer;
}

// (group, typed array): those of all ranks
Napi::Value group_exchange(Arguments& a) {
  const GroupPtr g = group(a);
  const auto [data, size] = bytes(a.next());
  const auto gathered = std::make_shared<Group::Gathered>();
  return promise_later(
      a.env(), [gathered](Napi::Env env) { return copied(env, **gathered); },
      [&, data = data, size = size](SettlePromise settle) {
        g->gather(data, size,
                  [gathered, settle = std::move(settle)](std::optional<Error> error,
                                                         const Group::Gathered& all) {
                    *gathered = all;
                    settle(std::move(error));
                  });
      });
}

Napi::Value group_exchange_sync(Arguments& a) {
  const GroupPtr g = group(a);
  const auto [data, size] = bytes(a.next());
  const auto flight = std::make_shared<Flight>();
  const auto gathered = std::make_shared<Group::Gathered>();
  g->gather(data, size, [flight, gathered](std::optional<Error> error, const Group::Gathered& all) {
    *gathered = all;
    flight->end(std::move(error));
  });
  if (const auto error = flight->wait()) throw *error;
  return copied(a.env(), **gathered);
}

// Calls and bytes by collective.
Napi::Value group_traffic(Arguments& a) {
  Napi::Object o = Napi::Object::New(a.env());
  for (const auto& [name, t] : group(a)->traffic()) {
    Napi::Object entry = Napi::Object::New(a.env());
    entry.Set("calls", binding::to_js(a.env(), t.calls));
    entry.Set("sent", binding::to_js(a.env(), t.sent));
    entry.Set("received", binding::to_js(a.env(), t.received));
    o.Set(name, entry);
  }
  return o;
}

// Bytes to each rank.
Napi::Value group_sent_to(Arguments& a) {
  const GroupPtr g = group(a);
  Napi::Array sent = Napi::Array::New(a.env());
  for (int r = 0; r < g->size(); ++r)
    sent.Set(static_cast<uint32_t>(r),
             binding::to_js(a.env(), g->sent_to()[static_cast<size_t>(r)]));
  return sent;
}

Napi::Value all_reduce(Arguments& a) {
  const GroupPtr g = group(a);
  const Tensor t = a.output("x");
  ml::all_reduce(g, t, a.choice<Combine>("combine"));
  return a.undefined();
}

Napi::Value all_reduce_start(Arguments& a) {
  const GroupPtr g = group(a);
  const Tensor t = a.output("x");
  const auto combine = a.choice<Combine>("combine");
  return wrap(a.env(),
              PendingBox{{}, std::make_unique<PendingReduce>(start_all_reduce(g, t, combine))});
}

Napi::Value broadcast(Arguments& a) {
  const GroupPtr g = group(a);
  const Tensor t = a.output("x");
  ml::broadcast(g, t, static_cast<int>(a.integer("root")));
  return a.undefined();
}

// { tensor, pending }
Napi::Value arriving(Arguments& a, Arriving made) {
  Napi::Object o = Napi::Object::New(a.env());
  o.Set("tensor", binding::to_js(a.env(), made.tensor));
  o.Set("pending", wrap(a.env(), PendingBox{std::move(made.pending), nullptr}));
  return o;
}

Napi::Value all_gather(Arguments& a) {
  const GroupPtr g = group(a);
  const Tensor x = a.tensor("x");
  return arriving(a, start_all_gather(g, x, integers(a, "rows")));
}

Napi::Value all_to_all(Arguments& a) {
  const GroupPtr g = group(a);
  const Tensor x = a.tensor("x");
  const std::vector<int64_t> send = integers(a, "send");
  return arriving(a, start_all_to_all(g, x, send, integers(a, "receive")));
}

Napi::Value reduce_scatter(Arguments& a) {
  const GroupPtr g = group(a);
  const Tensor x = a.tensor("x");
  return binding::to_js(a.env(), ml::reduce_scatter(g, x, integers(a, "rows")));
}

Napi::Value pending_advance(Arguments& a) {
  if (const auto& reduce = unwrap<PendingBox>(a.next(), "pending").reduce) reduce->advance();
  return a.undefined();
}

Napi::Value pending_wait(Arguments& a) {
  PendingBox& box = unwrap<PendingBox>(a.next(), "pending");
  if (box.exchange) box.exchange.wait();
  if (box.reduce) box.reduce->wait();
  return a.undefined();
}

}  // namespace

void define_distributed(Napi::Object exports) {
  define<transport_library>(exports, "transportLibrary", "initDistributed");
  define<world_start>(exports, "worldStart", "initDistributed");
  define<world_finish>(exports, "worldFinish", "world.close");
  define<group_make>(exports, "groupMake", "world.split");
  define<group_exchange>(exports, "groupExchange", "world.exchange");
  define<group_exchange_sync>(exports, "groupExchangeSync", "world.exchangeSync");
  define<group_traffic>(exports, "groupTraffic", "world.traffic");
  define<group_sent_to>(exports, "groupSentTo", "world.sentTo");
  define<all_reduce>(exports, "allReduce", "world.allReduce");
  define<all_reduce_start>(exports, "allReduceStart", "world.allReduce");
  define<broadcast>(exports, "broadcast", "world.broadcast");
  define<all_gather>(exports, "allGather", "world.allGather");
  define<all_to_all>(exports, "allToAll", "world.allToAll");
  define<reduce_scatter>(exports, "reduceScatter", "world.reduceScatter");
  define<pending_advance>(exports, "pendingAdvance", "world.allReduce");
  define<pending_wait>(exports, "pendingWait", "world.allReduce");
}

}  // namespace ml::binding
