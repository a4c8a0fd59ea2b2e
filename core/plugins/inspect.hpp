#pragma once

#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

/// What `plugin verify PATH` looks at beside what the loader does.
namespace banger {

/// What an ELF library asks of the dynamic linker.
struct Linkage {
    std::vector<std::string> needed;  ///< sonames (DT_NEEDED), in its order
    std::string search_path;          ///< where to look first (DT_RUNPATH, DT_RPATH)
};
/// Nothing of it is run. Errc::corrupt for what is not a whole 64-bit library. May block on the
/// disk; any thread.
Result<Linkage> linkage_of(const UniqueFd& library);

}  // namespace banger
