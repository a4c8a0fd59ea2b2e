#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"

namespace banger::image_oci {

/// Where a registry may be asked instead.
struct Mirror {
    std::string registry;  ///< whose place it takes: "docker.io"
    std::string host;      ///< "mirror.example:5000"
    std::string prefix;    ///< before the repository, with its slash at the end; or empty
    friend bool operator==(const Mirror&, const Mirror&) = default;
};

/// How long things may take. The defaults are for people; tests have less time.
struct Patience {
    int attempts = 5;                                ///< in a row without a byte more
    std::chrono::milliseconds first_wait{500};       ///< doubles with each attempt, ± a quarter
    std::chrono::milliseconds longest_wait{60'000};  ///< a server that wants more is given up
    std::chrono::seconds document{60};               ///< one request for a document
    std::chrono::seconds blob{600};                  ///< a part, and a second more for each…
    ByteCount blob_second = ByteCount::kib(32);      ///< … of these
    std::chrono::milliseconds helper{30'000};        ///< a credential helper
};

/// `[plugin.image-oci]`, checked.
struct Options {
    std::string default_registry = "docker.io";
    std::vector<Mirror> mirrors;
    std::vector<std::string> insecure_registries;
    std::string docker_config;  ///< absolute; empty when there is no home
    Patience patience;

    [[nodiscard]] bool may_be_plain(std::string_view registry) const;
};

/// Errc::invalid_argument names the setting.
Result<Options> read_options(const Settings& settings, const std::string& home);

}  // namespace banger::image_oci
