#include "cpu/container.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace ml::cpu {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;
// Not a C++ stream: its locales would be a tenth of the binary.
File open_file(const std::string& path) { return {std::fopen(path.c_str(), "r"), std::fclose}; }

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  const File file = open_file(path);
  if (!file) return lines;
  std::string line;
  for (int c = std::fgetc(file.get()); c != EOF; c = std::fgetc(file.get())) {
    if (c != '\n') {
      line.push_back(static_cast<char>(c));
      continue;
    }
    lines.push_back(std::move(line));
    line.clear();
  }
  if (!line.empty()) lines.push_back(std::move(line));
  return lines;
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == at)
      parts.emplace_back();
    else
      parts.back().push_back(c);
  }
  return parts;
}

bool contains(const std::vector<std::string>& list, const char* item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

// The first number of a file; negative where there is none: "max", or no file.
double number_in(const std::string& path, double* second = nullptr) {
  double first = -1;
  if (const File file = open_file(path)) {
    char text[64] = {};
    if (!std::fgets(text, sizeof(text), file.get())) return -1;
    char* end = text;
    first = std::strtod(text, &end);
    if (end == text) return -1;
    if (second) *second = std::strtod(end, nullptr);
  }
  return first;
}

void limit_memory(ContainerLimits& limits, double bytes) {
  // version 1 says "none" with a number near 2^63
  if (bytes >= 0 && bytes < 9.0e18)
    limits.memory = std::min(limits.memory, static_cast<int64_t>(bytes));
}

void limit_cores(ContainerLimits& limits, double quota, double period) {
  if (quota > 0 && period > 0) limits.cores = std::min(limits.cores, quota / period);
}

// Where a hierarchy of control groups is mounted, and which group of it is at that place.
struct Mount {
  std::string point, group;
};

// "36 35 98:0 /group /mount/point rw,noatime master:1 - cgroup2 cgroup rw,memory"
// `controller` is of version 1; empty for version 2.
bool find_mount(const std::vector<std::string>& mounts, const std::string& controller,
                Mount& found) {
  for (const std::string& line : mounts) {
    const std::vector<std::string> words = split(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.size() < 5 || words.end() - dash < 4) continue;
    const bool fits = controller.empty() ? dash[1] == "cgroup2"
                                         : dash[1] == "cgroup" &&
                                               contains(split(dash[3], ','), controller.c_str());
    if (!fits) continue;
    found = {words[4], words[3] == "/" ? "" : words[3]};
    return true;
  }
  return false;
}

// Calls visit(folder) for this process's group and for each around it that can be seen.
template <class Visit>
void each_group(const std::string& root, const Mount& mount, std::string group, Visit visit) {
  if (group.compare(0, mount.group.size(), mount.group) == 0) group.erase(0, mount.group.size());
  while (!group.empty() && group.back() == '/') group.pop_back();
  for (;;) {
    visit(root + mount.point + group);
    if (group.empty()) return;
    group.erase(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
}

}  // namespace

ContainerLimits container_limits(const std::string& root) {
  ContainerLimits limits;
  const std::vector<std::string> mounts = lines_of(root + "/proc/self/mountinfo");
  for (const std::string& line : lines_of(root + "/proc/self/cgroup")) {
    // "0::/group", or "4:cpu,cpuacct:/group"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::vector<std::string> controllers =
        split(line.substr(first + 1, second - first - 1), ',');
    const std::string group = line.substr(second + 1);
    Mount mount;
    if (controllers.front().empty() && find_mount(mounts, "", mount))
      each_group(root, mount, group, [&](const std::string& folder) {
        limit_memory(limits, number_in(folder + "/memory.max"));
        double period = 0;
        const double quota = number_in(folder + "/cpu.max", &period);
        limit_cores(limits, quota, period);
      });
    if (contains(controllers, "memory") && find_mount(mounts, "memory", mount))
      each_group(root, mount, group, [&](const std::string& folder) {
        limit_memory(limits, number_in(folder + "/memory.limit_in_bytes"));
      });
    if (contains(controllers, "cpu") && find_mount(mounts, "cpu", mount))
      each_group(root, mount, group, [&](const std::string& folder) {
        limit_cores(limits, number_in(folder + "/cpu.cfs_quota_us"),
                    number_in(folder + "/cpu.cfs_period_us"));
      });
  }
  return limits;
}

}  // namespace ml::cpu
