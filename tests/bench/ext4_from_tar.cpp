// ext4_from_tar IMAGE LAYER…: writes IMAGE from tar files, "-" for the standard input; prints
// seconds, peak memory in KiB and the sizes. For tests/bench/ext4, and for looking at an image by
// hand.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "core/images/ext4_image.hpp"

namespace {

/// VmHWM of proc(5), and not getrusage(2), which counts what the parent had before it became us.
long peak_kib() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmHWM:")) return std::stol(line.substr(6));
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    using namespace banger;
    if (argc < 3) return std::fputs("usage: ext4_from_tar IMAGE LAYER…\n", stderr), 2;
    const UniqueFd image(::open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    std::vector<UniqueFd> layers;
    for (int i = 2; i < argc; ++i)
        layers.emplace_back(std::strcmp(argv[i], "-") == 0 ? ::dup(0)
                                                           : ::open(argv[i], O_RDONLY | O_CLOEXEC));
    for (const UniqueFd& layer : layers)
        if (!layer || !image) return std::perror("open"), 1;

    const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    const Result<images::Ext4Summary> summary =
        images::write_ext4_from_layers(layers, image, images::Ext4Options{}, {});
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (!summary) return std::fprintf(stderr, "%s\n", summary.error().text().c_str()), 1;
    std::printf(
        "{\"seconds\": %.3f, \"peak_kib\": %ld, \"entries\": %llu, \"size\": %llu, \"used\": "
        "%llu, \"readings\": %u}\n",
        took.count(), peak_kib(), static_cast<unsigned long long>(summary->entries),
        static_cast<unsigned long long>(summary->size.count()),
        static_cast<unsigned long long>(summary->used.count()), summary->readings);
    return 0;
}
