#pragma once

#include <chrono>
#include <string>

#include "banger/host.hpp"
#include "banger/result.hpp"

namespace banger {

/// The one way out to the web, so that TLS, proxies, sizes, time and redirects are decided once.
///
/// - https, or http to a loopback address. Certificates are always verified. Proxies come from the
///   environment (https_proxy, no_proxy), never for loopback.
/// - At most 10 redirects; never from https to http unless to loopback; an `authorization` header
/// is
///   not sent to another host, port or scheme than the first.
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
    };
    HttpClient() = default;
    explicit HttpClient(Limits limits) : limits_(std::move(limits)) {}

    /// As Host::http_get().
    Result<HttpResponse> get(const HttpRequest& request, Call& call);
    /// As Host::http_download().
    Result<HttpResponse> download(const HttpRequest& request, int sink, Call& call);

private:
    Limits limits_;
};

}  // namespace banger
