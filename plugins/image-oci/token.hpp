#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "banger/result.hpp"
#include "banger/web.hpp"
#include "core/base/keyed_lock.hpp"
#include "plugins/image-oci/challenge.hpp"
#include "plugins/image-oci/credentials.hpp"

namespace banger::image_oci {

/// One place where a repository can be asked for: its registry, or a mirror.
struct Endpoint {
    std::string registry;    ///< whose login it wants: "docker.io", "mirror.example"
    std::string host;        ///< what to connect to: "registry-1.docker.io"
    std::string repository;  ///< there, so with a mirror's prefix
    bool may_be_plain = false;
    [[nodiscard]] std::string key() const { return host + "/" + repository; }
};

/// What to say in the Authorization header, and what is known about why it may not do.
struct Access {
    std::string header;  ///< empty: nothing
    bool has_login = false;
    std::optional<Error> login_problem;
};

/// Gets access to repositories as their registries ask for it, and keeps it while it holds. A
/// header is a secret: it is given to the endpoint alone. Safe from any thread.
class Tokens {
public:
    Tokens(Web& web, const Options& options)
        : web_(web),
          credentials_(options.docker_config, options.patience.helper),
          deadline_(options.patience.document) {}

    /// What was granted before and still holds; an empty one otherwise.
    Access known(const Endpoint& endpoint);

    /// After `refusal`, a 401 that answered a request with `used`: access for another try. Several
    /// callers that were refused at once ask the token server once. An empty header when the
    /// registry wants a login that there is none of.
    Result<Access> renew(const Endpoint& endpoint, const WebResponse& refusal, const Access& used,
                         Call& call);

    [[nodiscard]] const Credentials& credentials() const { return credentials_; }

private:
    struct Granted {
        Access access;
        std::chrono::steady_clock::time_point until;
    };
    Result<Granted> ask(const Endpoint& endpoint, const Challenge& challenge,
                        const WebResponse& refusal, Call& call);
    Result<WebResponse> ask_server(const Endpoint& endpoint, const Challenge& challenge,
                                   const Login& login, bool must_be_public, Call& call);

    Web& web_;
    Credentials credentials_;
    std::chrono::seconds deadline_;
    KeyedLock turns_;
    std::mutex mutex_;
    std::map<std::string, Granted> granted_;
};

/// Errc::permission_denied for a token server that must not be asked: one without encryption, but
/// for that of a registry that may be plain, at the same host or on loopback both.
Result<void> check_realm(const std::string& realm, const Endpoint& endpoint);

/// The values of all headers of that name.
std::vector<std::string> header_values(const WebResponse& response, const char* name);

}  // namespace banger::image_oci
