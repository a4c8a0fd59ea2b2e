#pragma once

#include <cstdint>
#include <string>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger {

/// A tap device under construction. It goes with the descriptor, whatever happens to us, until
/// keep() makes it stay. Names are at most 15 bytes (IFNAMSIZ).
class Tap {
public:
    /// Errc::already_exists when there is any interface of that name. `owner` is the one uid that
    /// may open it without CAP_NET_ADMIN.
    static Result<Tap> make(const std::string& name, std::uint32_t owner);
    /// From now on it outlives us.
    Result<void> keep();
    /// Opens one that exists, as a VMM does: reads and writes are frames. Errc::permission_denied
    /// for another user than its owner.
    static Result<UniqueFd> open(const std::string& name);

private:
    explicit Tap(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

}  // namespace banger
