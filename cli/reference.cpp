#include "cli/reference.hpp"

#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>

namespace banger::cli {

Result<std::string> absolute_reference(const std::string& reference) {
    for (const std::string prefix : {"oci:", "oci-archive:", "docker-archive:"}) {
        if (!reference.starts_with(prefix)) continue;
        const std::string path = reference.substr(prefix.size());
        if (path.empty() || path.starts_with('/')) return reference;
        // The shell expands a tilde only at the beginning of a word.
        if (const char* home = std::getenv("HOME"); home && path.starts_with("~/"))
            return prefix + home + path.substr(1);
        char folder[PATH_MAX];
        if (::getcwd(folder, sizeof folder) == nullptr) return Error::from_errno(errno, "getcwd");
        return prefix + folder + "/" + path;
    }
    return reference;
}

}  // namespace banger::cli
