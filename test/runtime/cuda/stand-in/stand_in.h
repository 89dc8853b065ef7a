// What the parts of the stand-in share: results, the queue of a stream, and the memory it watches.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace standin {

/** Of the driver API, as cuda.h numbers them. */
enum Result {
  success = 0,
  invalidValue = 1,
  outOfMemory = 2,
  noDevice = 100,
  invalidDevice = 101,
  invalidImage = 200,
  illegalState = 401,
  notFound = 500,
  illegalAddress = 700,
  launchFailed = 719,
  notSupported = 801,
  captureUnsupported = 900,
  captureInvalidated = 901,
};

/** Runs `work` now, or records it where the stream is being captured. It answers a result. */
int enqueue(uint64_t stream, std::function<int()> work);

/** A number of the environment. */
size_t setting(const char* name, size_t fallback);

/** Whether a stream is being captured: then the graph is spoilt, by a call that is for other times. */
bool isCapturing();

/** What every call fails with since an error; success where there was none. */
int failure();

/** Whether guard zones are as they were. */
int checkMemory();

void releaseMemory();

/** Makes every later call fail, as an error on a device does. */
int fail(int result, const std::string& message);

}  // namespace standin
