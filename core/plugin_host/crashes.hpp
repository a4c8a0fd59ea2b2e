#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "core/rpc/fields.hpp"

namespace banger::plugin_host {

struct Crash {
    std::int64_t seconds = 0;  ///< since 1970, UTC
    std::string what;          ///< "killed by signal 11"
};

/// The crashes of one plugin, in a file, so that a bangerd that is started anew still knows.
/// Another `identity` (of the plugin's file) is another plugin, which has none yet. Not
/// thread-safe.
class Crashes {
public:
    struct Limit {
        std::size_t count = 3;
        std::chrono::seconds window{600};
    };
    /// An empty path remembers nothing. What cannot be read is forgotten.
    Crashes(std::string path, std::string identity, Limit limit);

    /// When it cannot be written down it counts all the same.
    Result<void> add(const std::string& what);
    Result<void> forget();
    /// Too many have come one after the other, for good: none can be added while it lasts.
    [[nodiscard]] bool is_too_many() const;
    /// Empty: there was none.
    [[nodiscard]] std::string last() const { return list_.empty() ? "" : list_.back().what; }

private:
    const std::string path_;
    const std::string identity_;
    const Limit limit_;
    std::vector<Crash> list_;  ///< at most limit_.count, the last
};

}  // namespace banger::plugin_host

template <>
struct banger::rpc::Fields<banger::plugin_host::Crash> {
    using T = banger::plugin_host::Crash;
    static constexpr auto list = fields(field("seconds", &T::seconds), field("what", &T::what));
};
