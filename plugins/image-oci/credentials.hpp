#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "plugins/image-oci/settings.hpp"

namespace banger::image_oci {

/// What to show a registry. Never written to a log, a message or a command line.
struct Login {
    std::string user;
    std::string password;
    std::string identity_token;  ///< instead of the two: exchanged for tokens by OAuth2
    [[nodiscard]] bool is_empty() const { return user.empty() && identity_token.empty(); }
};

/// The logins that docker, podman and skopeo keep.
///
/// The file is read at each use, so a `docker login` counts at once. Safe from any thread.
class Credentials {
public:
    /// `file` as Options::docker_config.
    Credentials(std::string file, std::chrono::milliseconds helper_deadline)
        : file_(std::move(file)), helper_deadline_(helper_deadline) {}

    /// The login for a repository; an empty one when there is none. Podman's entries for a part of
    /// a registry ("ghcr.io/team") count before those of the whole. Fails when the file is broken
    /// or a helper fails; a file that is not there is no failure.
    Result<Login> find(const std::string& registry, const std::string& repository,
                       std::stop_token stop) const;

    [[nodiscard]] Check check() const;

private:
    Result<Login> ask_helper(const std::string& name, const std::string& registry,
                             std::stop_token stop) const;
    std::string file_;
    std::chrono::milliseconds helper_deadline_;
};

/// "docker-credential-NAME" when NAME is `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
Result<std::string> helper_program(std::string_view name);

}  // namespace banger::image_oci
