#include "core/images/upper_names.hpp"

#include <algorithm>

namespace banger::images {
namespace {

/// What is said of a path.
enum class Mark : std::uint64_t {
    replaced = 1,  ///< by anything but a folder, or removed: with all below it
    opaque = 2,    ///< what is below it is removed
    folder = 3,    ///< is a folder: removes what is none
    linked = 4,    ///< a hard link leads to it
};

std::uint64_t marked(std::uint64_t hash, Mark mark) {
    return (hash ^ static_cast<std::uint64_t>(mark)) * 0x9e3779b97f4a7c15;
}

/// The path cut before its last name, and that name.
struct Split {
    std::string_view folder;
    std::string_view name;
};

Split split(std::string_view path) {
    const std::size_t end = path.find_last_not_of('/') + 1;
    const std::size_t begin = path.substr(0, end).find_last_of('/') + 1;  // 0 where there is none
    return {.folder = path.substr(0, begin), .name = path.substr(begin, end - begin)};
}

/// Calls `visit` with the hash of each leading part of the path, the root folder's first; gives
/// the last. Stops where `visit` says so.
template <class Visitor>
std::uint64_t for_each_part(std::string_view path, Visitor visit) {
    std::uint64_t hash = hash_of_nothing;
    while (!path.empty()) {
        const std::string_view component = path.substr(0, path.find('/'));
        path.remove_prefix(std::min(path.size(), component.size() + 1));
        if (component.empty() || component == ".") continue;
        if (visit(hash)) return hash;
        hash = hash_on(hash_on(hash, "/"), component);
    }
    return hash;
}

std::uint64_t hash_of(std::string_view path) {
    return for_each_part(path, [](std::uint64_t) { return false; });
}

}  // namespace

bool is_whiteout(std::string_view path) { return split(path).name.starts_with(".wh."); }

bool UpperNames::cover(std::string_view path) const {
    bool is_covered = false;
    const std::uint64_t hash = for_each_part(path, [&](std::uint64_t part) {
        is_covered = names_.contains(marked(part, Mark::replaced)) ||
                     names_.contains(marked(part, Mark::opaque));
        return is_covered;
    });
    if (!is_covered)
        is_covered = names_.contains(marked(hash, Mark::replaced)) ||
                     names_.contains(marked(hash, Mark::folder));
    return is_covered && !names_.contains(marked(hash_of(path), Mark::linked));
}

void UpperNames::note(const TarEntry& entry) {
    if (noted_.size() + links_.size() >= limit) return;
    const std::string_view path = entry.path;
    const auto [folder, name] = split(path);
    if (name == ".wh..wh..opq") {
        noted_.push_back(marked(hash_of(folder), Mark::opaque));
    } else if (name.starts_with(".wh.")) {
        const std::uint64_t removed = hash_on(hash_on(hash_of(folder), "/"), name.substr(4));
        noted_.push_back(marked(removed, Mark::replaced));
    } else if (entry.type == TarEntry::Type::folder) {
        noted_.push_back(marked(hash_of(path), Mark::folder));
    } else {
        if (entry.type == TarEntry::Type::hard_link && !cover(path))
            links_.push_back(hash_of(entry.link_target));
        noted_.push_back(marked(hash_of(path), Mark::replaced));
    }
}

void UpperNames::end_layer() {
    std::ranges::sort(noted_);
    for (const std::uint64_t target : links_) {
        // A file of the same layer is meant, not one below.
        if (std::ranges::binary_search(noted_, marked(target, Mark::replaced))) continue;
        names_.insert(marked(target, Mark::linked));
    }
    for (const std::uint64_t each : noted_)
        names_.insert(each);
    noted_.clear();
    links_.clear();
}

}  // namespace banger::images
