#pragma once

#include <chrono>
#include <string>

#include "banger/result.hpp"
#include "banger/web.hpp"

namespace banger {

/// The one way out to the web, so that TLS, proxies, sizes, time and redirects are decided once.
///
/// - https, or http to a loopback address (and where a request says that it may be plain).
///   Certificates are always verified. Proxies come from the environment (https_proxy, no_proxy),
///   never for loopback.
/// - At most 10 redirects, none for a POST; never from https to http, never from the internet to a
///   private network or this machine, nor from a private network to this machine; an
///   `authorization` header is not sent to another host, port or scheme than the first.
/// - An address in 169.254.0.0/16 or fe80::/10 (cloud metadata, link-local) is refused, whether
///   written or resolved. A proxy resolves names itself, so behind one only written ones are seen.
/// - A stop request, the deadline and a stall end the exchange at once; a stop within milliseconds,
///   also while a name is being resolved and while `sink` is a full pipe.
///
/// Every method blocks and is safe from any thread, many at once. libcurl is set up at the first
/// call, so that a program that never fetches does not pay for it.
class HttpClient {
public:
    struct Limits {
        std::uint64_t stall_bytes_per_second = 1024;
        std::chrono::seconds stall_time{30};
        std::chrono::seconds connect_time{30};
        int redirects = 10;
        /// Trust anchors instead of the system's; empty: the system's. For tests.
        std::string ca_file;
        /// An address that is taken for one of the internet. For tests.
        std::string internet_address;
    };
    HttpClient() = default;
    explicit HttpClient(Limits limits) : limits_(std::move(limits)) {}

    /// As Web::web_get().
    Result<WebResponse> get(const WebRequest& request, Call& call);
    /// As Web::web_download().
    Result<WebResponse> download(const WebRequest& request, int sink, Call& call);

private:
    Limits limits_;
};

}  // namespace banger
