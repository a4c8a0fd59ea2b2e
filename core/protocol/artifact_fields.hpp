#pragma once

#include "core/protocol/artifact.hpp"
#include "core/protocol/image_fields.hpp"
#include "core/rpc/fields.hpp"

/// The field maps of the structs in core/protocol/artifact.hpp.
namespace banger::rpc {

template <>
struct Fields<protocol::Part> {
    static constexpr auto list =
        fields(field("digest", &protocol::Part::digest), field("size", &protocol::Part::size));
};

template <>
struct Fields<protocol::Run> {
    static constexpr auto list =
        fields(field("environment", &protocol::Run::environment),
               field("working_folder", &protocol::Run::working_folder),
               field("user", &protocol::Run::user), field("entrypoint", &protocol::Run::entrypoint),
               field("command", &protocol::Run::command));
};

template <>
struct Fields<protocol::Details> {
    static constexpr auto list = fields(
        field("file", &protocol::Details::file), field("problem", &protocol::Details::problem),
        field("parts", &protocol::Details::parts), field("run", &protocol::Details::run));
};

template <>
struct Fields<protocol::DetailsReply> {
    static constexpr auto list = fields(field("details", &protocol::DetailsReply::details));
};

template <>
struct Fields<protocol::ShownImage> {
    static constexpr auto list = fields(field("image", &protocol::ShownImage::image),
                                        field("machines", &protocol::ShownImage::machines),
                                        field("details", &protocol::ShownImage::details));
};

template <>
struct Fields<protocol::PullImage> {
    static constexpr auto list = fields(field("reference", &protocol::PullImage::reference),
                                        field("name", &protocol::PullImage::name),
                                        field("refresh", &protocol::PullImage::refresh),
                                        field("size", &protocol::PullImage::size));
};

template <>
struct Fields<protocol::KernelFiles> {
    static constexpr auto list = fields(field("kernel", &protocol::KernelFiles::kernel),
                                        field("initrd", &protocol::KernelFiles::initrd),
                                        field("modules", &protocol::KernelFiles::modules));
};

template <>
struct Fields<protocol::RegisterImage> {
    static constexpr auto list =
        fields(field("name", &protocol::RegisterImage::name),
               field("root_file_system", &protocol::RegisterImage::root_file_system),
               field("kernel_reference", &protocol::RegisterImage::kernel_reference),
               field("kernel", &protocol::RegisterImage::kernel));
};

template <>
struct Fields<protocol::SetImageKernel> {
    static constexpr auto list = fields(field("name", &protocol::SetImageKernel::name),
                                        field("kernel", &protocol::SetImageKernel::kernel));
};

template <>
struct Fields<protocol::SetImageKernelReply> {
    static constexpr auto list = fields(field("image", &protocol::SetImageKernelReply::image));
};

template <>
struct Fields<protocol::Blob> {
    static constexpr auto list =
        fields(field("digest", &protocol::Blob::digest), field("size", &protocol::Blob::size),
               field("is_complete", &protocol::Blob::is_complete));
};

template <>
struct Fields<protocol::PruneCache> {
    static constexpr auto list = fields(field("all", &protocol::PruneCache::all),
                                        field("is_dry", &protocol::PruneCache::is_dry));
};

template <>
struct Fields<protocol::PruneCacheReply> {
    static constexpr auto list = fields(field("blobs", &protocol::PruneCacheReply::blobs),
                                        field("freed", &protocol::PruneCacheReply::freed));
};

template <>
struct Fields<protocol::ImportKernel> {
    static constexpr auto list = fields(field("name", &protocol::ImportKernel::name),
                                        field("from", &protocol::ImportKernel::from));
};

template <>
struct Fields<protocol::DiskItem> {
    static constexpr auto list =
        fields(field("kind", &protocol::DiskItem::kind), field("id", &protocol::DiskItem::id),
               field("name", &protocol::DiskItem::name), field("size", &protocol::DiskItem::size),
               field("users", &protocol::DiskItem::users),
               field("is_reclaimable", &protocol::DiskItem::is_reclaimable));
};

template <>
struct Fields<protocol::DiskKind> {
    static constexpr auto list =
        fields(field("kind", &protocol::DiskKind::kind), field("count", &protocol::DiskKind::count),
               field("size", &protocol::DiskKind::size),
               field("shared", &protocol::DiskKind::shared), field("own", &protocol::DiskKind::own),
               field("reclaimable", &protocol::DiskKind::reclaimable));
};

template <>
struct Fields<protocol::DiskUsageReply> {
    static constexpr auto list = fields(field("kinds", &protocol::DiskUsageReply::kinds),
                                        field("items", &protocol::DiskUsageReply::items));
};

}  // namespace banger::rpc
