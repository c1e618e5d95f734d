#include "cuda/driver.h"

#include <dirent.h>

#include <algorithm>
#include <cstdio>
#include <memory>

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// The first 4 KB of a file, or "".
std::string read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "r"),
                                                             std::fclose);
  std::string text(4096, '\0');
  text.resize(file ? std::fread(text.data(), 1, text.size(), file.get()) : 0);
  return text;
}

// The word of a text that begins with a digit and has a dot, such as 535.104.05.
std::string version_in(const std::string& text) {
  const char* const spaces = " \t\n";
  for (size_t at = text.find_first_not_of(spaces); at != std::string::npos;) {
    const size_t end = std::min(text.find_first_of(spaces, at), text.size());
    const std::string word = text.substr(at, end - at);
    if (word[0] >= '0' && word[0] <= '9' && word.find('.') != std::string::npos) return word;
    at = text.find_first_not_of(spaces, end);
  }
  return "";
}

// "Model: \t NVIDIA H100" of a GPU's information
std::string model_in(const std::string& text) {
  const size_t label = text.find("Model:");
  if (label == std::string::npos) return "";
  const size_t at = text.find_first_not_of(" \t", label + 6);
  return at == std::string::npos ? "" : text.substr(at, text.find('\n', at) - at);
}

std::string models_in(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> list(opendir(folder.c_str()), closedir);
  std::string models;
  while (const dirent* entry = list ? readdir(list.get()) : nullptr) {
    const std::string model = model_in(read_file(folder + "/" + entry->d_name + "/information"));
    if (!model.empty()) models += (models.empty() ? "" : ", ") + model;
  }
  return models;
}

}  // namespace

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

int needed_driver(int runtime) { return runtime >= 13000 ? 580 : 525; }

std::string loaded_driver_version(const std::string& system) {
  return version_in(read_file(system + "/proc/driver/nvidia/version"));
}

std::string loaded_driver(const std::string& system) {
  const std::string version = loaded_driver_version(system);
  if (version.empty()) return "";
  const std::string models = models_in(system + "/proc/driver/nvidia/gpus");
  return (models.empty() ? "" : models + " with ") + "driver " + version;
}

std::string too_old_reason(const std::string& gpu, const std::string& loaded_version, int driver) {
  return gpu + " is too old: must be sm_75 (Turing) or newer (" +
         (loaded_version.empty() ? "" : "driver " + loaded_version + ", ") +
         "libcuda.so.1 for CUDA " + version_text(driver) + ")";
}

std::string no_device_reason(cudaError_t status, int runtime, int driver,
                             const std::string& loaded) {
  const std::string library = driver == 0
                                  ? "libcuda.so.1 was not found"
                                  : "the driver's libcuda.so.1 is for CUDA " + version_text(driver);
  const std::string found = (loaded.empty() ? "" : "found " + loaded + "; ") + library;
  const std::string wanted = "the binary's CUDA " + version_text(runtime) + " needs driver " +
                             std::to_string(needed_driver(runtime)) + " or newer";
  if (status == cudaErrorInsufficientDriver)
    return "no usable NVIDIA driver (" + wanted + "; " + found + ")";
  if (status == cudaSuccess || status == cudaErrorNoDevice)
    return "no NVIDIA GPU (the driver is there: " + found + ")";
  return std::string("cudaGetDeviceCount: ") + cudaGetErrorString(status) + " (" +
         cudaGetErrorName(status) + "; " + wanted + "; " + found + ")";
}

}  // namespace ml::ML_CUDA_NAMESPACE
