// A stand-in for NCCL, and for the streams and events of CUDA's runtime, on a machine without GPUs: for tests. Device memory is the host's,
// a stream is a thread, and ranks meet in a file in /dev/shm. It is as strict as NCCL: all ranks must do the same in the same order, a
// communicator stays on one stream, and nothing waits for another stream unless it was told to. A rank that does not come is waited for until
// the communicator is aborted.

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "standin_communicator.h"

#define API extern "C" __attribute__((visibility("default")))

namespace {

constexpr int kCudaNotReady = 600, kCudaInvalid = 1;

}  // namespace

// ---------------------------------------------------------------------------------------------------
// NCCL

API int ncclGetVersion(int* version) { return *version = 22703, kSuccess; }

API int ncclGetUniqueId(char* id) {
  FILE* random = std::fopen("/dev/urandom", "r");
  const bool read = random != nullptr && std::fread(id, 1, 16, random) == 16;
  if (random != nullptr) {
    std::fclose(random);
  }
  // The rest depends on the beginning: a cut identifier is noticed.
  for (int i = 16; i < kIdSize; i++) {
    id[i] = static_cast<char>(id[i % 16] + i);
  }
  return read ? kSuccess : kSystemError;
}

struct UniqueId {
  char bytes[kIdSize];
};

API int ncclCommInitRank(Communicator** created, int size, UniqueId id, int rank) {
  if (rank < 0 || rank >= size || size > kMaxRanks) {
    return kInvalidArgument;
  }
  std::string name = "/dev/shm/owt-standin-nccl-";
  for (int i = 0; i < kIdSize; i++) {
    if (i >= 16 && id.bytes[i] != static_cast<char>(id.bytes[i % 16] + i)) {
      return kInvalidArgument;
    }
    if (i < 16) {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(id.bytes[i]));
      name += digits;
    }
  }
  const int file = open(name.c_str(), O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) {
    return kSystemError;
  }
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) {
    return kSystemError;
  }
  auto* comm = new Communicator{rank, size, static_cast<Shared*>(memory), name};
  comm->meet();
  unlink(name.c_str());
  *created = comm;
  return kSuccess;
}

API int ncclAllReduce(const void* send, void* receive, size_t count, int type, int op, Communicator* comm, void* stream) {
  return op != 0 ? kInvalidArgument : begin(comm, {kAllReduce, type, op, 0, count}, send, receive, stream);
}

API int ncclReduceScatter(const void* send, void* receive, size_t count, int type, int op, Communicator* comm, void* stream) {
  return op != 0 ? kInvalidArgument : begin(comm, {kReduceScatter, type, op, 0, count}, send, receive, stream);
}

API int ncclAllGather(const void* send, void* receive, size_t count, int type, Communicator* comm, void* stream) {
  return begin(comm, {kAllGather, type, 0, 0, count}, send, receive, stream);
}

API int ncclBroadcast(const void* send, void* receive, size_t count, int type, int root, Communicator* comm, void* stream) {
  return root < 0 || comm == nullptr || root >= comm->size ? kInvalidArgument : begin(comm, {kBroadcast, type, 0, root, count}, send, receive, stream);
}

API int ncclGroupStart() { return group_depth++, kSuccess; }

// One message to and from each rank, all of one length: what this program sends.
API int ncclGroupEnd() {
  if (--group_depth > 0 || group.empty()) {
    return group_depth < 0 ? kInvalidUsage : kSuccess;
  }
  std::vector<Message> messages;
  messages.swap(group);
  Communicator* comm = messages[0].comm;
  std::vector<int> sends(comm->size), receives(comm->size);
  for (const auto& m : messages) {
    if (m.comm != comm || m.stream != messages[0].stream || m.count != messages[0].count || m.type != messages[0].type) {
      return kInvalidUsage;
    }
    (m.is_send ? sends : receives)[m.peer]++;
  }
  for (int peer = 0; peer < comm->size; peer++) {
    if (sends[peer] != 1 || receives[peer] != 1) {
      return kInvalidUsage;
    }
  }
  stream_of(messages[0].stream)->submit([=] {
    if (agree(comm, {kMessages, messages[0].type, 0, 0, messages[0].count})) {
      all_to_all(comm, messages);
    }
  });
  return kSuccess;
}

static int message(bool is_send, char* at, size_t count, int type, int peer, Communicator* comm, void* stream) {
  if (int error = check(comm, at, at, count, type, stream)) {
    return error;
  }
  if (group_depth == 0 || peer < 0 || peer >= comm->size) {
    return kInvalidUsage;
  }
  group.push_back({is_send, at, count, type, peer, comm, stream});
  return kSuccess;
}

API int ncclSend(char* at, size_t count, int type, int peer, Communicator* comm, void* stream) { return message(true, at, count, type, peer, comm, stream); }

API int ncclRecv(char* at, size_t count, int type, int peer, Communicator* comm, void* stream) { return message(false, at, count, type, peer, comm, stream); }

API int ncclCommGetAsyncError(Communicator* comm, int* error) { return *error = comm->error, kSuccess; }

API int ncclCommAbort(Communicator* comm) { return comm->aborted = true, kSuccess; }

API int ncclCommDestroy(Communicator* comm) {
  if (comm->has_stream) {
    Stream* stream = stream_of(comm->stream);
    stream->wait(stream->submitted());
  }
  munmap(comm->shared, sizeof(Shared));
  delete comm;
  return kSuccess;
}

API const char* ncclGetErrorString(int code) { return code == kInvalidUsage ? "invalid usage" : code == kInvalidArgument ? "invalid argument" : "unhandled system error"; }

API const char* ncclGetLastError(Communicator*) { return ""; }

// ---------------------------------------------------------------------------------------------------
// CUDA's runtime

API int cudaStreamCreateWithFlags(void** stream, unsigned flags) { return flags != 1 ? kCudaInvalid : (*stream = new Stream, 0); }

API int cudaEventCreateWithFlags(void** event, unsigned) { return *event = new Event, 0; }

API int cudaEventRecord(Event* event, void* stream) {
  event->stream = stream_of(stream);
  event->position = event->stream->submitted();
  return 0;
}

API int cudaStreamWaitEvent(void* stream, Event* event, unsigned) {
  if (event->stream != nullptr && event->stream != stream_of(stream)) {
    stream_of(stream)->submit([other = event->stream, position = event->position] { other->wait(position); });
  }
  return 0;
}

API int cudaEventQuery(Event* event) { return event->stream == nullptr || event->stream->is_done(event->position) ? 0 : kCudaNotReady; }

API int cudaStreamSynchronize(void* stream) {
  Stream* its = stream_of(stream);
  its->wait(its->submitted());
  return 0;
}

API const char* cudaGetErrorString(int) { return "invalid argument"; }

// ---------------------------------------------------------------------------------------------------
// What a test lets the GPU compute, on torch's stream.

API void standin_fill_late(float* values, size_t count, float value) {
  stream_of(nullptr)->submit([=] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    std::fill(values, values + count, value);
  });
}

API void standin_copy(float* to, const float* from, size_t count) {
  stream_of(nullptr)->submit([=] { std::copy(from, from + count, to); });
}
