#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/protocol/image.hpp"

/// The structs of io.banger.Image.varlink, io.banger.Kernel.varlink and io.banger.System.varlink
/// that are about the making and the room of images and kernels, name for name. Apart from
/// image.hpp, because few need them.
namespace banger::protocol {

struct Part {
    std::string digest;
    std::optional<std::uint64_t> size;
};

struct Run {
    std::vector<std::string> environment;
    std::string working_folder;
    std::string user;
    std::vector<std::string> entrypoint;
    std::vector<std::string> command;
};

struct Details {
    std::string file;
    std::string problem;
    std::vector<Part> parts;
    Run run;
};
struct DetailsReply {
    Details details;
};

/// What `image show --format json` prints.
struct ShownImage {
    Image image;
    std::vector<std::string> machines;
    Details details;
};

struct PullImage {
    std::string reference;
    std::optional<std::string> name;
    bool refresh = false;
    std::optional<std::uint64_t> size;
};

struct KernelFiles {
    std::string kernel;
    std::string initrd;
    std::string modules;
};
struct RegisterImage {
    std::string name;
    std::string root_file_system;
    std::string kernel_reference;
    std::optional<KernelFiles> kernel;
};

struct SetImageKernel {
    std::string name;
    std::string kernel;
};
struct SetImageKernelReply {
    Image image;
};

struct Blob {
    std::string digest;
    std::uint64_t size = 0;
    bool is_complete = false;
};
struct PruneCache {
    bool all = false;
    bool is_dry = false;
};
struct PruneCacheReply {
    std::vector<Blob> blobs;
    std::uint64_t freed = 0;
};

struct ImportKernel {
    std::string name;
    std::string from;
};

struct DiskItem {
    std::string kind;
    std::string id;
    std::string name;
    std::uint64_t size = 0;
    std::vector<std::string> users;
    bool is_reclaimable = false;
};

struct DiskKind {
    std::string kind;
    std::uint64_t count = 0;
    std::uint64_t size = 0;
    std::uint64_t shared = 0;
    std::uint64_t own = 0;
    std::uint64_t reclaimable = 0;
};

struct DiskUsageReply {
    std::vector<DiskKind> kinds;
    std::vector<DiskItem> items;
};

}  // namespace banger::protocol
