#include "plugins/image-oci/token.hpp"

#include <strings.h>

#include <algorithm>

#include "core/base/names.hpp"
#include "plugins/image-oci/bytes.hpp"
#include "plugins/image-oci/documents.hpp"
#include "plugins/image-oci/reference.hpp"

namespace banger::image_oci {

namespace {

using Clock = std::chrono::steady_clock;

/// As Docker's own clients name themselves; some servers refuse an unknown one, none an empty one.
constexpr std::string_view client_id = "banger";

/// "auth.example:5000" of "https://auth.example:5000/token?a=b".
std::string_view authority_of(std::string_view url) {
    const std::size_t scheme = url.find("://");
    if (scheme == url.npos) return {};
    url.remove_prefix(scheme + 3);
    return url.substr(0, url.find_first_of("/?#"));
}

/// Pulling is all we ask for, whatever the challenge offers; the repository is named as it names
/// it, because a registry behind a prefix may know it by another name.
std::string scope_of(const Endpoint& endpoint, const Challenge& challenge) {
    const std::string_view offered = challenge.scope;
    constexpr std::string_view kind = "repository:";
    const std::size_t colon = offered.rfind(':');
    if (offered.starts_with(kind) && colon > kind.size() && offered.find(' ') == offered.npos)
        return std::string(offered.substr(0, colon)) + ":pull";
    return "repository:" + endpoint.repository + ":pull";
}

std::string query(const std::string& url, const std::string& name, const std::string& value) {
    const char separator = url.find('?') == url.npos ? '?' : '&';
    return url + separator + name + "=" + query_escape(value);
}

}  // namespace

std::vector<std::string> header_values(const WebResponse& response, const char* name) {
    std::vector<std::string> values;
    for (const HttpHeader& header : response.headers)
        if (::strcasecmp(header.name.c_str(), name) == 0) values.push_back(header.value);
    return values;
}

Result<void> check_realm(const std::string& realm, const Endpoint& endpoint) {
    const std::string_view authority = authority_of(realm);
    if (Result<void> right = check_registry(authority); !right)
        return Error(Errc::permission_denied,
                     endpoint.registry + " sends us for a token to " + quoted(realm),
                     "Report this to whoever runs the registry.");
    if (realm.starts_with("https://")) return ok();
    const bool is_near =
        host_of(authority) == host_of(endpoint.host) ||
        (image_oci::is_loopback(authority) && image_oci::is_loopback(endpoint.host));
    if (realm.starts_with("http://") && endpoint.may_be_plain && is_near) return ok();
    return Error(Errc::permission_denied,
                 endpoint.registry + " sends us for a token to " + quoted(realm) +
                     ", which is not encrypted",
                 "Do not use this registry, or ask whoever runs it.");
}

Access Tokens::known(const Endpoint& endpoint) {
    const std::lock_guard lock(mutex_);
    const auto found = granted_.find(endpoint.key());
    if (found == granted_.end() || Clock::now() >= found->second.until) return {};
    return found->second.access;
}

Result<Access> Tokens::renew(const Endpoint& endpoint, const WebResponse& refusal,
                             const Access& used, Call& call) {
    const KeyedLock::Guard turn = BANGER_TRY(turns_.acquire(endpoint.key(), call.stop()));
    // Whoever had the turn before may have got it for us too.
    if (Access other = known(endpoint); !other.header.empty() && other.header != used.header)
        return other;
    std::vector<Challenge> challenges;
    for (const std::string& value : header_values(refusal, "www-authenticate"))
        for (Challenge& challenge : BANGER_TRY(parse_challenges(value)))
            challenges.push_back(std::move(challenge));
    const std::optional<Challenge> challenge = choose_challenge(challenges);
    if (!challenge)
        return Error(Errc::unsupported,
                     endpoint.registry + " wants a login of a kind that is not known here",
                     "Known are Bearer and Basic; ask whoever runs the registry.");
    Granted granted = BANGER_TRY(ask(endpoint, *challenge, refusal, call));
    const std::lock_guard lock(mutex_);
    granted_.insert_or_assign(endpoint.key(), granted);
    return granted.access;
}

Result<Tokens::Granted> Tokens::ask(const Endpoint& endpoint, const Challenge& challenge,
                                    const WebResponse& refusal, Call& call) {
    Granted granted;
    granted.until = Clock::time_point::max();
    Access& access = granted.access;
    Login login;
    Result<Login> found = credentials_.find(endpoint.registry, endpoint.repository, call.stop());
    if (found)
        login = *std::move(found);
    else if (found.error().code == Errc::cancelled)
        return found.error();
    else  // what is public can be had all the same
        access.login_problem = found.error();
    access.has_login = !login.is_empty();
    if (challenge.scheme == Challenge::Scheme::basic) {
        if (!login.user.empty())
            access.header = "Basic " + base64(login.user + ":" + login.password);
        return granted;
    }
    BANGER_TRY(check_realm(challenge.realm, endpoint));
    const Clock::time_point asked = Clock::now();
    const WebResponse response = BANGER_TRY(
        ask_server(endpoint, challenge, login, refusal.is_public, call)
            .context("asking " + quoted(authority_of(challenge.realm)) + " for a token"));
    if (response.status == 401 || response.status == 403 || response.status == 400)
        return granted;  // no access: the registry's own refusal is what the user sees
    if (response.status != 200)
        return Error(
            response.status >= 500 || response.status == 429 ? Errc::unreachable : Errc::corrupt,
            "the token server " + quoted(authority_of(challenge.realm)) + " answered " +
                std::to_string(response.status),
            "Try again later.");
    const TokenReply reply = BANGER_TRY(parse_token(response.body));
    access.header = "Bearer " + reply.token;
    // A tenth early, so that it does not end on the way.
    granted.until = asked + std::chrono::milliseconds(reply.seconds * 900);
    return granted;
}

Result<WebResponse> Tokens::ask_server(const Endpoint& endpoint, const Challenge& challenge,
                                       const Login& login, bool must_be_public, Call& call) {
    const std::string scope = scope_of(endpoint, challenge);
    WebRequest request;
    request.deadline = deadline_;
    request.may_be_plain = endpoint.may_be_plain;
    request.must_be_public = must_be_public;
    request.max_body = ByteCount::mib(1);
    request.url = challenge.realm;
    if (!login.identity_token.empty()) {
        request.post = "grant_type=refresh_token&client_id=" + std::string(client_id) +
                       "&service=" + query_escape(challenge.service) +
                       "&scope=" + query_escape(scope) +
                       "&refresh_token=" + query_escape(login.identity_token);
        return web_.web_get(request, call);
    }
    if (!challenge.service.empty()) request.url = query(request.url, "service", challenge.service);
    request.url = query(request.url, "scope", scope);
    if (!login.user.empty())
        request.headers.push_back(
            {"Authorization", "Basic " + base64(login.user + ":" + login.password)});
    return web_.web_get(request, call);
}

}  // namespace banger::image_oci
