#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger::image_oci {

/// Where the files of a tar archive lie in it, so that they can be read in any order and none is
/// copied.
///
/// Reads the headers alone (ustar, GNU long names, PAX path, linkpath and size), by pread(2). Names
/// are as in the archive, without "./" in front; links inside the archive lead to what they mean.
/// Errc::corrupt for what is no tar archive or is damaged; more than 100,000 entries are refused.
class TarIndex {
public:
    struct Entry {
        std::uint64_t offset = 0;  ///< of its bytes in the archive
        std::uint64_t size = 0;
        friend bool operator==(const Entry&, const Entry&) = default;
    };

    static Result<TarIndex> read(const UniqueFd& archive);

    /// The file of that name; null when there is none.
    [[nodiscard]] const Entry* find(const std::string& name) const;
    [[nodiscard]] std::size_t size() const { return files_.size(); }

private:
    class Walk;
    std::map<std::string, Entry> files_;
    std::map<std::string, std::string> links_;
};

}  // namespace banger::image_oci
