// A stand-in for NCCL, and for the streams and events of CUDA's runtime, on a machine without GPUs: for tests. Device memory is the host's,
// a stream is a thread, and ranks meet in a file in /dev/shm. It is as strict as NCCL: all ranks must do the same in the same order, a
// communicator stays on one stream, and nothing waits for another stream unless it was told to. A rank that does not come is waited for until
// the communicator is aborted.

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {

constexpr int kSuccess = 0, kSystemError = 2, kInvalidArgument = 4, kInvalidUsage = 5;
constexpr int kMaxRanks = 16;
constexpr size_t kArea = size_t(1) << 18;
constexpr int kIdSize = 128;
constexpr int kCudaNotReady = 600, kCudaInvalid = 1;

// ---------------------------------------------------------------------------------------------------
// Streams

class Stream {
 public:
  Stream() : thread_([this] { run(); }) { thread_.detach(); }

  uint64_t submit(std::function<void()> work) {
    std::lock_guard<std::mutex> hold(gate_);
    queue_.push_back(std::move(work));
    changed_.notify_all();
    return ++submitted_;
  }

  uint64_t submitted() {
    std::lock_guard<std::mutex> hold(gate_);
    return submitted_;
  }

  bool is_done(uint64_t position) {
    std::lock_guard<std::mutex> hold(gate_);
    return completed_ >= position;
  }

  void wait(uint64_t position) {
    std::unique_lock<std::mutex> hold(gate_);
    changed_.wait(hold, [&] { return completed_ >= position; });
  }

 private:
  void run() {
    for (;;) {
      std::function<void()> work;
      {
        std::unique_lock<std::mutex> hold(gate_);
        changed_.wait(hold, [&] { return !queue_.empty(); });
        work = std::move(queue_.front());
        queue_.pop_front();
      }
      work();
      std::lock_guard<std::mutex> hold(gate_);
      completed_++;
      changed_.notify_all();
    }
  }

  std::mutex gate_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  uint64_t submitted_ = 0, completed_ = 0;
  std::thread thread_;
};

struct Event {
  Stream* stream = nullptr;
  uint64_t position = 0;
};

// The default stream; never freed, since its thread may outlive the program's end.
Stream* stream_of(void* handle) {
  static Stream* usual = new Stream;
  return handle == nullptr ? usual : static_cast<Stream*>(handle);
}

// ---------------------------------------------------------------------------------------------------
// Communicators

struct Description {
  int kind, type, op, root;
  uint64_t count;

  bool operator==(const Description& other) const {
    return kind == other.kind && type == other.type && op == other.op && root == other.root && count == other.count;
  }
};

struct Shared {
  std::atomic<uint64_t> phase[kMaxRanks];
  Description description[kMaxRanks];
  alignas(64) char area[kMaxRanks][kArea];
};

struct Communicator {
  int rank, size;
  Shared* shared;
  std::string file;
  uint64_t phase = 0;
  std::atomic<bool> aborted{false};
  std::atomic<int> error{0};
  void* stream = nullptr;
  bool has_stream = false;

  // Waits for all ranks; false if the communicator was aborted.
  bool meet() {
    shared->phase[rank].store(++phase);
    for (int other = 0; other < size; other++) {
      while (shared->phase[other].load() < phase) {
        if (aborted) {
          return false;
        }
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
    }
    return true;
  }
};

struct Message {
  bool is_send;
  char* at;
  size_t count;
  int type, peer;
  Communicator* comm;
  void* stream;
};

thread_local int group_depth = 0;
thread_local std::vector<Message> group;

size_t size_of(int type) {
  switch (type) {
    case 0: case 1: return 1;
    case 6: case 9: return 2;
    case 2: case 3: case 7: return 4;
    case 4: case 5: case 8: return 8;
    default: return 0;
  }
}

template <class T>
void add(Communicator* comm, size_t offset, T* result, size_t count) {
  for (size_t i = 0; i < count; i++) {
    T sum = reinterpret_cast<T*>(comm->shared->area[0] + offset)[i];
    for (int rank = 1; rank < comm->size; rank++) {
      sum += reinterpret_cast<T*>(comm->shared->area[rank] + offset)[i];
    }
    result[i] = sum;
  }
}

void add(Communicator* comm, int type, size_t offset, char* result, size_t bytes) {
  if (type == 7) {
    add(comm, offset, reinterpret_cast<float*>(result), bytes / 4);
  } else if (type == 8) {
    add(comm, offset, reinterpret_cast<double*>(result), bytes / 8);
  } else {
    add(comm, offset, reinterpret_cast<int64_t*>(result), bytes / 8);
  }
}

// Whether all ranks do the same; otherwise the communicator is of no use any more.
bool agree(Communicator* comm, const Description& mine) {
  if (comm->aborted || comm->error != 0) {
    return false;
  }
  comm->shared->description[comm->rank] = mine;
  if (!comm->meet()) {
    return false;
  }
  bool same = true;
  for (int rank = 0; rank < comm->size; rank++) {
    same = same && comm->shared->description[rank] == mine;
  }
  if (!same) {
    comm->error = kInvalidUsage;
  }
  return comm->meet() && same;
}

int check(Communicator* comm, const void* a, const void* b, size_t count, int type, void* stream) {
  if (comm == nullptr || (count > 0 && (a == nullptr || b == nullptr)) || size_of(type) == 0) {
    return kInvalidArgument;
  }
  if (comm->has_stream && comm->stream != stream) {
    return kInvalidUsage;
  }
  comm->stream = stream;
  comm->has_stream = true;
  return comm->error;
}

enum Kind { kAllReduce = 1, kReduceScatter, kAllGather, kBroadcast, kMessages };

void all_to_all(Communicator* comm, const std::vector<Message>& messages) {
  // What each rank sends to each: counts first.
  std::vector<char*> sent(comm->size), received(comm->size);
  size_t bytes = 0;
  for (const auto& m : messages) {
    (m.is_send ? sent : received)[m.peer] = m.at;
    bytes = m.count * size_of(m.type);
  }
  const size_t step = kArea / comm->size / 8 * 8;
  for (size_t start = 0; start < bytes; start += step) {
    const size_t length = std::min(step, bytes - start);
    for (int peer = 0; peer < comm->size; peer++) {
      std::memcpy(comm->shared->area[comm->rank] + peer * step, sent[peer] + start, length);
    }
    if (!comm->meet()) {
      return;
    }
    for (int peer = 0; peer < comm->size; peer++) {
      std::memcpy(received[peer] + start, comm->shared->area[peer] + comm->rank * step, length);
    }
    if (!comm->meet()) {
      return;
    }
  }
}

void run(Communicator* comm, Description what, const char* send, char* receive) {
  if (!agree(comm, what)) {
    return;
  }
  const size_t bytes = what.count * size_of(what.type);
  const bool in_parts = what.kind == kReduceScatter;
  const size_t step = in_parts ? kArea / comm->size / 8 * 8 : kArea;
  for (size_t start = 0; start < bytes; start += step) {
    const size_t length = std::min(step, bytes - start);
    char* own = comm->shared->area[comm->rank];
    if (in_parts) {
      for (int part = 0; part < comm->size; part++) {
        std::memcpy(own + part * step, send + part * bytes + start, length);
      }
    } else if (what.kind != kBroadcast || comm->rank == what.root) {
      std::memcpy(own, send + start, length);
    }
    if (!comm->meet()) {
      return;
    }
    switch (what.kind) {
      case kAllReduce: add(comm, what.type, 0, receive + start, length); break;
      case kReduceScatter: add(comm, what.type, comm->rank * step, receive + start, length); break;
      case kBroadcast: std::memcpy(receive + start, comm->shared->area[what.root], length); break;
      default:
        for (int rank = 0; rank < comm->size; rank++) {
          std::memcpy(receive + rank * bytes + start, comm->shared->area[rank], length);
        }
    }
    if (!comm->meet()) {
      return;
    }
  }
}

int begin(Communicator* comm, Description what, const void* send, void* receive, void* stream) {
  if (int error = check(comm, send, receive, what.count, what.type, stream)) {
    return error;
  }
  if ((what.kind == kAllReduce || what.kind == kReduceScatter) && what.type != 7 && what.type != 8 && what.type != 4) {
    return kInvalidArgument;
  }
  stream_of(stream)->submit([=] { run(comm, what, static_cast<const char*>(send), static_cast<char*>(receive)); });
  return kSuccess;
}

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
