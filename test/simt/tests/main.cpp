// Runs the emulator's tests: simt_test [substring of a name].

#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "harness.h"

namespace ml::ML_CUDA_NAMESPACE {

LaunchTarget launch_target(CudaStream& stream) { return {stream.stream, Guard{stream.checks, 0}}; }
void launch_failed(CudaStream&, cudaError_t error, dim3, dim3, size_t) {
  std::fprintf(stderr, "launch: %s\n", cudaGetErrorName(error));
  std::exit(1);
}

}  // namespace ml::ML_CUDA_NAMESPACE

namespace simt_test {

void expect(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::_Exit(1);
}

namespace {

// Runs the test in a child; its stderr and whether it ended well.
bool run(const Test& test, std::string& output) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) return false;
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_ends[1], 2);
    close(pipe_ends[0]);
    test.run();
    std::_Exit(0);
  }
  close(pipe_ends[1]);
  char buffer[4096];
  ssize_t got;
  while ((got = read(pipe_ends[0], buffer, sizeof(buffer))) > 0)
    output.append(buffer, static_cast<size_t>(got));
  close(pipe_ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace
}  // namespace simt_test

int main(int argc, char** argv) {
  using namespace simt_test;
  const char* filter = argc > 1 ? argv[1] : "";
  int passed = 0, failed = 0;
  for (const auto* tests : {&primitive_tests(), &runtime_tests(), &count_tests(), &fault_tests()}) {
    for (const Test& test : *tests) {
      if (!std::strstr(test.name, filter)) continue;
      std::string output;
      const bool well = run(test, output);
      const bool ok = test.report ? !well && output.find(test.report) != std::string::npos : well;
      (ok ? passed : failed)++;
      if (!ok)
        std::printf("FAILED %s%s%s\n%s", test.name, test.report ? ", expected: " : "",
                    test.report ? test.report : "", output.c_str());
      if (argc > 1 && ok) std::printf("ok %s\n%s", test.name, output.c_str());
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
