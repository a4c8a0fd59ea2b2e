#include "core/base/open_beneath.hpp"

#include <fcntl.h>

#include <string>

namespace banger {

UniqueFd open_beneath(int folder, std::string_view path, int flags) {
    UniqueFd inner;
    for (std::size_t slash = 0; (slash = path.find('/')) != path.npos;) {
        const std::string part(path.substr(0, slash));
        inner.reset(::openat(inner ? inner.get() : folder, part.c_str(),
                             O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!inner) return {};
        path.remove_prefix(slash + 1);
    }
    return UniqueFd(::openat(inner ? inner.get() : folder, std::string(path).c_str(),
                             flags | O_NOFOLLOW | O_CLOEXEC));
}

}  // namespace banger
