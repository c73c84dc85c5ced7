// Streams and events of the stand-in: a stream is a thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace {

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

}  // namespace
