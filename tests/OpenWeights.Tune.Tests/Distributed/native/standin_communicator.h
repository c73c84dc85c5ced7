// Communicators of the stand-in, which meet in a file in /dev/shm, and what they compute.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "standin_streams.h"

namespace {

constexpr int kSuccess = 0, kSystemError = 2, kInvalidArgument = 4, kInvalidUsage = 5;
constexpr int kMaxRanks = 16;
constexpr size_t kArea = size_t(1) << 18;
constexpr int kIdSize = 128;

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
