#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>

#include "simt/control.h"
#include "simt/runtime.h"

namespace simt {
namespace {

std::mutex mutex;

[[noreturn]] void wrong(const std::string& setting) {
  std::fprintf(stderr,
               "MEMORY_LAYERS_SIMT: \"%s\" is not one of order=forward, order=reversed, "
               "order=SEED, compute=N, multiprocessors=N, devices=N, memory=BYTES, "
               "blocks=cached, mma=truncating\n",
               setting.c_str());
  std::exit(1);
}

Settings from_environment() {
  Settings s;
  const char* text = std::getenv("MEMORY_LAYERS_SIMT");
  std::string rest = text ? text : "";
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string setting = rest.substr(0, comma);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    const size_t equals = setting.find('=');
    if (equals == std::string::npos) wrong(setting);
    const std::string name = setting.substr(0, equals), value = setting.substr(equals + 1);
    if (name == "order" && value == "forward") {
      s.order = Settings::Order::forward;
    } else if (name == "order" && value == "reversed") {
      s.order = Settings::Order::reversed;
    } else if (name == "blocks" && value == "cached") {
      s.cached_blocks = true;
    } else if (name == "mma" && value == "truncating") {
      s.truncating_mma = true;
    } else {
      char* end = nullptr;
      const unsigned long long number = std::strtoull(value.c_str(), &end, 10);
      if (value.empty() || *end != '\0') wrong(setting);
      if (name == "order") {
        s.order = Settings::Order::random;
        s.seed = number;
      } else if (name == "compute") {
        s.compute = static_cast<int>(number);
      } else if (name == "multiprocessors") {
        s.multiprocessors = static_cast<int>(number);
      } else if (name == "devices") {
        s.devices = static_cast<int>(number);
      } else if (name == "memory") {
        s.memory = number;
      } else {
        wrong(setting);
      }
    }
  }
  return s;
}

Settings& current() {
  static Settings& s = *new Settings(from_environment());
  return s;
}

}  // namespace

Settings settings() {
  const std::lock_guard hold(mutex);
  return current();
}

bool cached_blocks() { return settings().cached_blocks; }

void set(const Settings& settings) {
  const std::lock_guard hold(mutex);
  current() = settings;
}

}  // namespace simt
