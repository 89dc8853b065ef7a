// The device's memory, by the CPU: host memory with guard zones, filled with not-a-numbers; and what other processes open of it.
#include "stand_in.h"
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <set>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace {

using namespace standin;

constexpr size_t guardBytes = 256, pageBytes = 4096;
/** A not-a-number that no arithmetic makes: guard zones and fresh memory hold it. */
constexpr uint32_t poison = 0x7fc0a5a5;
constexpr size_t totalBytes = size_t(4) << 30;

std::map<uint64_t, size_t> allocations;
/** Those of them that are memory of another process. */
std::set<uint64_t> opened;
size_t usedBytes = 0;

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

/** Whether a range lies in one allocation; a copy that does not is what a device would refuse. */
bool isInside(uint64_t address, size_t bytes) {
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return false;
  --next;
  return address + bytes <= next->first + next->second;
}

}  // namespace

int standin::checkMemory() {
  for (auto& [address, bytes] : allocations)
    if (int result = checkGuards(address, bytes)) return result;
  return success;
}

void standin::releaseMemory() {
  for (auto& [address, bytes] : allocations) release(address, bytes);
  allocations.clear();
  usedBytes = 0;
}

EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = setting("STAND_IN_BYTES", totalBytes), success; }
EXPORT int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  if (isCapturing()) return captureUnsupported;
  if (int result = failure()) return result;
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
  if (isCapturing()) return captureUnsupported;
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
  if (isCapturing()) return captureUnsupported;
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
  if (isCapturing()) return captureUnsupported;
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
  if (isCapturing()) return captureUnsupported;
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
  if (isCapturing()) return captureUnsupported;
  if (!isInside(to, bytes)) return invalidValue;
  return enqueue(stream, [=] { return memcpy(reinterpret_cast<void*>(to), from, bytes), success; });
}
EXPORT int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, uint64_t stream) {
  if (isCapturing()) return captureUnsupported;
  if (!isInside(from, bytes)) return invalidValue;
  return enqueue(stream, [=] { return memcpy(to, reinterpret_cast<void*>(from), bytes), success; });
}
EXPORT int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, uint64_t stream) {
  if (!isInside(to, bytes)) return invalidValue;
  return enqueue(stream, [=] { return memset(reinterpret_cast<void*>(to), value, bytes), success; });
}
