// The CUDA driver's calls, answered by the CPU: its device, modules, streams, graphs and events. What is wrong on a device is an error here, too.
#include "stand_in.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

struct dim3 {
  unsigned x, y, z;
};

namespace {

using namespace standin;

struct Graph {
  std::vector<std::function<int()>> steps;
  bool isInvalid = false;
};
struct Stream {
  Graph* capturing = nullptr;
};
struct Module {
  void* library;
};
struct Function {
  std::function<void()>* (*bind)(void**);
  const char* (*run)(const std::function<void()>&, dim3, dim3);
  /** Of its __launch_bounds__. */
  unsigned threadsMax;
};
struct Event {
  std::chrono::steady_clock::time_point at;
};

int sticky = success;
std::string stickyMessage;
/** Who has retained the one context. */
int users = 0;
size_t launched = 0;
/** What some stream records. */
Graph* captured = nullptr;

size_t elfBytes(const void* image) {
  auto header = static_cast<const Elf64_Ehdr*>(image);
  return header->e_shoff + size_t(header->e_shnum) * header->e_shentsize;
}

/** Where the stream is waited for, memory is looked at. */
int waited() {
  if (isCapturing()) return captureUnsupported;
  return sticky != success ? sticky : checkMemory();
}

}  // namespace

size_t standin::setting(const char* name, size_t fallback) {
  const char* value = getenv(name);
  return value == nullptr || *value == 0 ? fallback : strtoull(value, nullptr, 10);
}

/** Memory, modules and waiting are for other times: a call that is not allowed while a stream is captured spoils the graph. */
bool standin::isCapturing() {
  if (captured == nullptr) return false;
  return captured->isInvalid = true;
}

int standin::failure() { return sticky; }

int standin::fail(int result, const std::string& message) {
  if (sticky == success) {
    sticky = result;
    stickyMessage = message;
  }
  return sticky;
}

int standin::enqueue(uint64_t stream, std::function<int()> work) {
  if (sticky != success) return sticky;
  auto* target = reinterpret_cast<Stream*>(stream);
  if (target != nullptr && target->capturing != nullptr) {
    target->capturing->steps.push_back(std::move(work));
    return success;
  }
  return work();
}

EXPORT int cuInit(unsigned) { return setting("STAND_IN_DEVICES", 1) == 0 ? noDevice : success; }
EXPORT int cuDriverGetVersion(int* version) { return *version = int(setting("STAND_IN_DRIVER", 12090)), success; }
EXPORT int cuDeviceGetCount(int* count) { return *count = int(setting("STAND_IN_DEVICES", 1)), success; }
EXPORT int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal == 0 ? success : invalidDevice; }
EXPORT int cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "stand-in on the CPU"), success; }
EXPORT int cuDeviceGetUuid_v2(void* uuid, int) { return memset(uuid, 7, 16), success; }
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int) {
  // Capability 9.0, one multiprocessor, 1 GHz of a bus of 64 bits.
  *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 16 ? 1 : attribute == 36 ? 1000000 : attribute == 37 ? 64 : 0;
  return success;
}
EXPORT int cuDevicePrimaryCtxRetain(uint64_t* context, int) {
  // In tests an error ends with the context that it was provoked in; a device that was told to be lost stays lost, as a real one does.
  if (setting("STAND_IN_LOST_AFTER", 0) == 0) sticky = success;
  users++;
  return *context = 1, success;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int) {
  if (--users > 0) return success;
  releaseMemory();
  return success;
}
EXPORT int cuCtxSetCurrent(uint64_t) { return success; }

EXPORT int cuGetErrorName(int result, const char** name) {
  static std::string text;
  text = "CUDA_ERROR_" + std::to_string(result);
  return *name = text.c_str(), success;
}
EXPORT int cuGetErrorString(int result, const char** text) {
  static std::string message;
  message = result == sticky ? stickyMessage : result == outOfMemory ? "out of memory" : result == noDevice ? "no device" : "result " + std::to_string(result);
  return *text = message.c_str(), success;
}

EXPORT int cuModuleLoadData(uint64_t* module, const void* image) {
  if (isCapturing()) return captureUnsupported;
  if (memcmp(image, ELFMAG, SELFMAG) != 0) return invalidImage;
  int file = memfd_create("kernels", 0);
  size_t bytes = elfBytes(image);
  if (file < 0 || write(file, image, bytes) != ssize_t(bytes)) return invalidImage;
  std::string path = "/proc/self/fd/" + std::to_string(file);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return invalidImage;
  // The descriptor stays open: the loader knows libraries by their path, and this one must not come again.
  *module = reinterpret_cast<uint64_t>(new Module{library});
  return success;
}
EXPORT int cuModuleUnload(uint64_t module) {
  if (isCapturing()) return captureUnsupported;
  auto* known = reinterpret_cast<Module*>(module);
  dlclose(known->library);
  delete known;
  return success;
}
EXPORT int cuModuleGetFunction(uint64_t* function, uint64_t module, const char* name) {
  void* library = reinterpret_cast<Module*>(module)->library;
  void* bind = dlsym(library, (std::string("standInBind_") + name).c_str());
  void* run = dlsym(library, "standInRun");
  auto threads = static_cast<unsigned*>(dlsym(library, (std::string("standInThreads_") + name).c_str()));
  if (bind == nullptr || run == nullptr || threads == nullptr) return notFound;
  *function = reinterpret_cast<uint64_t>(new Function{reinterpret_cast<decltype(Function::bind)>(bind), reinterpret_cast<decltype(Function::run)>(run), *threads});
  return success;
}
EXPORT int cuLaunchKernel(uint64_t function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, uint64_t stream, void** parameters, void**) {
  auto* known = reinterpret_cast<Function*>(function);
  // What every device has room for.
  bool fits = gx > 0 && gy > 0 && gz > 0 && gx <= 0x7fffffffu && gy <= 65535 && gz <= 65535 && bx > 0 && by > 0 && bz > 0 && bz <= 64;
  if (!fits || uint64_t(bx) * by * bz > known->threadsMax) return invalidValue;
  std::shared_ptr<std::function<void()>> bound(known->bind(parameters));
  return enqueue(stream, [=] {
    size_t limit = setting("STAND_IN_LOST_AFTER", 0);
    if (limit > 0 && ++launched > limit) return fail(illegalAddress, "the device was told to fail");
    const char* problem = known->run(*bound, {gx, gy, gz}, {bx, by, bz});
    return problem == nullptr ? int(success) : fail(launchFailed, problem);
  });
}

EXPORT int cuStreamCreate(uint64_t* stream, unsigned) { return *stream = reinterpret_cast<uint64_t>(new Stream), success; }
EXPORT int cuStreamDestroy_v2(uint64_t stream) { return delete reinterpret_cast<Stream*>(stream), success; }
EXPORT int cuStreamSynchronize(uint64_t) { return waited(); }
EXPORT int cuStreamBeginCapture_v2(uint64_t stream, int mode) {
  if (captured != nullptr) return illegalState;
  if (stream == 0 || mode < 0 || mode > 2) return invalidValue;
  captured = reinterpret_cast<Stream*>(stream)->capturing = new Graph;
  return success;
}
EXPORT int cuStreamEndCapture(uint64_t stream, uint64_t* graph) {
  auto* known = reinterpret_cast<Stream*>(stream);
  if (known->capturing == nullptr) return illegalState;
  bool isInvalid = known->capturing->isInvalid;
  if (isInvalid) delete known->capturing;
  *graph = isInvalid ? 0 : reinterpret_cast<uint64_t>(known->capturing);
  captured = known->capturing = nullptr;
  return isInvalid ? captureInvalidated : success;
}
EXPORT int cuGraphInstantiateWithFlags(uint64_t* executable, uint64_t graph, unsigned long long) {
  *executable = reinterpret_cast<uint64_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return success;
}
EXPORT int cuGraphDestroy(uint64_t graph) { return delete reinterpret_cast<Graph*>(graph), success; }
EXPORT int cuGraphExecDestroy(uint64_t executable) { return delete reinterpret_cast<Graph*>(executable), success; }
EXPORT int cuGraphLaunch(uint64_t executable, uint64_t stream) {
  auto* graph = reinterpret_cast<Graph*>(executable);
  return enqueue(stream, [=] {
    for (auto& step : graph->steps)
      if (int result = step()) return result;
    return int(success);
  });
}

EXPORT int cuEventCreate(uint64_t* event, unsigned) { return *event = reinterpret_cast<uint64_t>(new Event), success; }
EXPORT int cuEventDestroy_v2(uint64_t event) { return delete reinterpret_cast<Event*>(event), success; }
EXPORT int cuEventRecord(uint64_t event, uint64_t stream) {
  return enqueue(stream, [=] { return reinterpret_cast<Event*>(event)->at = std::chrono::steady_clock::now(), success; });
}
EXPORT int cuEventSynchronize(uint64_t) { return waited(); }
EXPORT int cuEventElapsedTime(float* ms, uint64_t start, uint64_t end) {
  auto passed = reinterpret_cast<Event*>(end)->at - reinterpret_cast<Event*>(start)->at;
  return *ms = std::chrono::duration<float, std::milli>(passed).count(), success;
}
