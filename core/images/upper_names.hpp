#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/images/hash_set.hpp"
#include "core/images/tar_reader.hpp"

namespace banger::images {

/// Does the path name something to remove, and nothing to keep? OCI image layer specification.
bool is_whiteout(std::string_view path);

/// What the layers above one do to its names, to guess whose data need not be written.
///
/// A guess: paths are taken as they stand, so symbolic links on the way, hard links that come later
/// in the same layer, and hashes that meet are not seen. The writer finds out whether it was right.
/// 16 MiB at most; what does not fit is not known and hence written.
class UpperNames {
public:
    /// Is this file, or a folder on the way to it, replaced or removed further up, and no link to
    /// it left?
    [[nodiscard]] bool cover(std::string_view path) const;
    /// Called for each entry of a layer, from the top layer down; end_layer() makes them count.
    void note(const TarEntry& entry);
    void end_layer();

private:
    static constexpr std::size_t limit = std::size_t{1} << 20;

    HashSet names_{limit};
    std::vector<std::uint64_t> noted_;  ///< of the layer that is being read
    std::vector<std::uint64_t> links_;  ///< paths that its hard links lead to
};

}  // namespace banger::images
