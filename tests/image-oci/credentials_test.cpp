#include "plugins/image-oci/credentials.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "plugins/image-oci/bytes.hpp"
#include "plugins/image-oci/documents.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::image_oci {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class CredentialsTest : public testing::Test {
protected:
    CredentialsTest() {
        const char* path = ::getenv("PATH");
        old_path_ = path ? path : "";
        ::setenv("PATH", (folder_.path() + ":" + old_path_).c_str(), 1);
    }
    ~CredentialsTest() override { ::setenv("PATH", old_path_.c_str(), 1); }

    void write(const std::string& text) { ASSERT_TRUE(write_file_atomic(file(), text, 0600)); }
    /// A helper that is a shell script.
    void helper(const std::string& name, const std::string& script) {
        ASSERT_TRUE(write_file_atomic(folder_ / ("docker-credential-" + name),
                                      "#!/bin/sh\n" + script + "\n", 0755));
    }
    std::string file() const { return folder_ / "config.json"; }
    Result<Login> find(const std::string& registry, const std::string& repository = "o/r") {
        return Credentials(file(), std::chrono::seconds(20)).find(registry, repository, {});
    }
    std::string found(const std::string& registry, const std::string& repository = "o/r") {
        const Result<Login> login = find(registry, repository);
        if (!login) return login.error().text();
        return login->identity_token.empty() ? login->user + ":" + login->password
                                             : "token " + login->identity_token;
    }

    TempFolder folder_;
    std::string old_path_;
};

std::string auth(const std::string& login) { return R"({"auth":")" + base64(login) + "\"}"; }

TEST_F(CredentialsTest, no_file_is_no_login) {
    EXPECT_EQ(found("ghcr.io"), ":");
    EXPECT_EQ(Credentials("", std::chrono::seconds(1)).find("ghcr.io", "x", {})->user, "");
    EXPECT_EQ(Credentials(file(), std::chrono::seconds(1)).check().status, CheckStatus::pass);
}

TEST_F(CredentialsTest, auths_under_all_their_names) {
    write(R"({"auths":{"https://index.docker.io/v1/":)" + auth("hub:p:w") +
          R"(,"https://r.example/v2/":)" + auth("r:1") + R"(,"ghcr.io":)" + auth("all:1") +
          R"(,"ghcr.io/team":)" + auth("team:2") +
          R"(,"t.example":{"identitytoken":"id","auth":")" + base64("x:y") +
          R"("},"n.example":{"username":"n","password":"m"},)"
          R"("localhost:5000":)" +
          auth("l:1") + "}}");
    EXPECT_EQ(found("docker.io"), "hub:p:w");
    EXPECT_EQ(found("r.example"), "r:1");
    EXPECT_EQ(found("ghcr.io"), "all:1");
    EXPECT_EQ(found("ghcr.io", "team/app"), "team:2");
    EXPECT_EQ(found("ghcr.io", "teamwork/app"), "all:1");
    EXPECT_EQ(found("t.example"), "token id");
    EXPECT_EQ(found("n.example"), "n:m");
    EXPECT_EQ(found("localhost:5000"), "l:1");
    EXPECT_EQ(found("localhost"), ":");
    EXPECT_EQ(found("evil.example"), ":");
}

TEST_F(CredentialsTest, a_link_to_the_file_is_followed) {
    ASSERT_TRUE(
        write_file_atomic(folder_ / "real.json", R"({"auths":{"a":)" + auth("u:p") + "}}", 0600));
    ASSERT_EQ(::symlink("real.json", file().c_str()), 0);
    EXPECT_EQ(found("a"), "u:p");
}

TEST_F(CredentialsTest, a_broken_file_says_so_and_shows_no_secret) {
    for (const std::string& text :
         {std::string("{"), std::string("[]"), std::string(R"({"auths":[]})"),
          std::string(R"({"auths":{"a":{"auth":"!s3cret!"}}})"),
          R"({"auths":{"a":{"auth":")" + base64("s3cret") + "\"}}}",
          std::string(R"({"credHelpers":{"a":7}})"), std::string(R"({"credsStore":[]})")}) {
        write(text);
        const Result<Login> login = find("a");
        ASSERT_FALSE(login) << text;
        EXPECT_THAT(login.error().remedy, HasSubstr("docker login a"));
        EXPECT_THAT(login.error().text(), Not(HasSubstr("s3cret")));
        EXPECT_THAT(login.error().text(), Not(HasSubstr(base64("s3cret"))));
        const Check check = Credentials(file(), std::chrono::seconds(1)).check();
        EXPECT_EQ(check.status, CheckStatus::warn);
        EXPECT_THAT(check.remedy, Not(IsEmpty()));
    }
}

TEST_F(CredentialsTest, helpers_are_asked_on_their_standard_input) {
    helper(
        "one",
        "read url; [ \"$1\" = get ] || exit 9; "
        "printf '{\"ServerURL\":\"%s\",\"Username\":\"u\",\"Secret\":\"%s\"}' \"$url\" \"$url\"");
    helper("store", "read url; printf '{\"Username\":\"<token>\",\"Secret\":\"for %s\"}' \"$url\"");
    write(R"({"credHelpers":{"r.example":"one"},"credsStore":"store","auths":{"ghcr.io":)" +
          auth("file:1") + R"(,"docker.io":{}}})");
    EXPECT_EQ(found("r.example"), "u:r.example");
    EXPECT_EQ(found("ghcr.io"), "file:1");
    EXPECT_EQ(found("docker.io"), "token for https://index.docker.io/v1/");
    const Check check = Credentials(file(), std::chrono::seconds(1)).check();
    EXPECT_EQ(check.status, CheckStatus::pass) << check.detail;
}

TEST_F(CredentialsTest, helpers_that_have_nothing_or_fail) {
    helper("none", "echo 'credentials not found in native keychain'; exit 1");
    helper("fails", "echo s3cret; exit 3");
    helper("babbles", "echo s3cret");
    helper("floods", "yes s3cret");
    const auto ask = [&](const std::string& name) {
        write(R"({"credsStore":")" + name + "\"}");
        return found("r.example");
    };
    EXPECT_EQ(ask("none"), ":");
    EXPECT_THAT(ask("fails"), HasSubstr("exit status 3"));
    EXPECT_THAT(ask("babbles"), HasSubstr("printed no login"));
    EXPECT_THAT(ask("missing"), HasSubstr("not installed"));
    EXPECT_THAT(ask("../../bin/sh"), HasSubstr("not the name"));
    for (const char* name : {"fails", "babbles", "missing", "../../bin/sh"})
        EXPECT_THAT(ask(name), Not(HasSubstr("s3cret")));
    EXPECT_EQ(Credentials(file(), std::chrono::seconds(1)).check().status, CheckStatus::warn);

    write(R"({"credsStore":"floods"})");
    const Result<Login> late =
        Credentials(file(), std::chrono::milliseconds(200)).find("r.example", "x", {});
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().code, Errc::timed_out);
    std::stop_source source;
    source.request_stop();
    const Result<Login> stopped =
        Credentials(file(), std::chrono::seconds(20)).find("r.example", "x", source.get_token());
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().code, Errc::cancelled);
}

TEST(helper_program, has_a_strict_name) {
    EXPECT_EQ(helper_program("secretservice").value(), "docker-credential-secretservice");
    EXPECT_TRUE(helper_program("ecr-login"));
    for (const char* name : {"", "-x", "a/b", "..", "a b", "a\n", "a;b"})
        EXPECT_FALSE(helper_program(name)) << name;
    EXPECT_FALSE(helper_program(std::string(65, 'a')));
}

TEST(base64, both_ways) {
    for (const std::string& bytes : {std::string(), std::string("a"), std::string("ab"),
                                     std::string("abc"), std::string("\0\xff", 2)})
        EXPECT_EQ(from_base64(base64(bytes)), bytes);
    EXPECT_EQ(base64("user:pass"), "dXNlcjpwYXNz");
    EXPECT_EQ(from_base64("dXNlcjpwYXNzMQ"), "user:pass1") << "without its padding";
    for (const char* text : {"a", "ab*c", "dXNl cjpwYXNz", "====a"})
        EXPECT_EQ(from_base64(text), std::nullopt) << text;
}

TEST(settings, are_checked) {
    Settings settings;
    EXPECT_EQ(read_options(settings, "/home/u")->docker_config, "/home/u/.docker/config.json");
    EXPECT_EQ(read_options(settings, "")->docker_config, "");
    settings["mirrors"] =
        std::vector<std::string>{"docker.io=m.example:5000", "docker.io=h.example/proxy/hub/"};
    settings["insecure_registries"] = std::vector<std::string>{"r.example:5000"};
    const Options options = read_options(settings, "/h").value();
    EXPECT_EQ(options.mirrors[0], (Mirror{"docker.io", "m.example:5000", ""}));
    EXPECT_EQ(options.mirrors[1], (Mirror{"docker.io", "h.example", "proxy/hub/"}));
    EXPECT_TRUE(options.may_be_plain("r.example:5000"));
    EXPECT_TRUE(options.may_be_plain("localhost:1"));
    EXPECT_FALSE(options.may_be_plain("r.example"));
    const std::pair<std::string, SettingValue> wrong[] = {
        {"mirrors", std::vector<std::string>{"docker.io"}},
        {"mirrors", std::vector<std::string>{"docker.io=https://m.example"}},
        {"mirrors", std::vector<std::string>{"docker.io=m.example/UP"}},
        {"insecure_registries", std::vector<std::string>{"http://r.example"}},
        {"insecure_registries", std::vector<std::string>{"10.0.0.0/8"}},
        {"default_registry", std::string("a/b")},
        {"docker_config", std::string("relative")},
    };
    for (const auto& [key, value] : wrong) {
        const Result<Options> read = read_options({{key, value}}, "/h");
        ASSERT_FALSE(read) << key;
        EXPECT_EQ(read.error().code, Errc::invalid_argument);
        EXPECT_THAT(read.error().message, HasSubstr("plugin.image-oci." + key));
        EXPECT_THAT(read.error().remedy, Not(IsEmpty()));
    }
}

}  // namespace
}  // namespace banger::image_oci
