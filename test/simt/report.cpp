// A kernel's mistake ends the process, since the state of the device is undefined after it. The
// report goes to stderr.

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "machine.h"

namespace simt {
namespace {

std::string order_name(const Settings& s) {
  switch (s.order) {
    case Settings::Order::forward: return "forward";
    case Settings::Order::reversed: return "reversed";
    default: return std::to_string(s.seed);
  }
}

[[noreturn]] void report(const Site* site, const char* format, va_list arguments) {
  char text[8192];
  std::vsnprintf(text, sizeof(text), format, arguments);
  const Machine& m = machine;
  std::string message = "simt: " + std::string(text) + "\n";
  if (m.call) {
    message += "  kernel " + m.kernel + ", launch " + std::to_string(m.launches) + ", block (" +
               std::to_string(m.block_index.x) + ", " + std::to_string(m.block_index.y) + ", " +
               std::to_string(m.block_index.z) + ")";
    if (m.current)
      message += ", thread (" + std::to_string(m.current->index.x) + ", " +
                 std::to_string(m.current->index.y) + ", " + std::to_string(m.current->index.z) +
                 ")";
    message += "\n";
  }
  if (site) message += "  at " + describe(*site) + "\n";
  message += "  order=" + order_name(m.settings) + "\n";
  std::fputs(message.c_str(), stderr);
  std::fflush(stderr);
  std::abort();
}

}  // namespace

void fault(Site site, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report(&site, format, arguments);
}

void fault_after(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report(nullptr, format, arguments);
}

}  // namespace simt
