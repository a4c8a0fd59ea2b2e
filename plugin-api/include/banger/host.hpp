#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "banger/result.hpp"
#include "banger/values.hpp"

/// What core gives a plugin. A plugin has no other way to the outside: no environment, no globals,
/// no configuration files of its own.
namespace banger {

enum class LogLevel { debug, info, warning, error };

/// How far a long call is. Sent as often as the plugin likes; core thins it out.
struct Progress {
    /// What is being done, as a person would say it: "downloading layer 2 of 5".
    std::string stage;
    /// Done and total in `unit`; total 0 means unknown.
    std::uint64_t done = 0;
    std::uint64_t total = 0;
    enum class Unit { none, bytes, items } unit = Unit::none;
    friend bool operator==(const Progress&, const Progress&) = default;
};

/// One call of a long-running method: how to learn that the caller has gone, and how to tell it how
/// far things are. Belongs to core; valid until the method returns. Safe from any thread.
class Call {
public:
    virtual ~Call() = default;
    [[nodiscard]] virtual std::stop_token stop() const = 0;
    /// Never blocks and never fails.
    virtual void report(const Progress& progress) = 0;
};

/// The plugin's own `[plugin.NAME]` table, checked against the schema of its manifest before the
/// library was opened: every key is known, has its type, and defaults are filled in.
using SettingValue = std::variant<bool, std::int64_t, std::string, std::vector<std::string>>;
using Settings = std::map<std::string, SettingValue, std::less<>>;

struct HttpHeader {
    std::string name;  ///< compared without regard to case
    std::string value;
    friend bool operator==(const HttpHeader&, const HttpHeader&) = default;
};

struct HttpRequest {
    std::string url;  ///< https, or http to a loopback address; anything else is refused
    std::vector<HttpHeader> headers;
    /// A body larger than this fails with Errc::corrupt as soon as that is known.
    ByteCount max_body = ByteCount::mib(4);
    /// Ask for the body from this byte on (RFC 9110, section 14). A server that sends the whole
    /// instead answers 200: the caller decides what to do with the bytes it has.
    std::uint64_t resume_from = 0;
    /// For the whole exchange; a stalled transfer (under 1 KiB/s for 30 s) ends earlier.
    std::chrono::seconds deadline{60};
};

struct HttpResponse {
    int status =
        0;  ///< after redirects. Headers named `authorization` never follow one to another host.
    std::vector<HttpHeader> headers;
    std::string body;  ///< empty for http_download()
};

/// Lives longer than the plugin. Every method is safe from any thread.
class Host {
public:
    virtual ~Host() = default;
    virtual void log(LogLevel level, std::string_view message) = 0;
    [[nodiscard]] virtual const Settings& settings() const = 0;
    /// A folder of the plugin's own, mode 0700, kept across restarts.
    [[nodiscard]] virtual const std::string& state_folder() const = 0;
    /// A folder of the plugin's own for what can be made again; may be emptied between two calls.
    [[nodiscard]] virtual const std::string& cache_folder() const = 0;
    /// A folder of the plugin's own that is gone after a reboot of the host, for sockets and marks
    /// of live things. Its path is short enough for a unix socket (sun_path is 108 bytes, unix(7)).
    [[nodiscard]] virtual const std::string& run_folder() const = 0;
    /// GET into memory. An HTTP status of 400 and above is a response, not an error. Errors:
    /// unreachable, timed_out, cancelled, corrupt (too large), permission_denied (TLS, scheme).
    virtual Result<HttpResponse> http_get(const HttpRequest& request, Call& call) = 0;
    /// GET into a descriptor, which stays the caller's; progress is reported to the call. Only a
    /// body of status 200 or 206 is written.
    virtual Result<HttpResponse> http_download(const HttpRequest& request, int sink,
                                               Call& call) = 0;
};

}  // namespace banger
