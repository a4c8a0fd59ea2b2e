#include "plugins/image-oci/registry.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <condition_variable>
#include <ctime>
#include <random>

#include "core/base/names.hpp"

namespace banger::image_oci {

namespace {

using Clock = std::chrono::steady_clock;

/// A network that is not there is said so soon; a server that is there and busy is waited for.
constexpr int unreachable_attempts = 3;

bool is_busy(int status) {
    constexpr std::array busy{408, 429, 500, 502, 503, 504};
    return std::ranges::find(busy, status) != busy.end();
}

/// An error page that is larger than a layer is cut short by nobody's mistake.
constexpr ByteCount room_for_error_page = ByteCount::kib(64);

Error cancelled() { return {Errc::cancelled, "cancelled"}; }

}  // namespace

/// A download on its way. Knows how far it is, also when it breaks.
struct RegistryClient::Transfer {
    const Descriptor& descriptor;
    const UniqueFd& sink;
    const std::string& stage;
    std::uint64_t resumed_from;
    std::uint64_t position;  ///< up to which the sink has the bytes
    Clock::time_point end;

    [[nodiscard]] std::uint64_t size() const { return descriptor.size.count(); }
};

namespace {

/// Hears from the Host how far a download is, and says it in our words.
class PositionCall final : public Call {
public:
    PositionCall(Call& outer, const std::string& stage, std::uint64_t size, std::uint64_t& position)
        : outer_(outer), stage_(stage), size_(size), position_(position) {}
    [[nodiscard]] std::stop_token stop() const override { return outer_.stop(); }
    void report(const Progress& progress) override {
        position_ = std::max(position_, progress.done);
        outer_.report({stage_, position_, size_, Progress::Unit::bytes});
    }

private:
    Call& outer_;
    const std::string& stage_;
    std::uint64_t size_;
    std::uint64_t& position_;
};

}  // namespace

RegistryClient::RegistryClient(Host& host, Web& web, Options options)
    : host_(host), web_(web), options_(std::move(options)), tokens_(web_, options_) {}

std::vector<Endpoint> RegistryClient::endpoints(const ImageReference& image) const {
    std::vector<Endpoint> all;
    for (const Mirror& mirror : options_.mirrors)
        if (mirror.registry == image.registry)
            all.push_back({mirror.host, mirror.host, mirror.prefix + image.repository,
                           options_.may_be_plain(mirror.host)});
    const std::string host =
        image.registry == "docker.io" ? "registry-1.docker.io" : image.registry;
    all.push_back({image.registry, host, image.repository, options_.may_be_plain(image.registry)});
    return all;
}

Result<SentDocument> RegistryClient::manifest(const ImageReference& image, Call& call) {
    WebRequest request;
    request.headers.push_back({"Accept", std::string(accepted_manifests())});
    request.max_body = max_document;
    request.deadline = options_.patience.document;
    WebResponse response = BANGER_TRY(ask(image, "/manifests/" + image.version(), request, call));
    const auto first = [&](const char* name) {
        const std::vector<std::string> values = header_values(response, name);
        return values.empty() ? std::string() : values.front();
    };
    return SentDocument{std::move(response.body), first("content-type"),
                        first("docker-content-digest")};
}

Result<std::string> RegistryClient::blob(const ImageReference& image, const Descriptor& descriptor,
                                         Call& call) {
    WebRequest request;
    request.max_body = std::max(descriptor.size, room_for_error_page);
    request.deadline = options_.patience.document;
    return BANGER_TRY(ask(image, "/blobs/" + descriptor.digest.str(), request, call)).body;
}

/// Asks the mirrors, then the registry. The response's status is 200.
Result<WebResponse> RegistryClient::ask(const ImageReference& image, const std::string& path,
                                        const WebRequest& prototype, Call& call) {
    const std::vector<Endpoint> all = endpoints(image);
    for (std::size_t i = 0;; ++i) {
        const Endpoint& endpoint = all[i];
        Result<WebResponse> response = ask_patiently(endpoint, path, prototype, call);
        if (response && response->status == 200) return response;
        Error error =
            response ? refused(endpoint, image.text(), *response) : std::move(response).error();
        if (i + 1 == all.size() || error.code == Errc::cancelled) return error;
        host_.log(LogLevel::warning, "mirror " + endpoint.host + ": " + error.text());
    }
}

Result<WebResponse> RegistryClient::ask_patiently(const Endpoint& endpoint, const std::string& path,
                                                  const WebRequest& prototype, Call& call) {
    for (int attempt = 1;; ++attempt) {
        Result<WebResponse> response = ask_once(endpoint, path, prototype, -1, call);
        const bool is_worth_it =
            response ? is_busy(response->status) && attempt < options_.patience.attempts
                     : response.error().code == Errc::unreachable && attempt < unreachable_attempts;
        if (!is_worth_it) return response;
        const Result<void> waited = wait(endpoint, attempt, response ? &*response : nullptr, call);
        if (!waited && waited.error().code == Errc::cancelled) return waited.error();
        if (!waited) return response;
    }
}

/// One request; a second one when the first was refused for want of access.
Result<WebResponse> RegistryClient::ask_once(const Endpoint& endpoint, const std::string& path,
                                             WebRequest request, int sink, Call& call) {
    if (call.stop().stop_requested()) return cancelled();
    const std::string scheme = BANGER_TRY(scheme_of(endpoint, call));
    request.url = scheme + "://" + endpoint.host + "/v2/" + endpoint.repository + path;
    request.may_be_plain = endpoint.may_be_plain;
    const std::vector<HttpHeader> headers = request.headers;
    Access access = tokens_.known(endpoint);
    for (bool is_second = false;; is_second = true) {
        request.headers = headers;
        if (!access.header.empty()) request.headers.push_back({"Authorization", access.header});
        Result<WebResponse> response =
            sink < 0 ? web_.web_get(request, call) : web_.web_download(request, sink, call);
        if (!response || response->status != 401 || is_second) return response;
        access = BANGER_TRY(tokens_.renew(endpoint, *response, access, call));
        if (access.header.empty()) return response;
    }
}

/// Registries on loopback and insecure ones speak either; which, is found out once.
Result<std::string> RegistryClient::scheme_of(const Endpoint& endpoint, Call& call) {
    if (!endpoint.may_be_plain) return std::string("https");
    {
        const std::lock_guard lock(mutex_);
        if (const auto known = schemes_.find(endpoint.host); known != schemes_.end())
            return known->second;
    }
    const auto ask = [&](const std::string& scheme) {
        WebRequest request;
        request.url = scheme + "://" + endpoint.host + "/v2/";
        request.may_be_plain = true;
        request.max_body = room_for_error_page;
        request.deadline = options_.patience.document;
        return web_.web_get(request, call);
    };
    const auto remember = [&](const char* scheme) {
        const std::lock_guard lock(mutex_);
        schemes_[endpoint.host] = scheme;
        return std::string(scheme);
    };
    const Result<WebResponse> plain = ask("http");
    // A server that wants TLS says 400 or hangs up.
    if (plain && plain->status != 400) return remember("http");
    if (!plain && plain.error().code == Errc::cancelled) return plain.error();
    const Result<WebResponse> sealed = ask("https");
    if (sealed) return remember("https");
    const bool is_gone = !plain && sealed.error().code == Errc::unreachable;
    return (is_gone ? plain : sealed).error();
}

Error RegistryClient::refused(const Endpoint& endpoint, const std::string& what,
                              const WebResponse& response) {
    const std::string& registry = endpoint.registry;
    const std::string complaint = registry_complaint(response.body);
    const std::string said = complaint.empty() ? "" : ": " + quoted(complaint);
    const std::string status = std::to_string(response.status);
    switch (response.status) {
        case 404:
            return {Errc::invalid_argument, registry + " has no " + what + said,
                    "Check name and tag."};
        case 401:
        case 403: {
            const Access access = tokens_.known(endpoint);
            if (access.login_problem)
                return {Errc::permission_denied,
                        registry + " refuses " + what + said +
                            "; its login could not be read: " + access.login_problem->message,
                        access.login_problem->remedy};
            if (access.has_login)
                return {Errc::permission_denied,
                        registry + " refuses " + what + " to your login" + said,
                        "Check the name; log in again with docker login " + registry + "."};
            return {Errc::permission_denied,
                    registry + " refuses " + what + said + "; it does not exist or needs a login",
                    "Check the name; log in with docker login " + registry + "."};
        }
        case 429: {
            const auto after = retry_after(response, std::chrono::system_clock::now());
            return {Errc::busy, registry + " limits how much is asked of it (429)" + said,
                    after ? "Try again in " + std::to_string(after->count()) +
                                " s; a login often raises the limit."
                          : "Try again later; a login often raises the limit."};
        }
        default:
            break;
    }
    if (response.status >= 500)
        return {Errc::unreachable, registry + " is in trouble: it answered " + status + said,
                "Try again later."};
    return {Errc::corrupt, registry + " answered " + status + " for " + what + said,
            "Check that it is a registry."};
}

Result<void> RegistryClient::wait(const Endpoint& endpoint, int attempt,
                                  const WebResponse* response, Call& call) {
    const Patience& patience = options_.patience;
    std::chrono::milliseconds time = patience.first_wait * (1 << std::min(attempt - 1, 16));
    std::random_device random;
    time = std::min(time, patience.longest_wait) * (75 + random() % 51) / 100;
    if (response)
        if (const auto after = retry_after(*response, std::chrono::system_clock::now()))
            time = std::max<std::chrono::milliseconds>(time, *after);
    if (time > patience.longest_wait) return Error(Errc::timed_out, "it wants more patience");
    const std::string why = response ? "it answered " + std::to_string(response->status)
                                     : std::string("the connection broke");
    call.report({"waiting for " + endpoint.host + ": " + why, 0, 0, Progress::Unit::none});
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any never;
    never.wait_for(lock, call.stop(), time, [] { return false; });
    if (call.stop().stop_requested()) return cancelled();
    return ok();
}

Result<void> RegistryClient::download(const ImageReference& image, const Descriptor& descriptor,
                                      std::uint64_t resume_from, const UniqueFd& sink,
                                      const std::string& stage, Call& call) {
    if (resume_from >= descriptor.size.count()) return ok();
    const Patience& patience = options_.patience;
    const std::uint64_t seconds = descriptor.size.count() / patience.blob_second.count();
    Transfer transfer{
        descriptor,
        sink,
        stage,
        resume_from,
        resume_from,
        Clock::now() + patience.blob + std::chrono::seconds(static_cast<std::int64_t>(seconds))};
    const std::vector<Endpoint> all = endpoints(image);
    for (std::size_t i = 0;; ++i) {
        Result<void> done = download_from(all[i], transfer, call);
        if (done) return ok();
        if (i + 1 == all.size() || done.error().code == Errc::cancelled) return done;
        host_.log(LogLevel::warning, "mirror " + all[i].host + ": " + done.error().text());
    }
}

Result<void> RegistryClient::download_from(const Endpoint& endpoint, Transfer& transfer,
                                           Call& call) {
    const std::string name = transfer.descriptor.digest.str();
    const std::string path = "/blobs/" + name;
    int attempt = 1;
    for (;;) {
        const std::uint64_t before = transfer.position;
        WebRequest request;
        request.resume_from = before;
        request.must_resume = true;
        request.max_body =
            std::max(ByteCount::bytes(transfer.size() - before), room_for_error_page);
        request.deadline = std::chrono::ceil<std::chrono::seconds>(
            std::max(transfer.end - Clock::now(), Clock::duration(0)));
        PositionCall inner(call, transfer.stage, transfer.size(), transfer.position);
        Result<WebResponse> response =
            ask_once(endpoint, path, std::move(request), transfer.sink.get(), inner);
        if (transfer.position == transfer.size()) return ok();
        if (transfer.position > transfer.size())
            return Error(Errc::corrupt,
                         endpoint.registry + " sent more than the " +
                             std::to_string(transfer.size()) + " bytes of " + name,
                         "Try again; if it stays so, report it to whoever runs the registry.");
        if (response && (response->status == 200 || response->status == 206))
            return Error(Errc::corrupt,
                         endpoint.registry + " sent " + std::to_string(transfer.position) +
                             " bytes of " + name + " instead of " + std::to_string(transfer.size()),
                         "Try again; if it stays so, report it to whoever runs the registry.");
        const bool has_moved = transfer.position > before;
        attempt = has_moved ? 1 : attempt;
        const bool is_broken =
            !response && (response.error().code == Errc::unreachable ||
                          (response.error().code == Errc::timed_out && has_moved));
        const bool is_worth_it =
            Clock::now() < transfer.end &&
            (response ? is_busy(response->status) && attempt < options_.patience.attempts
                      : is_broken && attempt < unreachable_attempts);
        if (!is_worth_it && response) return refused(endpoint, name, *response);
        if (!is_worth_it && response.error().code == Errc::unsupported &&
            transfer.position > transfer.resumed_from)
            return Error(Errc::unreachable,
                         "the connection to " + endpoint.registry +
                             " broke, and it cannot continue a download",
                         "Try again.");
        if (!is_worth_it) return response.error();
        const Result<void> waited = wait(endpoint, attempt, response ? &*response : nullptr, call);
        if (!waited && waited.error().code == Errc::cancelled) return waited;
        if (!waited) return response ? refused(endpoint, name, *response) : response.error();
        ++attempt;
    }
}

std::optional<std::chrono::seconds> retry_after(const WebResponse& response,
                                                std::chrono::system_clock::time_point now) {
    const std::vector<std::string> values = header_values(response, "retry-after");
    if (values.empty()) return std::nullopt;
    const std::string& text = values.front();
    constexpr std::int64_t most = 86400;
    std::int64_t seconds = 0;
    const char* end = text.data() + text.size();
    const auto [rest, problem] = std::from_chars(text.data(), end, seconds);
    if (problem == std::errc::result_out_of_range) return std::chrono::seconds(most);
    if (problem == std::errc() && rest == end) {
        if (seconds < 0) return std::nullopt;
        return std::chrono::seconds(std::min(seconds, most));
    }
    std::tm date{};
    const char* parsed = ::strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date);
    if (!parsed || *parsed != '\0') return std::nullopt;
    const auto at = std::chrono::system_clock::from_time_t(::timegm(&date));
    const auto left = std::chrono::ceil<std::chrono::seconds>(at - now);
    return std::clamp(left, std::chrono::seconds(0), std::chrono::seconds(most));
}

}  // namespace banger::image_oci
