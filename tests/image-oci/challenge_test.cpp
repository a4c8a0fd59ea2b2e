#include "plugins/image-oci/challenge.hpp"

#include <gmock/gmock.h>

namespace banger::image_oci {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Scheme = Challenge::Scheme;

std::vector<Challenge> parsed(const std::string& header) {
    const Result<std::vector<Challenge>> challenges = parse_challenges(header);
    EXPECT_TRUE(challenges) << header;
    return challenges.value_or({});
}

TEST(challenge, of_the_hub) {
    EXPECT_THAT(
        parsed("Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\","
               "scope=\"repository:library/alpine:pull\""),
        ElementsAre(Challenge{Scheme::bearer, "https://auth.docker.io/token", "registry.docker.io",
                              "repository:library/alpine:pull"}));
}

TEST(challenge, of_all_shapes) {
    EXPECT_THAT(parsed(""), IsEmpty());
    EXPECT_THAT(parsed("Basic realm=\"it \\\"is\\\" me\""),
                ElementsAre(Challenge{Scheme::basic, "it \"is\" me", "", ""}));
    EXPECT_THAT(parsed("BASIC"), ElementsAre(Challenge{Scheme::basic, "", "", ""}));
    EXPECT_THAT(parsed(" , bearer  REALM = x , error=\"insufficient_scope\" ,"),
                ElementsAre(Challenge{Scheme::bearer, "x", "", ""}));
    EXPECT_THAT(parsed("Negotiate, Basic realm=a, Bearer realm=b,service=c"),
                ElementsAre(Challenge{Scheme::basic, "a", "", ""},
                            Challenge{Scheme::bearer, "b", "c", ""}));
    EXPECT_THAT(parsed("Negotiate dGVzdA==, Digest realm=\"r\", nonce=\"n\", Basic realm=a"),
                ElementsAre(Challenge{Scheme::basic, "a", "", ""}));
    EXPECT_EQ(choose_challenge(parsed("Basic realm=a, Bearer realm=b"))->scheme, Scheme::bearer);
    EXPECT_EQ(choose_challenge(parsed("Digest realm=a")), std::nullopt);
}

TEST(challenge, that_is_malformed_is_corrupt) {
    for (const std::string& header :
         {std::string("Bearer"), std::string("Bearer realm"), std::string("Bearer realm="),
          std::string("Bearer realm=\"x"), std::string("Bearer realm=\"x\\"),
          std::string("Bearer realm=\"a\",realm=\"b\""), std::string("Bearer realm=a,Realm=b"),
          std::string("Bearer realm=\"a\nb\""), std::string("=x"), std::string("\"x\""),
          std::string("Bearer service=s"), "Bearer realm=\"" + std::string(9000, 'x') + "\"",
          std::string("Bearer realm=\"a\0b\"", 18)}) {
        const Result<std::vector<Challenge>> challenges = parse_challenges(header);
        ASSERT_FALSE(challenges) << header;
        EXPECT_EQ(challenges.error().code, Errc::corrupt);
        EXPECT_FALSE(challenges.error().remedy.empty());
    }
}

TEST(challenge, query_escape) {
    EXPECT_EQ(query_escape("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
    EXPECT_EQ(query_escape("A-z_0.9~"), "A-z_0.9~");
    EXPECT_EQ(query_escape("&=\xff "), "%26%3D%FF%20");
}

}  // namespace
}  // namespace banger::image_oci
