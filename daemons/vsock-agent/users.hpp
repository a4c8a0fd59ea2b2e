#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"

namespace banger::agent {

/// Who a command runs as.
struct ImageUser {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;  ///< supplementary ones
    std::string home;
    std::string shell;  ///< of the passwd file; may be empty
    friend bool operator==(const ImageUser&, const ImageUser&) = default;
};

/// `wanted` as an image's configuration has it: "", "name", "uid", "name:group", "uid:gid", looked
/// up in the texts of the image's passwd(5) and group(5), either of which may be empty: numbers
/// need no entry, and root is always there. Groups of a user are those that name it, unless one is
/// asked for. No NSS: the image may have no library at all. Errc::not_found for an unknown name.
Result<ImageUser> find_user(std::string_view wanted, std::string_view passwd,
                            std::string_view group);

}  // namespace banger::agent
