#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/web.hpp"
#include "plugins/image-oci/documents.hpp"
#include "plugins/image-oci/reference.hpp"
#include "plugins/image-oci/settings.hpp"
#include "plugins/image-oci/token.hpp"

namespace banger::image_oci {

/// A document as a registry sent it.
struct SentDocument {
    std::string body;
    std::string content_type;  ///< empty when it says none
    std::string digest;        ///< Docker-Content-Digest; empty when it says none
};

/// Speaks the registry protocol (OCI distribution specification 1.1) through core's web client.
///
/// Each request goes to the mirrors of the registry first, in their order, then to itself; what
/// counts is the registry's own error. Busy and broken servers (429, 5xx, a connection that breaks)
/// are asked again, with growing waits, Retry-After heeded. Everything ends soon after the stop
/// token is triggered. Nothing that is sent here is checked against a digest: callers do. Safe from
/// any thread, many at once.
class RegistryClient {
public:
    RegistryClient(Host& host, Web& web, Options options);

    /// The manifest or index that the image's tag or digest names.
    Result<SentDocument> manifest(const ImageReference& image, Call& call);
    /// A blob into memory; Errc::corrupt when it is larger than the descriptor says.
    Result<std::string> blob(const ImageReference& image, const Descriptor& descriptor, Call& call);
    /// A blob's bytes from `resume_from` on into `sink`, as ImageSource::fetch(). A transfer that
    /// breaks goes on where it broke.
    Result<void> download(const ImageReference& image, const Descriptor& descriptor,
                          std::uint64_t resume_from, const UniqueFd& sink, const std::string& stage,
                          Call& call);

    [[nodiscard]] const Options& options() const { return options_; }
    [[nodiscard]] const Credentials& credentials() const { return tokens_.credentials(); }

private:
    struct Transfer;
    std::vector<Endpoint> endpoints(const ImageReference& image) const;
    Result<WebResponse> ask(const ImageReference& image, const std::string& path,
                            const WebRequest& prototype, Call& call);
    Result<WebResponse> ask_patiently(const Endpoint& endpoint, const std::string& path,
                                      const WebRequest& prototype, Call& call);
    Result<WebResponse> ask_once(const Endpoint& endpoint, const std::string& path,
                                 WebRequest request, int sink, Call& call);
    Result<void> download_from(const Endpoint& endpoint, Transfer& transfer, Call& call);
    Result<std::string> scheme_of(const Endpoint& endpoint, Call& call);
    Error refused(const Endpoint& endpoint, const std::string& what, const WebResponse& response);
    Result<void> wait(const Endpoint& endpoint, int attempt, const WebResponse* response,
                      Call& call);

    Host& host_;
    Web& web_;
    const Options options_;
    Tokens tokens_;
    std::mutex mutex_;
    std::map<std::string, std::string> schemes_;  ///< of hosts that may be plain
};

/// How long a server wants us to stay away: Retry-After in seconds or as a date (RFC 9110, section
/// 10.2.3). Nothing when it does not say, or nothing that makes sense.
std::optional<std::chrono::seconds> retry_after(const WebResponse& response,
                                                std::chrono::system_clock::time_point now);

}  // namespace banger::image_oci
