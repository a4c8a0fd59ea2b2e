#include <cstddef>
#include <cstdint>

#include "plugins/image-oci/challenge.hpp"
#include "plugins/image-oci/token.hpp"
#include "tests/fuzz/require.hpp"

/// Whatever a registry says in WWW-Authenticate is challenges or an error; a realm that is taken
/// has a host and is encrypted.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace banger;
    using namespace banger::image_oci;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Result<std::vector<Challenge>> challenges = parse_challenges(text);
    if (!challenges) {
        require(challenges.error().code == Errc::corrupt && !challenges.error().remedy.empty());
        return 0;
    }
    const Endpoint endpoint{"r.example", "r.example", "x", false};
    for (const Challenge& challenge : *challenges) {
        require(is_plain(challenge.realm) && is_plain(challenge.service));
        if (challenge.scheme != Challenge::Scheme::bearer) continue;
        require(!challenge.realm.empty());
        if (check_realm(challenge.realm, endpoint))
            require(challenge.realm.starts_with("https://"));
        require(query_escape(challenge.scope).find_first_of("&=?# ") == std::string::npos);
    }
    return 0;
}
