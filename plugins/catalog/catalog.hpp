#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "banger/image_source.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/catalog/index.hpp"

/// All catalogs together. What one is: core/catalog/index.hpp. Safe from any thread.
namespace banger::catalog {

/// An entry and the catalog that has it.
struct Listed {
    Entry entry;
    std::string catalog;  ///< a name, the path of a file, or "built-in catalog"
    std::string base;     ///< what relative bundles are below: a URL or an absolute folder, with /
    std::string trust;    ///< why it can be trusted, for people
};

/// A catalog that could not be used, and why.
struct BrokenCatalog {
    std::string file;
    Error error;
    /// What it has, when it is only too old to be used. Empty: nobody knows what it has.
    std::vector<Entry> entries = {};
};

/// The built-in one, then the configured files in their order, of which a later entry replaces an
/// earlier one of the same kind, name and architecture; then the added ones by name, which replace
/// nothing: whoever signs a catalog cannot take over a name that is there. A broken or expired one
/// takes part with nothing.
struct Catalogs {
    std::vector<Listed> entries;
    std::vector<BrokenCatalog> broken;
    std::size_t count = 0;  ///< of those that could be used

    /// Null when no readable catalog has it.
    [[nodiscard]] const Listed* find(ArtifactKind kind, std::string_view name,
                                     std::string_view architecture) const;
    /// The catalog that has it, or may have it, and cannot be used. Null when there is none.
    [[nodiscard]] const BrokenCatalog* find_broken(ArtifactKind kind, std::string_view name) const;
};

/// The catalog that is compiled in (builtin.yaml).
std::string_view builtin_catalog();

/// Reads the files anew at every call, so that an edit counts at once. `added` is the folder of
/// AddedCatalogs; empty for none. Blocks on the disk only.
Catalogs load_catalogs(const std::vector<std::string>& files, const std::string& added,
                       std::chrono::sys_seconds now);

}  // namespace banger::catalog
