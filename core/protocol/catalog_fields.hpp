#pragma once

#include "core/protocol/catalog.hpp"
#include "core/protocol/image_fields.hpp"

/// The field maps of the structs in core/protocol/catalog.hpp.
namespace banger::rpc {

template <>
struct Fields<protocol::Published> {
    using T = protocol::Published;
    static constexpr auto list = fields(field("path", &T::path), field("file_name", &T::file_name),
                                        field("digest", &T::digest), field("size", &T::size),
                                        field("entry", &T::entry), field("notes", &T::notes));
};

template <>
struct Fields<protocol::PublishBundle> {
    using T = protocol::PublishBundle;
    static constexpr auto list =
        fields(field("image", &T::image), field("kernel", &T::kernel), field("vm", &T::vm),
               field("name", &T::name), field("description", &T::description));
};

template <>
struct Fields<protocol::PublishBundleReply> {
    using T = protocol::PublishBundleReply;
    static constexpr auto list =
        fields(field("progress", &T::progress), field("published", &T::published));
};

template <>
struct Fields<protocol::Catalog> {
    using T = protocol::Catalog;
    static constexpr auto list =
        fields(field("name", &T::name), field("place", &T::place), field("key", &T::key),
               field("serial", &T::serial), field("updated_at", &T::updated_at),
               field("expires", &T::expires), field("images", &T::images),
               field("kernels", &T::kernels), field("problem", &T::problem));
};

template <>
struct Fields<protocol::ListCatalogsReply> {
    using T = protocol::ListCatalogsReply;
    static constexpr auto list = fields(field("catalogs", &T::catalogs));
};

template <>
struct Fields<protocol::AddCatalog> {
    using T = protocol::AddCatalog;
    static constexpr auto list =
        fields(field("place", &T::place), field("name", &T::name), field("key", &T::key));
};

template <>
struct Fields<protocol::AddCatalogReply> {
    using T = protocol::AddCatalogReply;
    static constexpr auto list =
        fields(field("progress", &T::progress), field("catalog", &T::catalog),
               field("unconfirmed_key", &T::unconfirmed_key));
};

template <>
struct Fields<protocol::NamedCatalog> {
    using T = protocol::NamedCatalog;
    static constexpr auto list = fields(field("name", &T::name));
};

template <>
struct Fields<protocol::RemoveCatalogReply> {
    using T = protocol::RemoveCatalogReply;
    static constexpr auto list = fields(field("catalog", &T::catalog));
};

template <>
struct Fields<protocol::UpdateCatalogReply> {
    using T = protocol::UpdateCatalogReply;
    static constexpr auto list =
        fields(field("progress", &T::progress), field("catalog", &T::catalog),
               field("has_changed", &T::has_changed));
};

template <>
struct Fields<protocol::SignCatalog> {
    using T = protocol::SignCatalog;
    static constexpr auto list =
        fields(field("text", &T::text), field("private_key", &T::private_key));
};

template <>
struct Fields<protocol::SignCatalogReply> {
    using T = protocol::SignCatalogReply;
    static constexpr auto list = fields(field("signature", &T::signature), field("key", &T::key),
                                        field("serial", &T::serial), field("images", &T::images),
                                        field("kernels", &T::kernels));
};

template <>
struct Fields<protocol::MakeKeyReply> {
    using T = protocol::MakeKeyReply;
    static constexpr auto list = fields(field("private_key", &T::private_key),
                                        field("public_key", &T::public_key), field("key", &T::key));
};

}  // namespace banger::rpc
