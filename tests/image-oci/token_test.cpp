#include "plugins/image-oci/token.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "plugins/image-oci/bytes.hpp"
#include "plugins/image-oci/registry.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/catalog/fake_host.hpp"
#include "tests/image-oci/scripted_web.hpp"

namespace banger::image_oci {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

const Endpoint endpoint{"r.example", "r.example", "o/r", false};
const std::string bearer =
    R"(Bearer realm="https://auth.example/token?x=1",service="the registry")";

WebResponse refusal(const std::string& challenge, bool is_public = false) {
    WebResponse response;
    response.status = 401;
    response.headers = {{"WWW-Authenticate", challenge}};
    response.is_public = is_public;
    return response;
}

WebResponse answer(int status, const std::string& body = "") {
    WebResponse response;
    response.status = status;
    response.body = body;
    return response;
}

class TokenTest : public testing::Test {
protected:
    void log_in(const std::string& entry) {
        ASSERT_TRUE(write_file_atomic(folder_ / "config.json",
                                      R"({"auths":{"r.example":)" + entry + "}}", 0600));
    }
    Options options() {
        Options options;
        options.docker_config = folder_ / "config.json";
        return options;
    }
    TempFolder folder_;
    ScriptedWeb web_{[this](const WebRequest& request) { return answers(request); }};
    ScriptedWeb::Answer answers = [](const WebRequest&) {
        return answer(200, R"({"token":"t0k"})");
    };
    Tokens tokens_{web_, options()};
    FakeCall call_;
};

TEST_F(TokenTest, anonymous) {
    const Result<Access> access = tokens_.renew(endpoint, refusal(bearer, true), {}, call_);
    ASSERT_TRUE(access) << access.error().text();
    EXPECT_EQ(access->header, "Bearer t0k");
    EXPECT_FALSE(access->has_login);
    EXPECT_EQ(tokens_.known(endpoint).header, "Bearer t0k");
    EXPECT_EQ(tokens_.known({"r.example", "r.example", "o/other", false}).header, "")
        << "a token is for one repository";
    ASSERT_THAT(web_.requests(), SizeIs(1));
    const WebRequest request = web_.requests()[0];
    EXPECT_EQ(request.url,
              "https://auth.example/token?x=1&service=the%20registry&"
              "scope=repository%3Ao%2Fr%3Apull");
    EXPECT_THAT(request.headers, IsEmpty());
    EXPECT_TRUE(request.must_be_public) << "a registry of the internet named it";
    EXPECT_FALSE(request.may_be_plain);
}

TEST_F(TokenTest, with_a_password_and_with_an_identity_token) {
    log_in(R"({"auth":")" + base64("u:p") + "\"}");
    EXPECT_TRUE(tokens_.renew(endpoint, refusal(bearer), {}, call_)->has_login);
    EXPECT_EQ(authorization_of(web_.requests()[0]), "Basic " + base64("u:p"));
    EXPECT_FALSE(web_.requests()[0].post);

    log_in(R"({"identitytoken":"a+b"})");
    Access used;
    used.header = "Bearer t0k";
    EXPECT_TRUE(tokens_.renew(endpoint, refusal(bearer), used, call_));
    const WebRequest request = web_.requests()[1];
    EXPECT_EQ(request.url, "https://auth.example/token?x=1");
    EXPECT_EQ(request.post,
              "grant_type=refresh_token&client_id=banger&service=the%20registry&"
              "scope=repository%3Ao%2Fr%3Apull&refresh_token=a%2Bb");
    EXPECT_EQ(authorization_of(request), "");
}

TEST_F(TokenTest, only_ever_asks_to_pull) {
    for (const std::string scope :
         {"repository:mirrored/o/r:pull,push", "repository:a:pull repository:b:push",
          "registry:x:*", "repository:", "*"}) {
        Access used = tokens_.known(endpoint);
        EXPECT_TRUE(
            tokens_.renew(endpoint, refusal(bearer + ",scope=\"" + scope + "\""), used, call_));
        const std::string url = web_.requests().back().url;
        EXPECT_THAT(url, testing::EndsWith("%3Apull"));
        EXPECT_THAT(url, Not(HasSubstr("push")));
    }
    EXPECT_THAT(web_.requests()[0].url, HasSubstr("scope=repository%3Amirrored%2Fo%2Fr%3Apull"));
    EXPECT_THAT(web_.requests()[1].url, HasSubstr("scope=repository%3Ao%2Fr%3Apull"));
}

TEST_F(TokenTest, basic_needs_a_login) {
    Result<Access> access = tokens_.renew(endpoint, refusal("Basic realm=x"), {}, call_);
    ASSERT_TRUE(access);
    EXPECT_EQ(access->header, "");
    log_in(R"({"auth":")" + base64("u:p") + "\"}");
    access = tokens_.renew(endpoint, refusal("Basic realm=x"), {}, call_);
    ASSERT_TRUE(access);
    EXPECT_EQ(access->header, "Basic " + base64("u:p"));
    EXPECT_THAT(web_.requests(), IsEmpty());
}

TEST_F(TokenTest, a_broken_file_of_logins_does_not_keep_from_what_is_public) {
    ASSERT_TRUE(write_file_atomic(folder_ / "config.json", "{", 0600));
    const Result<Access> access = tokens_.renew(endpoint, refusal(bearer), {}, call_);
    ASSERT_TRUE(access);
    EXPECT_EQ(access->header, "Bearer t0k");
    EXPECT_TRUE(access->login_problem);
}

TEST_F(TokenTest, expires_by_its_own_word) {
    answers = [](const WebRequest&) { return answer(200, R"({"token":"t0k","expires_in":0})"); };
    EXPECT_TRUE(tokens_.renew(endpoint, refusal(bearer), {}, call_));
    EXPECT_EQ(tokens_.known(endpoint).header, "");
}

TEST_F(TokenTest, many_that_were_refused_at_once_ask_once) {
    std::atomic<int> count = 0;
    answers = [&](const WebRequest&) {
        return answer(200, R"({"token":"n)" + std::to_string(++count) + "\"}");
    };
    Access old;
    old.header = "Bearer old";
    std::vector<std::string> headers(8);
    {
        std::vector<std::jthread> threads;
        for (std::string& header : headers)
            threads.emplace_back([&] {
                FakeCall call;
                header = tokens_.renew(endpoint, refusal(bearer), old, call)->header;
            });
    }
    EXPECT_THAT(headers, Each("Bearer n1"));
    EXPECT_EQ(count, 1);
}

TEST_F(TokenTest, servers_that_refuse_or_fail) {
    for (const int status : {400, 401, 403}) {
        answers = [status](const WebRequest&) { return answer(status); };
        EXPECT_EQ(tokens_.renew(endpoint, refusal(bearer), {}, call_)->header, "") << status;
    }
    const std::tuple<WebResponse, Errc> failures[] = {
        {answer(503), Errc::unreachable},
        {answer(404), Errc::corrupt},
        {answer(200, "<html>"), Errc::corrupt},
        {answer(200, R"({"token":"a\nb"})"), Errc::corrupt},
    };
    for (const auto& [response, code] : failures) {
        answers = [&](const WebRequest&) { return response; };
        const Result<Access> access = tokens_.renew(endpoint, refusal(bearer), {}, call_);
        ASSERT_FALSE(access);
        EXPECT_EQ(access.error().code, code) << access.error().text();
        EXPECT_THAT(access.error().remedy, Not(IsEmpty()));
    }
    for (const std::string challenge : {"Digest realm=x", "", "Bearer realm=\"x"})
        EXPECT_FALSE(tokens_.renew(endpoint, refusal(challenge), {}, call_)) << challenge;
}

TEST_F(TokenTest, realms_that_are_not_asked) {
    for (const std::string realm :
         {"http://auth.example/token", "http://r.example/token", "http://localhost/token",
          "http://127.0.0.1:5001/t", "http://169.254.169.254/latest", "ftp://r.example/", "/token",
          "https://", "file:///etc/passwd"}) {
        const Result<Access> access =
            tokens_.renew(endpoint, refusal("Bearer realm=\"" + realm + "\""), {}, call_);
        ASSERT_FALSE(access) << realm;
        EXPECT_EQ(access.error().code, Errc::permission_denied) << realm;
    }
    EXPECT_THAT(web_.requests(), IsEmpty());

    const Endpoint insecure{"r.example:5000", "r.example:5000", "x", true};
    EXPECT_TRUE(check_realm("http://r.example:5001/token", insecure));
    EXPECT_FALSE(check_realm("http://other.example/token", insecure));
    EXPECT_FALSE(check_realm("http://localhost/token", insecure));
    EXPECT_FALSE(check_realm("http://r.example.evil/token", insecure));
    EXPECT_FALSE(check_realm("http://r.example:5001@evil.example/token", insecure));
    const Endpoint local{"localhost:5000", "localhost:5000", "x", true};
    EXPECT_TRUE(check_realm("http://127.0.0.1:5001/token", local));
    EXPECT_FALSE(check_realm("http://r.example/token", local));
}

TEST(retry_after, in_seconds_or_as_a_date) {
    const auto now = std::chrono::system_clock::from_time_t(784111777);  // RFC 9110's example
    const auto after = [&](const std::string& value) {
        WebResponse response;
        response.headers = {{"retry-After", value}};
        const auto seconds = retry_after(response, now);
        return seconds ? seconds->count() : -1;
    };
    EXPECT_EQ(after("0"), 0);
    EXPECT_EQ(after("120"), 120);
    EXPECT_EQ(after("99999999999999999999"), 86400);
    EXPECT_EQ(after("Sun, 06 Nov 1994 08:50:07 GMT"), 30);
    EXPECT_EQ(after("Sun, 06 Nov 1994 08:00:00 GMT"), 0);
    for (const char* text : {"", "soon", "-5", "1.5", "Sun, 06 Nov 1994"})
        EXPECT_EQ(after(text), -1) << text;
    EXPECT_EQ(retry_after({}, now), std::nullopt);
}

}  // namespace
}  // namespace banger::image_oci
