#pragma once

#include "core/protocol/image.hpp"
#include "core/protocol/vm_fields.hpp"
#include "core/rpc/fields.hpp"

/// The field maps of the structs in core/protocol/image.hpp.
namespace banger::rpc {

template <>
struct Fields<protocol::Image> {
    static constexpr auto list = fields(
        field("id", &protocol::Image::id), field("name", &protocol::Image::name),
        field("reference", &protocol::Image::reference), field("distro", &protocol::Image::distro),
        field("architecture", &protocol::Image::architecture),
        field("description", &protocol::Image::description),
        field("provenance", &protocol::Image::provenance),
        field("kernel", &protocol::Image::kernel), field("size", &protocol::Image::size),
        field("allocated", &protocol::Image::allocated),
        field("created_at", &protocol::Image::created_at));
};

template <>
struct Fields<protocol::Kernel> {
    static constexpr auto list = fields(
        field("id", &protocol::Kernel::id), field("name", &protocol::Kernel::name),
        field("version", &protocol::Kernel::version),
        field("reference", &protocol::Kernel::reference),
        field("provenance", &protocol::Kernel::provenance), field("size", &protocol::Kernel::size),
        field("created_at", &protocol::Kernel::created_at));
};

template <>
struct Fields<protocol::Available> {
    static constexpr auto list = fields(field("reference", &protocol::Available::reference),
                                        field("distro", &protocol::Available::distro),
                                        field("architecture", &protocol::Available::architecture),
                                        field("description", &protocol::Available::description),
                                        field("source", &protocol::Available::source));
};

template <>
struct Fields<protocol::NoParameters> {
    static constexpr auto list = fields();
};

template <>
struct Fields<protocol::ListImagesReply> {
    static constexpr auto list = fields(field("images", &protocol::ListImagesReply::images));
};

template <>
struct Fields<protocol::ListKernelsReply> {
    static constexpr auto list = fields(field("kernels", &protocol::ListKernelsReply::kernels));
};

template <>
struct Fields<protocol::AvailableReply> {
    static constexpr auto list = fields(field("available", &protocol::AvailableReply::available));
};

template <>
struct Fields<protocol::NamedArtifact> {
    static constexpr auto list = fields(field("name", &protocol::NamedArtifact::name));
};

template <>
struct Fields<protocol::ShowImageReply> {
    static constexpr auto list = fields(field("image", &protocol::ShowImageReply::image),
                                        field("machines", &protocol::ShowImageReply::machines));
};

template <>
struct Fields<protocol::ShowKernelReply> {
    static constexpr auto list = fields(field("kernel", &protocol::ShowKernelReply::kernel),
                                        field("machines", &protocol::ShowKernelReply::machines));
};

template <>
struct Fields<protocol::DeleteImageReply> {
    static constexpr auto list = fields(field("image", &protocol::DeleteImageReply::image));
};

template <>
struct Fields<protocol::DeleteKernelReply> {
    static constexpr auto list = fields(field("kernel", &protocol::DeleteKernelReply::kernel));
};

template <>
struct Fields<protocol::PullArtifact> {
    static constexpr auto list = fields(field("reference", &protocol::PullArtifact::reference),
                                        field("name", &protocol::PullArtifact::name),
                                        field("refresh", &protocol::PullArtifact::refresh));
};

template <>
struct Fields<protocol::PullImageReply> {
    static constexpr auto list = fields(field("progress", &protocol::PullImageReply::progress),
                                        field("image", &protocol::PullImageReply::image));
};

template <>
struct Fields<protocol::PullKernelReply> {
    static constexpr auto list = fields(field("progress", &protocol::PullKernelReply::progress),
                                        field("kernel", &protocol::PullKernelReply::kernel));
};

}  // namespace banger::rpc
