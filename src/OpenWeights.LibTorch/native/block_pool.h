// Large blocks of CPU memory.
//
// A training step asks for the same large blocks again and again, or for blocks that are a little larger or
// smaller where batches differ in length. glibc gives much of that back to the system, and the next step faults
// every page in again. So large blocks are cut from one range of addresses that stays here, each as low as it
// fits: what lives long gathers at the bottom, and free blocks join their neighbours. Where gaps make the pages
// in memory more than the most that was ever in use, those of free blocks go back to the system. Small blocks
// stay with malloc, told not to trim.
#pragma once

#include <c10/util/Exception.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace owt {

inline constexpr size_t kLarge = size_t(1) << 18;
inline constexpr size_t kPage = 4096;
inline constexpr size_t kHugePage = size_t(1) << 21;
inline constexpr size_t kStep = size_t(64) << 20;

// What may lie in memory beyond the most that was in use at once.
inline constexpr size_t kSlack = size_t(8) << 20;

inline size_t round_down(size_t size, size_t unit) { return size & ~(unit - 1); }
inline size_t round_up(size_t size, size_t unit) { return round_down(size + unit - 1, unit); }
inline char* round_down(char* at, size_t unit) { return reinterpret_cast<char*>(round_down(reinterpret_cast<size_t>(at), unit)); }
inline char* round_up(char* at, size_t unit) { return reinterpret_cast<char*>(round_up(reinterpret_cast<size_t>(at), unit)); }

// The parts of the address space whose pages may lie in memory.
class ResidentPages {
 public:
  size_t total() const { return total_; }

  // How much of a range may lie in memory.
  size_t within(char* from, char* to) const {
    size_t sum = 0;
    for (auto i = first_after(from); i != ranges_.end() && i->first < to; ++i) {
      sum += static_cast<size_t>(std::min(to, i->second) - std::max(from, i->first));
    }
    return sum;
  }

  void add(char* from, char* to) {
    auto i = first_after(from);
    while (i != ranges_.end() && i->first <= to) {
      from = std::min(from, i->first);
      to = std::max(to, i->second);
      total_ -= static_cast<size_t>(i->second - i->first);
      i = ranges_.erase(i);
    }
    ranges_.emplace(from, to);
    total_ += static_cast<size_t>(to - from);
  }

  void remove(char* from, char* to) {
    for (auto i = first_after(from); i != ranges_.end() && i->first < to;) {
      auto [start, end] = *i;
      total_ -= static_cast<size_t>(std::min(to, end) - std::max(from, start));
      i = ranges_.erase(i);
      if (start < from) {
        ranges_.emplace(start, from);
      }
      if (to < end) {
        ranges_.emplace(to, end);
      }
    }
  }

 private:
  using Ranges = std::map<char*, char*>;

  // The first range that ends at or behind a place.
  Ranges::const_iterator first_after(char* at) const {
    auto i = ranges_.upper_bound(at);
    return i != ranges_.begin() && std::prev(i)->second >= at ? std::prev(i) : i;
  }

  Ranges ranges_;
  size_t total_ = 0;
};

class BlockPool {
 public:
  // The lowest free block that holds the size, what is left over of it staying free.
  void* take(size_t size) {
    size = round_up(size, kPage);
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = lowest(size);
    if (found == free_.end()) {
      grow(size);
      found = lowest(size);
    }
    auto [at, whole] = *found;
    free_.erase(found);
    if (whole - size >= kLarge) {
      free_.emplace(at + size, whole - size);
      whole = size;
    }
    used_.emplace(at, whole);
    live_ += whole;
    peak_ = std::max(peak_, live_);
    most_ = std::max(most_, live_);
    touch(at, at + size);
    return at;
  }

  void put(void* given) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto block = used_.find(static_cast<char*>(given));
    auto [at, size] = *block;
    used_.erase(block);
    live_ -= size;
    add_free(at, size);
  }

  // Cached are the pages that were in use once and have not gone back to the system.
  void statistics(int64_t* live, int64_t* peak, int64_t* cached) {
    std::lock_guard<std::mutex> lock(mutex_);
    *live = static_cast<int64_t>(live_);
    *peak = static_cast<int64_t>(peak_);
    *cached = std::max<int64_t>(0, static_cast<int64_t>(resident_.total()) - *live);
  }

  void reset_peak() {
    std::lock_guard<std::mutex> lock(mutex_);
    peak_ = live_;
  }

 private:
  using Blocks = std::map<char*, size_t>;

  Blocks::iterator lowest(size_t size) {
    return std::find_if(free_.begin(), free_.end(), [size](const auto& block) { return block.second >= size; });
  }

  // Joins a block with the free ones beside it.
  void add_free(char* at, size_t size) {
    auto next = free_.lower_bound(at);
    if (next != free_.end() && next->first == at + size) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin() && std::prev(next)->first + std::prev(next)->second == at) {
      std::prev(next)->second += size;
    } else {
      free_.emplace(at, size);
    }
  }

  // A range is about to lie in memory. Pages of free blocks make room for it where it would be too much, the
  // highest first, since the lowest are used again soonest.
  void touch(char* from, char* to) {
    size_t fresh = static_cast<size_t>(to - from) - resident_.within(from, to);
    size_t most = most_ + kSlack;
    for (auto block = free_.rbegin(); block != free_.rend() && fresh > 0 && resident_.total() + fresh > most; ++block) {
      give_back(round_up(block->first, kHugePage), round_down(block->first + block->second, kHugePage), resident_.total() + fresh - most);
    }
    resident_.add(from, to);
  }

  // Lets pages of a range go, from its end on, until they are as many as are wanted.
  void give_back(char* from, char* to, size_t wanted) {
    while (to > from && wanted > 0) {
      char* start = std::max(from, to - round_up(wanted, kHugePage));
      size_t there = resident_.within(start, to);
      if (there > 0 && madvise(start, static_cast<size_t>(to - start), MADV_DONTNEED) == 0) {
        resident_.remove(start, to);
        wanted -= std::min(wanted, there);
      }
      to = start;
    }
  }

  // More of the range becomes usable; where it is full, or the system refused so large a range, another is reserved.
  void grow(size_t size) {
    size_t step = round_up(size, kStep);
    if (static_cast<size_t>(end_ - opened_) < step && !reserve(step)) {
      TORCH_CHECK(false, "out of memory: the system refused ", size, " bytes (", live_, " bytes are in use by tensors)");
    }
    TORCH_CHECK(mprotect(opened_, step, PROT_READ | PROT_WRITE) == 0, "out of memory: the system refused ", size, " bytes (", live_, " bytes are in use by tensors)");
    add_free(opened_, step);
    opened_ += step;
  }

  // Addresses cost nothing until they are used: twice the machine's memory of them, or as much as is allowed.
  bool reserve(size_t least) {
    size_t memory = static_cast<size_t>(std::max(0L, sysconf(_SC_PHYS_PAGES))) * kPage;
    for (size_t size = std::max(least, round_up(2 * memory, kHugePage)); size >= least; size = size == least ? 0 : std::max(least, round_down(size / 2, kHugePage))) {
      void* mapping = mmap(nullptr, size + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (mapping != MAP_FAILED) {
        opened_ = round_up(static_cast<char*>(mapping), kHugePage);
        end_ = opened_ + size;
#ifdef MADV_HUGEPAGE
        madvise(opened_, size, MADV_HUGEPAGE);
#endif
        return true;
      }
    }
    return false;
  }

  std::mutex mutex_;
  Blocks free_;
  std::unordered_map<char*, size_t> used_;
  ResidentPages resident_;
  char* opened_ = nullptr;  // where the range's part that is not usable yet begins
  char* end_ = nullptr;
  size_t live_ = 0, peak_ = 0, most_ = 0;
};

}  // namespace owt
