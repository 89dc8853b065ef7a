// The CUDA driver's calls, answered by the CPU: device memory is host memory with guard zones, filled with not-a-numbers.
#include "stand_in.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <map>
#include <memory>
#include <set>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

struct dim3 {
  unsigned x, y, z;
};

namespace {

using namespace standin;

constexpr size_t guardBytes = 256, pageBytes = 4096;
/** A not-a-number that no arithmetic makes: guard zones and fresh memory hold it. */
constexpr uint32_t poison = 0x7fc0a5a5;
constexpr size_t totalBytes = size_t(4) << 30;

struct Graph {
  std::vector<std::function<int()>> steps;
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
};
struct Event {
  std::chrono::steady_clock::time_point at;
};

std::map<uint64_t, size_t> allocations;
/** Those of them that are memory of another process. */
std::set<uint64_t> opened;
size_t usedBytes = 0;
int sticky = success;
std::string stickyMessage;
/** Who has retained the one context. */
int users = 0;
size_t launched = 0;

size_t setting(const char* name, size_t fallback) {
  const char* value = getenv(name);
  return value == nullptr || *value == 0 ? fallback : strtoull(value, nullptr, 10);
}

void fill(uint8_t* at, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) at[i] = uint8_t(poison >> (8 * (i % 4)));
}

bool isFilled(const uint8_t* at, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (at[i] != uint8_t(poison >> (8 * (i % 4)))) return false;
  return true;
}

/** AddressSanitizer ends the process at the first look into a guard zone; without it they are looked at later. */
void lockGuards(uint64_t address, size_t bytes) {
  ASAN_POISON_MEMORY_REGION(reinterpret_cast<void*>(address - guardBytes), guardBytes);
  ASAN_POISON_MEMORY_REGION(reinterpret_cast<void*>(address + bytes), guardBytes);
}

size_t wholeBytes(size_t bytes) { return (bytes + 2 * guardBytes + pageBytes - 1) / pageBytes * pageBytes; }

void release(uint64_t address, size_t bytes) {
  uint8_t* block = reinterpret_cast<uint8_t*>(address) - guardBytes;
  ASAN_UNPOISON_MEMORY_REGION(block, wholeBytes(bytes));
  if (opened.erase(address) > 0) munmap(block, wholeBytes(bytes));
  else free(block);
}

int checkGuards(uint64_t address, size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  return (void)address, (void)bytes, success;
#endif
  const uint8_t* data = reinterpret_cast<uint8_t*>(address);
  bool before = isFilled(data - guardBytes, guardBytes), after = isFilled(data + bytes, guardBytes);
  if (before && after) return success;
  return fail(illegalAddress, std::string("memory was written ") + (before ? "behind" : "before") + " an allocation of " + std::to_string(bytes) + " bytes");
}

int checkAll() {
  if (sticky != success) return sticky;
  for (auto& [address, bytes] : allocations)
    if (int result = checkGuards(address, bytes)) return result;
  return success;
}

/** Whether a range lies in one allocation; a copy that does not is what a device would refuse. */
bool isInside(uint64_t address, size_t bytes) {
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return false;
  --next;
  return address + bytes <= next->first + next->second;
}

size_t elfBytes(const void* image) {
  auto header = static_cast<const Elf64_Ehdr*>(image);
  return header->e_shoff + size_t(header->e_shnum) * header->e_shentsize;
}

}  // namespace

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
EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = setting("STAND_IN_BYTES", totalBytes), success; }
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
  for (auto& [address, bytes] : allocations) release(address, bytes);
  allocations.clear();
  usedBytes = 0;
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

EXPORT int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  if (sticky != success) return sticky;
  if (bytes == 0) return invalidValue;
  if (usedBytes + bytes > setting("STAND_IN_BYTES", totalBytes)) return outOfMemory;
  void* block = nullptr;
  if (posix_memalign(&block, pageBytes, wholeBytes(bytes)) != 0) return outOfMemory;
  fill(static_cast<uint8_t*>(block), bytes + 2 * guardBytes);
  // The guard behind begins at its own phase of the pattern.
  fill(static_cast<uint8_t*>(block) + guardBytes + bytes, guardBytes);
  *address = reinterpret_cast<uint64_t>(block) + guardBytes;
  allocations[*address] = bytes;
  lockGuards(*address, bytes);
  usedBytes += bytes;
  return success;
}
EXPORT int cuMemFree_v2(uint64_t address) {
  auto found = allocations.find(address);
  if (found == allocations.end()) return invalidValue;
  int result = checkGuards(address, found->second);
  usedBytes -= found->second;
  release(address, found->second);
  allocations.erase(found);
  return result;
}

/** A handle names the process, its descriptor of shared memory, and the bytes. */
struct SharedMemory {
  int process, descriptor;
  size_t bytes;
};

EXPORT int cuIpcGetMemHandle(void* handle, uint64_t address) {
  auto found = allocations.find(address);
  if (setting("STAND_IN_WITHOUT_IPC", 0) != 0) return notSupported;
  if (found == allocations.end()) return invalidValue;
  // The pages become those of a file in memory, at the same place and with what they hold.
  size_t bytes = found->second, whole = wholeBytes(bytes);
  void* block = reinterpret_cast<void*>(address - guardBytes);
  ASAN_UNPOISON_MEMORY_REGION(block, whole);
  int file = memfd_create("shared", 0);
  if (file < 0 || write(file, block, whole) != ssize_t(whole)) return outOfMemory;
  if (mmap(block, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) return outOfMemory;
  lockGuards(address, bytes);
  SharedMemory shared = {getpid(), file, bytes};
  memset(handle, 0, 64);
  return memcpy(handle, &shared, sizeof(shared)), success;
}
struct Handle {
  char reserved[64];
};
EXPORT int cuIpcOpenMemHandle_v2(uint64_t* address, Handle handle, unsigned) {
  SharedMemory shared;
  memcpy(&shared, &handle, sizeof(shared));
  if (setting("STAND_IN_WITHOUT_IPC", 0) != 0) return notSupported;
  // As on a device: a process has no need to open what is its own.
  if (shared.process == getpid()) return invalidValue;
  int file = open(("/proc/" + std::to_string(shared.process) + "/fd/" + std::to_string(shared.descriptor)).c_str(), O_RDWR);
  if (file < 0) return invalidValue;
  void* block = mmap(nullptr, wholeBytes(shared.bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (block == MAP_FAILED) return invalidValue;
  *address = reinterpret_cast<uint64_t>(block) + guardBytes;
  allocations[*address] = shared.bytes;
  opened.insert(*address);
  lockGuards(*address, shared.bytes);
  return success;
}
EXPORT int cuIpcCloseMemHandle(uint64_t address) {
  auto found = allocations.find(address);
  if (found == allocations.end() || opened.count(address) == 0) return invalidValue;
  release(address, found->second);
  allocations.erase(found);
  return success;
}
EXPORT int cuMemGetInfo_v2(size_t* free, size_t* total) {
  *total = setting("STAND_IN_BYTES", totalBytes);
  *free = *total - usedBytes;
  return success;
}
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, uint64_t stream) {
  if (!isInside(to, bytes)) return invalidValue;
  return enqueue(stream, [=] { return memcpy(reinterpret_cast<void*>(to), from, bytes), success; });
}
EXPORT int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, uint64_t stream) {
  if (!isInside(from, bytes)) return invalidValue;
  return enqueue(stream, [=] { return memcpy(to, reinterpret_cast<void*>(from), bytes), success; });
}
EXPORT int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, uint64_t stream) {
  if (!isInside(to, bytes)) return invalidValue;
  return enqueue(stream, [=] { return memset(reinterpret_cast<void*>(to), value, bytes), success; });
}

EXPORT int cuModuleLoadData(uint64_t* module, const void* image) {
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
  auto* known = reinterpret_cast<Module*>(module);
  dlclose(known->library);
  delete known;
  return success;
}
EXPORT int cuModuleGetFunction(uint64_t* function, uint64_t module, const char* name) {
  void* library = reinterpret_cast<Module*>(module)->library;
  void* bind = dlsym(library, (std::string("standInBind_") + name).c_str());
  void* run = dlsym(library, "standInRun");
  if (bind == nullptr || run == nullptr) return notFound;
  *function = reinterpret_cast<uint64_t>(new Function{reinterpret_cast<decltype(Function::bind)>(bind), reinterpret_cast<decltype(Function::run)>(run)});
  return success;
}
EXPORT int cuLaunchKernel(uint64_t function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, uint64_t stream, void** parameters, void**) {
  auto* known = reinterpret_cast<Function*>(function);
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
EXPORT int cuStreamSynchronize(uint64_t) { return checkAll(); }
EXPORT int cuStreamBeginCapture_v2(uint64_t stream, int) {
  reinterpret_cast<Stream*>(stream)->capturing = new Graph;
  return success;
}
EXPORT int cuStreamEndCapture(uint64_t stream, uint64_t* graph) {
  auto* known = reinterpret_cast<Stream*>(stream);
  if (known->capturing == nullptr) return captureInvalidated;
  *graph = reinterpret_cast<uint64_t>(known->capturing);
  known->capturing = nullptr;
  return success;
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
EXPORT int cuEventSynchronize(uint64_t) { return checkAll(); }
EXPORT int cuEventElapsedTime(float* ms, uint64_t start, uint64_t end) {
  auto passed = reinterpret_cast<Event*>(end)->at - reinterpret_cast<Event*>(start)->at;
  return *ms = std::chrono::duration<float, std::milli>(passed).count(), success;
}
