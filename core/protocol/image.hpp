#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/protocol/vm.hpp"

/// The structs of io.banger.Image.varlink and io.banger.Kernel.varlink, name for name.
namespace banger::protocol {

struct Image {
    std::string id;
    std::string name;
    std::string reference;
    std::string distro;
    std::string architecture;
    std::string description;
    std::string provenance;
    std::string kernel;
    std::uint64_t size = 0;
    std::uint64_t allocated = 0;
    std::int64_t created_at = 0;
};

struct Kernel {
    std::string id;
    std::string name;
    std::string version;
    std::string reference;
    std::string provenance;
    std::uint64_t size = 0;
    std::int64_t created_at = 0;
};

struct Available {
    std::string reference;
    std::string distro;
    std::string architecture;
    std::string description;
    std::string source;
};

/// The parameters of List and Available.
struct NoParameters {};

struct ListImagesReply {
    std::vector<Image> images;
};
struct ListKernelsReply {
    std::vector<Kernel> kernels;
};
struct AvailableReply {
    std::vector<Available> available;
};

/// The parameters of Show and Delete.
struct NamedArtifact {
    std::string name;
};
struct ShowImageReply {
    Image image;
    std::vector<std::string> machines;
};
struct ShowKernelReply {
    Kernel kernel;
    std::vector<std::string> machines;
};
struct DeleteImageReply {
    Image image;
};
struct DeleteKernelReply {
    Kernel kernel;
};

struct PullArtifact {
    std::string reference;
    std::optional<std::string> name;
    bool refresh = false;
};
struct PullImageReply {
    std::optional<Progress> progress;
    std::optional<Image> image;
};
struct PullKernelReply {
    std::optional<Progress> progress;
    std::optional<Kernel> kernel;
};

}  // namespace banger::protocol
