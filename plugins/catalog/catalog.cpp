#include "plugins/catalog/catalog.hpp"

#include <algorithm>

#include "core/base/file.hpp"

namespace banger::catalog {

namespace {

Result<std::vector<Entry>> read_catalog(const std::string& file) {
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

void merge(std::vector<Entry>& into, std::vector<Entry> later) {
    for (Entry& entry : later) {
        std::erase_if(into, [&](const Entry& earlier) {
            return earlier.kind == entry.kind && earlier.name == entry.name &&
                   earlier.architecture == entry.architecture;
        });
        into.push_back(std::move(entry));
    }
}

}  // namespace

const Entry* Catalogs::find(ArtifactKind kind, std::string_view name,
                            std::string_view architecture) const {
    const auto found = std::ranges::find_if(entries, [&](const Entry& entry) {
        return entry.kind == kind && entry.name.str() == name && entry.architecture == architecture;
    });
    return found == entries.end() ? nullptr : &*found;
}

Catalogs load_catalogs(const std::vector<std::string>& files) {
    Catalogs all;
    const auto add = [&](const std::string& file, Result<std::vector<Entry>> read) {
        if (read)
            merge(all.entries, *std::move(read));
        else
            all.broken.push_back({file, std::move(read).error()});
    };
    add("built-in catalog", parse_catalog(builtin_catalog(), "built-in catalog"));
    for (const std::string& file : files)
        add(file, read_catalog(file));
    return all;
}

}  // namespace banger::catalog
