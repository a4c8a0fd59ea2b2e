#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"

namespace banger::image_oci {

/// How a registry wants to be asked: what a 401 answer says in WWW-Authenticate.
struct Challenge {
    enum class Scheme { bearer, basic };
    Scheme scheme = Scheme::bearer;
    std::string realm;    ///< where to get a token (bearer); a sentence for people (basic)
    std::string service;  ///< passed on to the token server
    std::string scope;    ///< "repository:library/alpine:pull"
    friend bool operator==(const Challenge&, const Challenge&) = default;
};

/// Reads one header, which may hold several challenges (RFC 9110, section 11.6.1). Schemes that are
/// neither Bearer nor Basic are passed over. Strict: a parameter twice, an unclosed quote, control
/// characters, a Bearer without realm, more than 8 KiB are Errc::corrupt. Pure.
Result<std::vector<Challenge>> parse_challenges(std::string_view header);

/// Bearer before Basic. Nothing when there is neither.
std::optional<Challenge> choose_challenge(const std::vector<Challenge>& challenges);

/// A text for a query: everything but letters, digits, '-', '.', '_' and '~' as %XX (RFC 3986).
std::string query_escape(std::string_view text);

}  // namespace banger::image_oci
