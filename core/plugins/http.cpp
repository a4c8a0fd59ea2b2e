#include "core/plugins/http.hpp"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <poll.h>
#include <signal.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <memory>
#include <mutex>
#include <optional>

#include "core/base/names.hpp"
#include "core/base/process.hpp"

namespace banger {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t max_header_bytes = 256 << 10;

struct FreeUrl {
    void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
struct FreeEasy {
    void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct FreeMulti {
    void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct FreeList {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Url = std::unique_ptr<CURLU, FreeUrl>;

/// Writing to a socket or pipe whose reader has gone must be an error, not the end of the program,
/// whatever that program does about SIGPIPE.
class NoSigpipe {
public:
    NoSigpipe() {
        sigemptyset(&pipe_);
        sigaddset(&pipe_, SIGPIPE);
        sigset_t pending;
        sigpending(&pending);
        was_pending_ = sigismember(&pending, SIGPIPE) == 1;
        ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    }
    NoSigpipe(const NoSigpipe&) = delete;
    NoSigpipe& operator=(const NoSigpipe&) = delete;
    ~NoSigpipe() {
        const timespec now{};
        if (!was_pending_) static_cast<void>(::sigtimedwait(&pipe_, nullptr, &now));
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t pipe_;
    sigset_t before_;
    bool was_pending_ = false;
};

void set_up_curl() {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

std::string part_of(const Url& url, CURLUPart part, unsigned flags = 0) {
    char* text = nullptr;
    if (curl_url_get(url.get(), part, &text, flags) != CURLUE_OK) return "";
    std::string result = text;
    curl_free(text);
    return result;
}

Error bad_url(std::string_view url, const std::string& why) {
    return {Errc::permission_denied, quoted(url) + " is refused: " + why,
            "Use an https address, or http to this very machine."};
}

/// "[::1]" without its brackets.
std::string bare_host(const Url& url) {
    std::string host = part_of(url, CURLUPART_HOST);
    if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
    return host;
}

bool is_loopback(const sockaddr* address) {
    if (address->sa_family == AF_INET) {
        const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
    return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

bool is_link_local_v4(std::uint32_t host_order) { return host_order >> 16 == 0xa9fe; }

/// ::ffff:a.b.c.d and 64:ff9b::a.b.c.d (NAT64, RFC 6052) are IPv4 in disguise.
std::optional<std::uint32_t> disguised_v4(const in6_addr& v6) {
    constexpr std::array<std::uint8_t, 12> nat64{0, 0x64, 0xff, 0x9b};
    if (!IN6_IS_ADDR_V4MAPPED(&v6) && !std::equal(nat64.begin(), nat64.end(), v6.s6_addr))
        return std::nullopt;
    std::uint32_t bits = 0;
    for (int i = 12; i < 16; ++i)
        bits = bits << 8 | v6.s6_addr[i];
    return bits;
}

bool is_link_local(const sockaddr* address) {
    if (address->sa_family == AF_INET) {
        const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
        return is_link_local_v4(ntohl(v4->sin_addr.s_addr));
    }
    if (address->sa_family != AF_INET6) return false;
    const in6_addr& v6 = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
    const std::optional<std::uint32_t> v4 = disguised_v4(v6);
    return v4 ? is_link_local_v4(*v4) : IN6_IS_ADDR_LINKLOCAL(&v6);
}

/// How far an address is from here. A redirect leads only outwards.
enum class Reach { this_machine, private_network, internet };

Reach reach_of_v4(std::uint32_t bits) {
    struct Range {
        std::uint32_t network;
        unsigned length;
    };
    // RFC 6890. 0.0.0.0 connects to this machine.
    constexpr std::array here{Range{0x7f000000, 8}, Range{0, 8}};
    constexpr std::array inside{Range{0x0a000000, 8},  Range{0xac100000, 12}, Range{0xc0a80000, 16},
                                Range{0x64400000, 10}, Range{0xa9fe0000, 16}, Range{0xe0000000, 3}};
    const auto has = [&](const Range& range) {
        return (bits ^ range.network) >> (32 - range.length) == 0;
    };
    if (std::ranges::any_of(here, has)) return Reach::this_machine;
    return std::ranges::any_of(inside, has) ? Reach::private_network : Reach::internet;
}

Reach reach_of(const sockaddr* address) {
    if (address->sa_family == AF_INET)
        return reach_of_v4(ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr));
    if (address->sa_family != AF_INET6) return Reach::this_machine;
    const in6_addr& v6 = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
    if (IN6_IS_ADDR_LOOPBACK(&v6) || IN6_IS_ADDR_UNSPECIFIED(&v6)) return Reach::this_machine;
    if (const std::optional<std::uint32_t> v4 = disguised_v4(v6)) return reach_of_v4(*v4);
    const bool is_unique_local = (v6.s6_addr[0] & 0xfe) == 0xfc;
    const bool is_inside =
        is_unique_local || IN6_IS_ADDR_LINKLOCAL(&v6) || IN6_IS_ADDR_MULTICAST(&v6);
    return is_inside ? Reach::private_network : Reach::internet;
}

/// The address that a host part spells out; nothing for a name.
std::optional<sockaddr_storage> literal_address(const std::string& host) {
    sockaddr_storage storage{};
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        return storage;
    }
    if (::inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        return storage;
    }
    return std::nullopt;
}

/// One stop of the way through redirects.
struct Hop {
    Url url;
    std::string text;
    std::string scheme;
    std::string host;
    std::string port;
    bool is_loopback = false;    ///< as it is written
    std::optional<Reach> reach;  ///< where it is written; a name's is known when it is resolved

    [[nodiscard]] bool same_origin(const Hop& other) const {
        return scheme == other.scheme && host == other.host && port == other.port;
    }
};

Result<Hop> make_hop(const std::string& text, const Hop* from) {
    Hop hop;
    hop.url.reset(from ? curl_url_dup(from->url.get()) : curl_url());
    // A redirect may be relative to where it came from; an address a caller wrote may not.
    if (!hop.url || curl_url_set(hop.url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK)
        return bad_url(text, "it is no address of the web");
    hop.text = part_of(hop.url, CURLUPART_URL);
    hop.scheme = part_of(hop.url, CURLUPART_SCHEME);
    hop.host = bare_host(hop.url);
    std::ranges::transform(hop.host, hop.host.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    hop.port = part_of(hop.url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    if (hop.scheme != "https" && hop.scheme != "http")
        return bad_url(text, "its scheme is " + quoted(hop.scheme));
    if (!part_of(hop.url, CURLUPART_USER).empty() || !part_of(hop.url, CURLUPART_PASSWORD).empty())
        return bad_url(text, "it has a user or password in it");
    const std::optional<sockaddr_storage> literal = literal_address(hop.host);
    const auto* address = literal ? reinterpret_cast<const sockaddr*>(&*literal) : nullptr;
    hop.is_loopback = hop.host == "localhost" || (address && is_loopback(address));
    if (address) hop.reach = reach_of(address);
    if (address && is_link_local(address)) return bad_url(text, "it is a link-local address");
    return hop;
}

/// `plain` is where http may go besides loopback; null: nowhere.
Result<void> check_encrypted(const Hop& hop, const Hop* plain) {
    const bool is_allowed = hop.is_loopback || (plain && hop.same_origin(*plain));
    if (hop.scheme == "http" && !is_allowed) return bad_url(hop.text, "it is not encrypted");
    return ok();
}

/// Whether libcurl may ask a proxy (libcurl-env(3)); no_proxy is not looked at.
bool has_proxy() {
    return std::ranges::any_of(
        std::array{"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"},
        [](const char* name) {
            const char* value = ::getenv(name);
            return value && *value;
        });
}

/// One request and its answer: what curl's callbacks work on.
class Exchange {
public:
    Exchange(const WebRequest& request, const HttpClient::Limits& limits, int sink, Call& call)
        : request_(request),
          limits_(limits),
          sink_(sink),
          call_(call),
          stop_(call.stop()),
          end_(Clock::now() + request.deadline),
          easy_(curl_easy_init()),
          multi_(curl_multi_init()) {}

    Result<WebResponse> run();

private:
    static std::size_t on_header(char* data, std::size_t, std::size_t size, void* self) {
        return static_cast<Exchange*>(self)->header({data, size}) ? size : 0;
    }
    static std::size_t on_body(char* data, std::size_t, std::size_t size, void* self) {
        return static_cast<Exchange*>(self)->body({data, size}) ? size : 0;
    }
    static curl_socket_t on_socket(void* self, curlsocktype, curl_sockaddr* address) {
        return static_cast<Exchange*>(self)->open_socket(*address);
    }
    bool header(std::string_view line);
    bool body(std::string_view bytes);
    bool write(std::string_view bytes);
    curl_socket_t open_socket(const curl_sockaddr& address);
    Result<void> check_reach(Reach reach) const;
    Result<void> check_range() const;
    bool fail(Error error) {
        failure_ = std::move(error);
        return false;
    }
    void report(bool is_last);
    Result<WebResponse> follow();

    Result<void> prepare(const Hop& hop, const Hop& first);
    Result<void> perform(const Hop& hop);
    [[nodiscard]] bool is_internet(const sockaddr* address) const;
    [[nodiscard]] Error error_of(CURLcode code, const Hop& hop) const;
    [[nodiscard]] Error cancelled() const {
        return {Errc::cancelled, "the request to " + quoted(request_.url) + " was cancelled"};
    }
    [[nodiscard]] Error out_of_time() const {
        return {Errc::timed_out,
                quoted(request_.url) + " took longer than " +
                    std::to_string(request_.deadline.count()) + " s",
                "Try again, or look at the network."};
    }
    [[nodiscard]] Error too_large() const {
        return {
            Errc::corrupt,
            "the answer of " + quoted(request_.url) + " is larger than " + request_.max_body.text(),
            "Check that the address is right."};
    }

    const WebRequest& request_;
    const HttpClient::Limits& limits_;
    const int sink_;
    Call& call_;
    const std::stop_token stop_;
    const Clock::time_point end_;
    std::unique_ptr<CURL, FreeEasy> easy_;
    std::unique_ptr<CURLM, FreeMulti> multi_;
    std::unique_ptr<curl_slist, FreeList> headers_;
    std::array<char, CURL_ERROR_SIZE> detail_{};

    /// Where the first hop led. Nothing before it was resolved.
    std::optional<Reach> first_reach_;
    bool is_first_ = true;

    // Of the present hop.
    const Hop* hop_ = nullptr;
    WebResponse response_;
    std::size_t header_bytes_ = 0;
    std::uint64_t received_ = 0;
    std::uint64_t written_ = 0;  ///< of it into the sink
    bool is_checked_ = false;    ///< the range of the answer
    std::optional<std::uint64_t> announced_;
    Clock::time_point reported_{};
    std::optional<Error> failure_;
};

bool Exchange::header(std::string_view line) {
    header_bytes_ += line.size();
    if (header_bytes_ > max_header_bytes)
        return fail({Errc::corrupt, "the headers of " + quoted(hop_->text) + " are too long",
                     "Check that the address is right."});
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n'))
        line.remove_suffix(1);
    if (line.starts_with("HTTP/")) {  // also after a 100 Continue or a proxy's answer
        response_ = {};
        announced_.reset();
        const std::size_t space = line.find(' ');
        const std::string_view digits =
            space == line.npos ? std::string_view() : line.substr(space + 1, 3);
        std::from_chars(digits.data(), digits.data() + digits.size(), response_.status);
        return true;
    }
    const std::size_t colon = line.find(':');
    if (colon == line.npos) return true;
    HttpHeader header{std::string(line.substr(0, colon)), std::string(line.substr(colon + 1))};
    header.value.erase(0, header.value.find_first_not_of(" \t"));
    if (::strcasecmp(header.name.c_str(), "content-length") == 0) {
        std::uint64_t length = 0;
        const char* end = header.value.data() + header.value.size();
        if (std::from_chars(header.value.data(), end, length).ec == std::errc())
            announced_ = length;
    }
    response_.headers.push_back(std::move(header));
    return true;
}

bool Exchange::body(std::string_view bytes) {
    const bool is_wanted = sink_ < 0 || response_.status == 200 || response_.status == 206;
    if (sink_ >= 0 && is_wanted && !is_checked_) {
        is_checked_ = true;
        if (Result<void> right = check_range(); !right) return fail(std::move(right).error());
    }
    received_ += bytes.size();
    if (received_ > request_.max_body.count() || announced_.value_or(0) > request_.max_body.count())
        return fail(too_large());
    if (!is_wanted) return true;
    if (sink_ < 0) {
        response_.body.append(bytes);
        return true;
    }
    if (!write(bytes)) return false;
    report(false);
    return true;
}

/// Half of a file followed by its beginning would be found out only at the end.
Result<void> Exchange::check_range() const {
    const std::uint64_t from = request_.resume_from;
    if (!request_.must_resume) return ok();
    if (response_.status == 200) {
        if (from == 0) return ok();
        return Error(Errc::unsupported,
                     "the server cannot continue a download of " + quoted(request_.url),
                     "Download it from the beginning.");
    }
    const auto header = std::ranges::find_if(response_.headers, [](const HttpHeader& each) {
        return ::strcasecmp(each.name.c_str(), "content-range") == 0;
    });
    // RFC 9110, section 14.4: "bytes 4-9/10".
    if (from > 0 && header != response_.headers.end() &&
        header->value.starts_with("bytes " + std::to_string(from) + "-"))
        return ok();
    return Error(Errc::corrupt,
                 quoted(request_.url) + " answered with another range than was asked for",
                 "Try again.");
}

/// A full pipe is waited for here, with an eye on the stop token; a reader that went away is a
/// caller that went away.
bool Exchange::write(std::string_view bytes) {
    struct stat status = {};
    const bool is_file = ::fstat(sink_, &status) == 0 && S_ISREG(status.st_mode);
    while (!bytes.empty()) {
        if (!is_file) {
            const auto left =
                std::chrono::duration_cast<std::chrono::milliseconds>(end_ - Clock::now());
            const Result<int> ready =
                poll_fd(sink_, POLLOUT, std::max(left, std::chrono::milliseconds(0)), stop_);
            if (!ready) return fail(ready.error());
            if (*ready == 0) return fail(out_of_time());
        }
        // POLLOUT on a pipe promises room for PIPE_BUF bytes; more could block out of reach.
        const std::size_t most =
            is_file ? bytes.size() : std::min<std::size_t>(bytes.size(), PIPE_BUF);
        const ssize_t done = ::write(sink_, bytes.data(), most);
        if (done < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (done < 0 && errno == EPIPE) return fail(cancelled());
        if (done < 0) return fail(Error::from_errno(errno, "writing what was downloaded"));
        written_ += static_cast<std::uint64_t>(done);
        bytes.remove_prefix(static_cast<std::size_t>(done));
    }
    return true;
}

void Exchange::report(bool is_last) {
    const Clock::time_point now = Clock::now();
    const bool is_end = is_last || (announced_ && received_ == *announced_);
    if (now - reported_ < std::chrono::milliseconds(100) && !is_end) return;
    reported_ = now;
    const bool is_whole = response_.status == 200 && !request_.must_resume;
    const std::uint64_t before = is_whole ? 0 : request_.resume_from;
    const std::uint64_t total = announced_ ? before + *announced_ : 0;
    call_.report({"downloading", before + written_, total, Progress::Unit::bytes});
}

/// Outwards only: what the internet or a private network says must not open doors further inside.
Result<void> Exchange::check_reach(Reach reach) const {
    constexpr std::array names{"this machine", "a private network", "the internet"};
    const Reach from = request_.must_be_public ? Reach::internet : first_reach_.value_or(reach);
    if (reach >= from) return ok();
    Error error =
        bad_url(hop_->text, std::string("it leads from ") + names[static_cast<std::size_t>(from)] +
                                " to " + names[static_cast<std::size_t>(reach)]);
    error.remedy = "Do not use this server, or ask whoever runs it.";
    return error;
}

/// Only a test says that an address is of the internet which is not.
bool Exchange::is_internet(const sockaddr* address) const {
    if (limits_.internet_address.empty() || address->sa_family != AF_INET) return false;
    in_addr given{};
    return ::inet_pton(AF_INET, limits_.internet_address.c_str(), &given) == 1 &&
           given.s_addr == reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr;
}

curl_socket_t Exchange::open_socket(const curl_sockaddr& address) {
    if (is_link_local(&address.addr)) {
        fail(bad_url(hop_->text, "it leads to a link-local address"));
        return CURL_SOCKET_BAD;
    }
    if (hop_->is_loopback && !is_loopback(&address.addr)) {
        fail(bad_url(hop_->text, "its name is not this machine's"));
        return CURL_SOCKET_BAD;
    }
    // Behind a proxy this is the proxy's address, and the name is the proxy's business.
    if (hop_->is_loopback || !has_proxy()) {
        const Reach reach = is_internet(&address.addr) ? Reach::internet : reach_of(&address.addr);
        if (Result<void> allowed = check_reach(reach); !allowed) {
            fail(std::move(allowed).error());
            return CURL_SOCKET_BAD;
        }
        if (is_first_) first_reach_ = reach;
    }
    return ::socket(address.family, address.socktype | SOCK_CLOEXEC, address.protocol);
}

Result<void> Exchange::prepare(const Hop& hop, const Hop& first) {
    hop_ = &hop;
    response_ = {};
    header_bytes_ = 0;
    received_ = 0;
    written_ = 0;
    is_checked_ = false;
    announced_.reset();
    headers_.reset();
    bool good = true;
    for (const HttpHeader& header : request_.headers) {
        const std::string line = header.name + ": " + header.value;
        if (line.find_first_of(std::string_view("\r\n\0", 3)) != line.npos || header.name.empty() ||
            header.name.find_first_of(": \t") != header.name.npos)
            return Error(Errc::invalid_argument, quoted(line) + " is no header",
                         "Leave line breaks out of headers.");
        const bool is_secret = ::strcasecmp(header.name.c_str(), "authorization") == 0 ||
                               ::strcasecmp(header.name.c_str(), "cookie") == 0;
        if (is_secret && !hop.same_origin(first)) continue;
        // Gives back the list it was given, which is a new one for the first line.
        curl_slist* list = curl_slist_append(headers_.get(), line.c_str());
        good = good && list;
        if (!headers_) headers_.reset(list);
    }
    CURL* easy = easy_.get();
    const auto set = [&](CURLoption option, auto value) {
        good = good && curl_easy_setopt(easy, option, value) == CURLE_OK;
    };
    curl_easy_reset(easy);
    detail_.fill('\0');
    // Rounded up: libcurl's clock must not strike before ours, which knows what to say.
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now()) +
                      std::chrono::milliseconds(1);
    set(CURLOPT_CURLU, hop.url.get());
    set(CURLOPT_HTTPHEADER, headers_.get());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_SSL_VERIFYPEER, 1L);
    set(CURLOPT_SSL_VERIFYHOST, 2L);
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    if (!limits_.ca_file.empty()) set(CURLOPT_CAINFO, limits_.ca_file.c_str());
    if (hop.is_loopback) set(CURLOPT_NOPROXY, "*");
    set(CURLOPT_TIMEOUT_MS, std::max<long>(1, left.count()));
    set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(limits_.connect_time.count()));
    set(CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(limits_.stall_bytes_per_second));
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(limits_.stall_time.count()));
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_QUICK_EXIT, 1L);  // do not wait for a name that is still being resolved
    set(CURLOPT_USERAGENT, "banger");
    set(CURLOPT_ERRORBUFFER, detail_.data());
    if (request_.post) {
        set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.post->size()));
        set(CURLOPT_POSTFIELDS, request_.post->data());
    }
    if (request_.resume_from > 0)
        set(CURLOPT_RANGE, (std::to_string(request_.resume_from) + "-").c_str());
    set(CURLOPT_HEADERFUNCTION, &Exchange::on_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_WRITEFUNCTION, &Exchange::on_body);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_OPENSOCKETFUNCTION, &Exchange::on_socket);
    set(CURLOPT_OPENSOCKETDATA, this);
    if (!good) return Error(Errc::internal, "libcurl refused a setting");
    return ok();
}

Result<void> Exchange::perform(const Hop& hop) {
    if (curl_multi_add_handle(multi_.get(), easy_.get()) != CURLM_OK)
        return Error(Errc::internal, "libcurl refused the request");
    struct Remove {
        CURLM* multi;
        CURL* easy;
        ~Remove() { curl_multi_remove_handle(multi, easy); }
    } remove{multi_.get(), easy_.get()};
    const std::stop_callback wake(stop_, [this] { curl_multi_wakeup(multi_.get()); });
    int running = 1;
    while (true) {
        if (curl_multi_perform(multi_.get(), &running) != CURLM_OK)
            return Error(Errc::internal, "libcurl failed");
        if (failure_) return *failure_;
        if (stop_.stop_requested()) return cancelled();
        if (running == 0) break;
        // A second at most: libcurl looks at its own timers only when it is called.
        curl_multi_poll(multi_.get(), nullptr, 0, 1000, nullptr);
    }
    int left = 0;
    const CURLMsg* message = curl_multi_info_read(multi_.get(), &left);
    if (!message || message->msg != CURLMSG_DONE)
        return Error(Errc::internal, "libcurl lost the request");
    if (message->data.result != CURLE_OK) return error_of(message->data.result, hop);
    return ok();
}

Error Exchange::error_of(CURLcode code, const Hop& hop) const {
    const std::string why = detail_[0] ? detail_.data() : curl_easy_strerror(code);
    const std::string text = quoted(hop.text) + ": " + why;
    switch (code) {
        case CURLE_OPERATION_TIMEDOUT:
            if (Clock::now() >= end_) return out_of_time();
            return {Errc::timed_out, text, "Try again, or look at the network."};
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_ISSUER_ERROR:
        case CURLE_SSL_INVALIDCERTSTATUS:
            return {Errc::permission_denied, text,
                    "The server cannot prove who it is; if it is your own, install its authority's "
                    "certificate on this host."};
        case CURLE_SSL_CACERT_BADFILE:
            return {Errc::unavailable, text, "Install the package ca-certificates."};
        case CURLE_PARTIAL_FILE:
        case CURLE_GOT_NOTHING:
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
            return {Errc::unreachable, text + " (the connection broke)", "Try again."};
        case CURLE_UNSUPPORTED_PROTOCOL:  // HTTP/0.9: an answer without a status line
        case CURLE_WEIRD_SERVER_REPLY:
        case CURLE_BAD_CONTENT_ENCODING:
        case CURLE_HTTP2:
        case CURLE_HTTP2_STREAM:
            return {Errc::corrupt, text, "Check that the address is right."};
        default:
            return {Errc::unreachable, text, "Check the network and the address; try again."};
    }
}

Result<WebResponse> Exchange::run() {
    if (!easy_ || !multi_) return Error(Errc::no_space, "no memory for a request");
    const NoSigpipe no_sigpipe;
    Result<WebResponse> response = follow();
    if (response) response->is_public = first_reach_ == Reach::internet;
    if (sink_ < 0) return response;
    report(true);
    const bool is_body = response && (response->status == 200 || response->status == 206);
    if (is_body && !is_checked_) BANGER_TRY(check_range());  // an empty one
    return response;
}

Result<WebResponse> Exchange::follow() {
    const Hop first = BANGER_TRY(make_hop(request_.url, nullptr));
    const Hop* plain = request_.may_be_plain ? &first : nullptr;
    BANGER_TRY(check_encrypted(first, plain));
    Hop hop = BANGER_TRY(make_hop(request_.url, nullptr));
    for (int redirects = 0;; ++redirects) {
        if (stop_.stop_requested()) return cancelled();
        if (Clock::now() >= end_) return out_of_time();
        BANGER_TRY(prepare(hop, first));
        if (has_proxy() && hop.reach) BANGER_TRY(check_reach(*hop.reach));
        BANGER_TRY(perform(hop));
        constexpr std::array redirecting{301, 302, 303, 307, 308};
        const auto location = std::ranges::find_if(response_.headers, [](const HttpHeader& header) {
            return ::strcasecmp(header.name.c_str(), "location") == 0;
        });
        if (std::ranges::find(redirecting, response_.status) == redirecting.end() ||
            location == response_.headers.end() || request_.post)
            return std::move(response_);
        if (redirects == limits_.redirects)
            return Error(Errc::corrupt,
                         quoted(request_.url) + " redirects more than " +
                             std::to_string(limits_.redirects) + " times",
                         "Check that the address is right.");
        const std::string target = location->value;
        is_first_ = false;
        Hop next = BANGER_TRY(make_hop(target, &hop).context("following " + quoted(hop.text)));
        BANGER_TRY(check_encrypted(next, plain).context("following " + quoted(hop.text)));
        if (hop.scheme == "https" && next.scheme == "http")
            return bad_url(next.text, "an encrypted page led to it, and it is not encrypted")
                .context("following " + quoted(hop.text));
        hop = std::move(next);
    }
}

}  // namespace

Result<WebResponse> HttpClient::get(const WebRequest& request, Call& call) {
    set_up_curl();
    return Exchange(request, limits_, -1, call).run();
}

Result<WebResponse> HttpClient::download(const WebRequest& request, int sink, Call& call) {
    set_up_curl();
    if (sink < 0) return Error(Errc::invalid_argument, "there is no descriptor to download into");
    return Exchange(request, limits_, sink, call).run();
}

}  // namespace banger
