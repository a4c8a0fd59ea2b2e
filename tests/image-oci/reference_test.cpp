#include "plugins/image-oci/reference.hpp"

#include <gmock/gmock.h>

namespace banger::image_oci {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string hex(64, 'a');
const std::string digest = "sha256:" + hex;

std::string canonical(const std::string& text, const std::string& registry = "docker.io") {
    const Result<Reference> reference = parse_reference(text, registry);
    if (!reference) return std::string(to_string(reference.error().code));
    return std::visit([](const auto& each) { return each.text(); }, *reference);
}

TEST(reference, is_spelled_out_as_docker_does) {
    const std::pair<std::string, std::string> same[] = {
        {"alpine", "docker.io/library/alpine:latest"},
        {"alpine:3.20", "docker.io/library/alpine:3.20"},
        {"docker.io/alpine", "docker.io/library/alpine:latest"},
        {"docker.io/library/alpine", "docker.io/library/alpine:latest"},
        {"index.docker.io/library/alpine", "docker.io/library/alpine:latest"},
        {"user/image", "docker.io/user/image:latest"},
        {"a/b/c:d", "docker.io/a/b/c:d"},
        {"ghcr.io/o/r@" + digest, "ghcr.io/o/r@" + digest},
        {"ghcr.io/o/r:tag@" + digest, "ghcr.io/o/r@" + digest},
        {"GHCR.io/o/r", "ghcr.io/o/r:latest"},
        {"localhost/x", "localhost/x:latest"},
        {"localhost:5000/x:tag", "localhost:5000/x:tag"},
        {"127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"},
        {"[::1]:5000/x:1", "[::1]:5000/x:1"},
        {"host.example/a_b/c__d/e---f/g.h:_T-1.2", "host.example/a_b/c__d/e---f/g.h:_T-1.2"},
        {"myhost:443/x", "myhost:443/x:latest"},
        {"localhost:5000", "docker.io/library/localhost:5000"},
        {"oci:/a/b", "oci:/a/b"},
        {"oci:/a/b:tag", "oci:/a/b:tag"},
        {"oci:/a/b@" + digest, "oci:/a/b@" + digest},
        {"oci-archive:/a.tar:1", "oci-archive:/a.tar:1"},
        {"docker-archive:/a.tar", "docker-archive:/a.tar"},
        {"docker-archive:/a.tar:ghcr.io/o/r:1", "docker-archive:/a.tar:ghcr.io/o/r:1"},
    };
    for (const auto& [text, expected] : same) {
        EXPECT_EQ(canonical(text), expected);
        EXPECT_EQ(canonical(expected), expected) << "it can be asked for again";
    }
    EXPECT_EQ(canonical("team/app", "r.example:5000"), "r.example:5000/team/app:latest");
    EXPECT_EQ(canonical("app", "r.example:5000"), "r.example:5000/app:latest");
}

TEST(reference, of_others_is_not_found) {
    for (const std::string text : {"", "debian-kernel:x/y", "surely-not-mine:x/y@z", "folder:a/b"})
        EXPECT_EQ(canonical(text), "not_found") << text;
}

TEST(reference, that_is_wrong_says_what_is_right) {
    const std::pair<std::string, std::string> wrong[] = {
        {"Alpine:3.20", "lower-case: \"alpine\""},
        {"ghcr.io/Org/app", "lower-case: \"org/app\""},
        {"https://ghcr.io/o/r", "without https://"},
        {"./image.tar", "oci-archive:FILE"},
        {"/srv/image.tar", "docker-archive:FILE"},
        {"../x", "oci:FOLDER"},
        {"a b", "REGISTRY"},
        {"alpine:", "128"},
        {"alpine:.x", "128"},
        {"alpine:" + std::string(129, 'x'), "128"},
        {"alpine@sha256:zz", "64 lower-case"},
        {"alpine@" + hex, "64 lower-case"},
        {"alpine@sha512:" + hex + hex, "sha256"},
        {"a//b", "between them"},
        {"a/b/", "between them"},
        {"a..b", "between them"},
        {"a___b", "between them"},
        {"-alpine", "REGISTRY"},
        {"a-", "between them"},
        {"host.example:0/x", "PORT"},
        {"host.example:70000/x", "PORT"},
        {"host.example:/x", "PORT"},
        {"-h.example/x", "REGISTRY"},
        {"h..example/x", "PORT"},
        {"[::g]:1/x", "PORT"},
        {hex, "id of an image"},
        {std::string(256, 'a'), "255"},
        {std::string(5000, 'a'), "longer than any"},
        {"oci:relative", "whole path"},
        {"oci:", "whole path"},
        {"oci-archive:/x.tar:", ":TAG"},
        {"oci-archive:/x.tar:a b", ":TAG"},
        {"docker-archive:/x.tar@" + digest, "NAME:TAG"},
        {std::string("oci:/a\0b", 8), "NUL"},
    };
    for (const auto& [text, remedy] : wrong) {
        const Result<Reference> reference = parse_reference(text, "docker.io");
        ASSERT_FALSE(reference) << text;
        EXPECT_NE(reference.error().code, Errc::not_found) << text;
        EXPECT_NE(reference.error().code, Errc::internal) << text;
        EXPECT_THAT(reference.error().remedy, HasSubstr(remedy)) << text;
        EXPECT_THAT(reference.error().message, Not(HasSubstr("\n")));
    }
}

TEST(reference, suggests_names_for_the_store) {
    const auto name = [](const std::string& text) {
        return suggested_name(parse_reference(text, "docker.io").value());
    };
    EXPECT_EQ(name("alpine"), "alpine");
    EXPECT_EQ(name("alpine:3.20"), "alpine-3.20");
    EXPECT_EQ(name("user/app:1"), "user-app-1");
    EXPECT_EQ(name("ghcr.io/o/r"), "ghcr.io-o-r");
    EXPECT_EQ(name("localhost:5000/x:tag"), "localhost-5000-x-tag");
    EXPECT_EQ(name("alpine@" + digest), "alpine-aaaaaaaaaaaa");
    EXPECT_EQ(name("[::1]:5000/x"), "1--5000-x");
    EXPECT_EQ(name("oci:/a/layout/"), "layout");
    EXPECT_EQ(name("oci:/"), "image");
    EXPECT_EQ(name("oci-archive:/a/app.tar:2"), "app-2");
    EXPECT_EQ(name("docker-archive:/a/all.tar:alpine:3.20"), "alpine-3.20");
    EXPECT_NE(name("alpine:RC"), name("alpine:rc")) << "names are lower-case, tags are not";
    const std::string stem = "ghcr.io/" + std::string(70, 'a');
    EXPECT_NE(name(stem + ":1"), name(stem + ":2")) << "what is cut off still counts";
    for (const std::string& text : {std::string("alpine:RC"), stem, std::string("oci:/---"),
                                    std::string("oci:/Ä b"), std::string("[::1]:5000/x")})
        EXPECT_TRUE(ArtifactName::parse(name(text))) << name(text);
}

TEST(reference, knows_loopback) {
    for (const char* registry : {"localhost", "localhost:5000", "127.0.0.1", "127.8.9.1:5000",
                                 "[::1]:5000", "LOCALHOST:1"})
        EXPECT_TRUE(is_loopback(registry)) << registry;
    for (const char* registry :
         {"docker.io", "localhost.example", "10.0.0.1:5000", "[fd00::1]:1", "128.0.0.1"})
        EXPECT_FALSE(is_loopback(registry)) << registry;
}

}  // namespace
}  // namespace banger::image_oci
