// The run-time compiler's calls, answered by the host's: a kernel becomes a shared library for the CPU.
#include "stand_in.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <regex>
#include <sstream>
#include <unistd.h>
#include <vector>

namespace {

struct Program {
  std::string source, log, binary;
};

enum { compilationError = 6, ok = 0, internalError = 11 };

/** For each kernel what binds its arguments, and how many threads it is for: the driver knows both from the binary, the stand-in from this. */
std::string binders(const std::string& source) {
  static const std::regex kernel(R"(extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\(([^)]*)\)\s+)?(\w+)\s*\()");
  std::string text = "\nextern \"C\" const char* standInRun(const std::function<void()>& work, dim3 grid, dim3 block) { return emu::run(work, grid, block); }\n";
  for (std::sregex_iterator i(source.begin(), source.end(), kernel), end; i != end; ++i) {
    std::string name = (*i)[2], threads = (*i)[1].matched ? (*i)[1].str() : "1024";
    text += "extern \"C\" { unsigned standInThreads_" + name + " = " + threads + "; }\n";
    text += "extern \"C\" std::function<void()>* standInBind_" + name + "(void** p) { return emu::bind(" + name + ", p); }\n";
  }
  return text;
}

std::string readFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

}  // namespace

EXPORT int nvrtcVersion(int* major, int* minor) { return *major = 12, *minor = 9, ok; }
EXPORT const char* nvrtcGetErrorString(int result) { return result == compilationError ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR_INTERNAL_ERROR"; }
EXPORT int nvrtcGetNumSupportedArchs(int* count) { return *count = 1, ok; }
EXPORT int nvrtcGetSupportedArchs(int* architectures) { return *architectures = 90, ok; }
EXPORT int nvrtcCreateProgram(uint64_t* program, const char* source, const char*, int, const void*, const void*) {
  *program = reinterpret_cast<uint64_t>(new Program{source, "", ""});
  return ok;
}
EXPORT int nvrtcCompileProgram(uint64_t handle, int count, const char** options) {
  auto* program = reinterpret_cast<Program*>(handle);
  char folder[] = "/tmp/preamble-kernels-XXXXXX";
  if (mkdtemp(folder) == nullptr) return internalError;
  std::string base = folder;
  std::ofstream(base + "/kernels.cc") << "#include \"" STAND_IN_FOLDER "/cuda_on_cpu.h\"\n" << program->source << binders(program->source);
  std::string command = "g++ -std=c++17 -O2 -fPIC -shared -fno-strict-aliasing -ffp-contract=off -U_FORTIFY_SOURCE -w -fno-gnu-unique";
#ifdef STAND_IN_SANITIZERS
  command += " -O1 " STAND_IN_SANITIZERS;
#endif
  for (int i = 0; i < count; i++)
    if (strncmp(options[i], "-D", 2) == 0) command += std::string(" ") + options[i];
  command += " -o " + base + "/kernels.so " + base + "/kernels.cc 2> " + base + "/log";
  int status = system(command.c_str());
  program->log = readFile(base + "/log");
  if (status == 0) program->binary = readFile(base + "/kernels.so");
  for (const char* name : {"/kernels.cc", "/kernels.so", "/log"}) unlink((base + name).c_str());
  rmdir(folder);
  return status == 0 ? ok : compilationError;
}
EXPORT int nvrtcGetProgramLogSize(uint64_t program, size_t* bytes) { return *bytes = reinterpret_cast<Program*>(program)->log.size() + 1, ok; }
EXPORT int nvrtcGetProgramLog(uint64_t program, char* log) { return strcpy(log, reinterpret_cast<Program*>(program)->log.c_str()), ok; }
EXPORT int nvrtcGetCUBINSize(uint64_t program, size_t* bytes) { return *bytes = reinterpret_cast<Program*>(program)->binary.size(), ok; }
EXPORT int nvrtcGetCUBIN(uint64_t program, char* binary) {
  auto& content = reinterpret_cast<Program*>(program)->binary;
  return memcpy(binary, content.data(), content.size()), ok;
}
EXPORT int nvrtcGetPTXSize(uint64_t program, size_t* bytes) { return nvrtcGetCUBINSize(program, bytes); }
EXPORT int nvrtcGetPTX(uint64_t program, char* text) { return nvrtcGetCUBIN(program, text); }
EXPORT int nvrtcDestroyProgram(uint64_t* program) { return delete reinterpret_cast<Program*>(*program), ok; }
