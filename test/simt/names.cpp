// Names of kernels, from the symbol table of their binary: a kernel is known by its address only,
// and hidden symbols are not in the dynamic symbol table.

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <vector>

#include "machine.h"

namespace simt {
namespace {

struct Module {
  std::string path;
  uintptr_t load = 0;  // the address of the file's offset 0
  std::map<uintptr_t, std::string> functions;
};

Module* module_of(uintptr_t address) {
  struct Search {
    uintptr_t address;
    std::string path;
    uintptr_t load;
    bool found;
  } search{address, "", 0, false};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        auto& s = *static_cast<Search*>(out);
        for (int i = 0; i < info->dlpi_phnum; i++) {
          const auto& segment = info->dlpi_phdr[i];
          const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
          if (segment.p_type != PT_LOAD || s.address < begin ||
              s.address >= begin + segment.p_memsz)
            continue;
          s.path = info->dlpi_name[0] ? info->dlpi_name : "/proc/self/exe";
          s.load = info->dlpi_addr;
          s.found = true;
          return 1;
        }
        return 0;
      },
      &search);
  if (!search.found) return nullptr;
  static auto& modules = *new std::map<std::string, Module>;
  const auto [it, fresh] = modules.try_emplace(search.path);
  Module& module = it->second;
  if (!fresh) return &module;
  module.path = search.path;
  module.load = search.load;
  std::ifstream file(search.path, std::ios::binary);
  const auto read = [&](uint64_t at, void* to, size_t bytes) {
    file.seekg(static_cast<std::streamoff>(at));
    file.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes));
  };
  Elf64_Ehdr header{};
  read(0, &header, sizeof(header));
  if (!file || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return &module;
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  read(header.e_shoff, sections.data(), sections.size() * sizeof(Elf64_Shdr));
  for (const Elf64_Shdr& table : sections) {
    if (table.sh_type != SHT_SYMTAB) continue;
    std::vector<Elf64_Sym> symbols(table.sh_size / sizeof(Elf64_Sym));
    read(table.sh_offset, symbols.data(), table.sh_size);
    std::vector<char> names(sections[table.sh_link].sh_size + 1);
    read(sections[table.sh_link].sh_offset, names.data(), names.size() - 1);
    for (const Elf64_Sym& s : symbols)
      if (ELF64_ST_TYPE(s.st_info) == STT_FUNC && s.st_value != 0)
        module.functions[search.load + s.st_value] = &names[s.st_name];
  }
  return &module;
}

// "void ml::simt::(anonymous namespace)::bag_kernel<float, 4>(Guard, …)" → "bag_kernel<float, 4>"
std::string short_name(const std::string& full) {
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i < full.size(); i++) {
    const char c = full[i];
    if (full.compare(i, 21, "(anonymous namespace)") == 0) {
      i += 20;
      continue;
    }
    if (c == '<') depth++;
    if (c == '>') depth--;
    if (depth > 0) continue;
    if (c == '(') return full.substr(begin, i - begin);
    if (c == ' ' || c == ':') begin = i + 1;
  }
  return full.substr(begin);
}

std::string demangle(const std::string& symbol) {
  int status = 0;
  char* text = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  std::string name = status == 0 ? text : symbol;
  std::free(text);
  return name;
}

}  // namespace

std::string kernel_name(const void* function) {
  static auto& names = *new std::map<const void*, std::string>;
  const auto found = names.find(function);
  if (found != names.end()) return found->second;
  std::string name = "kernel";
  const uintptr_t address = reinterpret_cast<uintptr_t>(function);
  if (const Module* module = module_of(address)) {
    const auto it = module->functions.find(address);
    if (it != module->functions.end()) name = short_name(demangle(it->second));
  }
  return names[function] = name;
}

std::string bare_name(const std::string& name) { return name.substr(0, name.find('<')); }

std::string describe(const Site& site) {
  if (site.site.file) return std::string(site.site.file) + ":" + std::to_string(site.site.line);
  const uintptr_t pc = reinterpret_cast<uintptr_t>(site.pc) - 1;  // within the call
  const Module* module = module_of(pc);
  if (!module) return "an unknown site";
  char offset[32];
  std::snprintf(offset, sizeof(offset), "0x%zx", static_cast<size_t>(pc - module->load));
  std::string text = module->path + "+" + offset;
  auto function = module->functions.upper_bound(pc);
  if (function != module->functions.begin())
    text = short_name(demangle(std::prev(function)->second)) + ", " + text;
  char path[4096];
  const std::string file = realpath(module->path.c_str(), path) ? path : module->path;
  if (FILE* lines =
          popen(("addr2line -e '" + file + "' " + offset + " 2>/dev/null").c_str(), "r")) {
    char line[1024];
    if (std::fgets(line, sizeof(line), lines) && line[0] != '?')
      text = std::string(line, std::strcspn(line, "\n")) + " (" + text + ")";
    pclose(lines);
  }
  return text;
}

}  // namespace simt
