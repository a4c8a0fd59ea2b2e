#pragma once

#include <optional>
#include <string>

#include "banger/host.hpp"

/// More of the web than a file from a server: what a plugin needs that speaks to registries.
///
/// Apart from Host, so that a plugin that was built before it fits as it did.
namespace banger {

struct WebRequest : HttpRequest {
    WebRequest() = default;
    WebRequest(const HttpRequest& request) : HttpRequest(request) {}  // NOLINT: it is one

    /// Given: a POST with this body, a form unless a header says otherwise. It may hold secrets, so
    /// no redirect is followed: it is the response.
    std::optional<std::string> post;
    /// http is allowed to the host and port of `url` also when that is another machine, because the
    /// owner said so.
    bool may_be_plain = false;
    /// Only to an address of the internet: for a `url` that a server of the internet named, which
    /// has no business to send us to this machine or into its private network.
    bool must_be_public = false;
    /// A download writes what was asked for or nothing: a server that answers `resume_from` with
    /// the whole is Errc::unsupported, one that answers with another range Errc::corrupt.
    bool must_resume = false;
};

struct WebResponse : HttpResponse {
    /// Whether `url` itself led to the internet, as opposed to a private network or this machine.
    bool is_public = false;
};

/// A Host that core makes is a Web too. Every method is safe from any thread.
class Web {
public:
    virtual ~Web() = default;
    /// As Host::http_get(), and http_download(). The last report of a download, also before an
    /// error, has as `done` the position (resume_from included) up to which the sink has the bytes.
    virtual Result<WebResponse> web_get(const WebRequest& request, Call& call) = 0;
    virtual Result<WebResponse> web_download(const WebRequest& request, int sink, Call& call) = 0;
};

/// Null for a Host of an older banger.
inline Web* web_of(Host& host) { return dynamic_cast<Web*>(&host); }

}  // namespace banger
