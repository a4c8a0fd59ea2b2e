#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/protocol/image.hpp"

/// The structs of io.banger.Bundle.varlink and io.banger.Catalog.varlink, name for name.
namespace banger::protocol {

struct Published {
    std::string path;
    std::string file_name;
    std::string digest;
    std::uint64_t size = 0;
    std::string entry;
    std::vector<std::string> notes;
};

struct PublishBundle {
    std::optional<std::string> image;
    std::optional<std::string> kernel;
    std::optional<std::string> vm;
    std::optional<std::string> name;
    std::optional<std::string> description;
};
struct PublishBundleReply {
    std::optional<Progress> progress;
    std::optional<Published> published;
};

struct Catalog {
    std::string name;
    std::string place;
    std::string key;
    std::uint64_t serial = 0;
    std::int64_t updated_at = 0;
    std::optional<std::int64_t> expires;
    std::uint64_t images = 0;
    std::uint64_t kernels = 0;
    std::string problem;
};

struct ListCatalogsReply {
    std::vector<Catalog> catalogs;
};

struct AddCatalog {
    std::string place;
    std::optional<std::string> name;
    std::optional<std::string> key;
};
struct AddCatalogReply {
    std::optional<Progress> progress;
    std::optional<Catalog> catalog;
    std::optional<std::string> unconfirmed_key;
};

/// The parameters of Remove and Update.
struct NamedCatalog {
    std::string name;
};
struct RemoveCatalogReply {
    Catalog catalog;
};
struct UpdateCatalogReply {
    std::optional<Progress> progress;
    std::optional<Catalog> catalog;
    std::optional<bool> has_changed;
};

struct SignCatalog {
    std::string text;
    std::string private_key;
};
struct SignCatalogReply {
    std::string signature;
    std::string key;
    std::uint64_t serial = 0;
    std::uint64_t images = 0;
    std::uint64_t kernels = 0;
};

struct MakeKeyReply {
    std::string private_key;
    std::string public_key;
    std::string key;
};

}  // namespace banger::protocol
