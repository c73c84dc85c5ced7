// Memory that starting leaves behind: pages of the files of libraries.

#include "openweights_torch.h"

#ifdef __linux__
#include "block_pool.h"

#include <fcntl.h>
#include <link.h>

#include <algorithm>

using namespace owt;

namespace {

// Whether all of a range's pages that are in memory are the file's own. A page that was written to since, as runtimes
// do with their code, is the process's alone and would be lost.
bool is_all_of_file(int pagemap, size_t start, size_t end) {
  constexpr uint64_t kPresent = uint64_t(1) << 63, kSwapped = uint64_t(1) << 62, kOfFile = uint64_t(1) << 61;
  std::vector<uint64_t> pages((end - start) / kPage);
  auto size = static_cast<ssize_t>(pages.size() * sizeof(uint64_t));
  if (pread(pagemap, pages.data(), size, static_cast<off_t>(start / kPage * sizeof(uint64_t))) != size) {
    return false;
  }
  return std::all_of(pages.begin(), pages.end(), [](uint64_t page) {
    return (page & (kPresent | kSwapped)) == 0 || (page & (kPresent | kOfFile)) == (kPresent | kOfFile);
  });
}

// A library's segments that may not be written: code, constants, tables of symbols. Not those of the program and of
// .NET's own libraries, which .NET changes while it runs.
int drop_read_only_pages(struct dl_phdr_info* library, size_t, void* pagemap) {
  if (library->dlpi_name == nullptr || library->dlpi_name[0] != '/' || std::strstr(library->dlpi_name, "/libcoreclr") || std::strstr(library->dlpi_name, "/libclr")) {
    return 0;
  }
  for (int i = 0; i < library->dlpi_phnum; i++) {
    const auto& segment = library->dlpi_phdr[i];
    size_t start = round_up(library->dlpi_addr + segment.p_vaddr, kPage);
    size_t end = round_down(library->dlpi_addr + segment.p_vaddr + segment.p_memsz, kPage);
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_W) == 0 && start < end && is_all_of_file(*static_cast<int*>(pagemap), start, end)) {
      madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
    }
  }
  return 0;
}

}  // namespace

// Loading libtorch and the hundreds of libraries that a distribution links it to reads a hundred megabytes of
// their files once, which count as the process's memory. They are let go of; what runs later is mapped again.
OWT_API void owt_drop_start_pages() {
  int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pagemap >= 0) {
    dl_iterate_phdr(&drop_read_only_pages, &pagemap);
    close(pagemap);
  }
}
#else
OWT_API void owt_drop_start_pages() {}
#endif
