#include "plugins/catalog/catalog.hpp"

#include <algorithm>

#include "core/base/file.hpp"
#include "core/catalog/added.hpp"

namespace banger::catalog {

namespace {

Result<Index> read_catalog(const std::string& file) {
    if (!file.starts_with('/'))
        return Error(Errc::invalid_argument, "the catalog \"" + file + "\" is not an absolute path",
                     "Write the whole path in [plugin.catalog] files.");
    Result<std::string> text = read_file(file, max_catalog_size);
    if (!text) {
        Error error = std::move(text).error().context("reading the catalog " + file);
        error.remedy = "Correct the path in [plugin.catalog] files, or remove it there.";
        return error;
    }
    return parse_catalog(*text, file);
}

bool is_same(const Entry& one, const Entry& other) {
    return one.kind == other.kind && one.name == other.name &&
           one.architecture == other.architecture;
}

/// What all entries of one catalog have in common.
struct Origin {
    std::string catalog;
    std::string base;
    std::string trust;
    bool may_replace = false;
};

void merge(std::vector<Listed>& into, Index index, const Origin& origin) {
    for (Entry& entry : index.entries) {
        const auto is_taken = [&](const Listed& earlier) { return is_same(earlier.entry, entry); };
        if (origin.may_replace)
            std::erase_if(into, is_taken);
        else if (std::ranges::any_of(into, is_taken))
            continue;
        into.push_back({std::move(entry), origin.catalog, origin.base, origin.trust});
    }
}

}  // namespace

const Listed* Catalogs::find(ArtifactKind kind, std::string_view name,
                             std::string_view architecture) const {
    const auto found = std::ranges::find_if(entries, [&](const Listed& listed) {
        return listed.entry.kind == kind && listed.entry.name.str() == name &&
               listed.entry.architecture == architecture;
    });
    return found == entries.end() ? nullptr : &*found;
}

const BrokenCatalog* Catalogs::find_broken(ArtifactKind kind, std::string_view name) const {
    const auto found = std::ranges::find_if(broken, [&](const BrokenCatalog& each) {
        return each.entries.empty() || std::ranges::any_of(each.entries, [&](const Entry& entry) {
                   return entry.kind == kind && entry.name.str() == name;
               });
    });
    return found == broken.end() ? nullptr : &*found;
}

Catalogs load_catalogs(const std::vector<std::string>& files, const std::string& added,
                       std::chrono::sys_seconds now) {
    Catalogs all;
    const auto add = [&](Result<Index> index, const Origin& origin) {
        if (!index) {
            all.broken.push_back({origin.catalog, std::move(index).error()});
            return;
        }
        if (const Result<void> fresh = check_not_expired(*index, now, origin.catalog); !fresh) {
            all.broken.push_back({origin.catalog, fresh.error(), std::move(index->entries)});
            return;
        }
        merge(all.entries, *std::move(index), origin);
        ++all.count;
    };
    add(parse_catalog(builtin_catalog(), "built-in catalog"),
        {"built-in catalog", {}, "sha256 pinned in the catalog", true});
    for (const std::string& file : files)
        add(read_catalog(file),
            {file, parent_path(file) + "/", "sha256 pinned in the catalog " + file, true});
    if (added.empty()) return all;
    const auto report = [&](const Error& error) { all.broken.push_back({added, error}); };
    for (const AddedCatalog& catalog : read_added(added, report)) {
        const Result<Place> place = parse_place(catalog.place);
        const std::string& name = catalog.name.str();
        if (!place) {
            all.broken.push_back({name, place.error()});
            continue;
        }
        add(parse_catalog(catalog.text, name),
            {name, place->base,
             "sha256 pinned in the catalog " + name +
                 (catalog.key ? ", signed by " + *catalog.key : ""),
             false});
    }
    return all;
}

}  // namespace banger::catalog
