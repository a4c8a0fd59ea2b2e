#include "core/plugins/http.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/plugins/http_server.hpp"

namespace banger {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class TestCall final : public Call {
public:
    [[nodiscard]] std::stop_token stop() const override { return source_.get_token(); }
    void report(const Progress& progress) override { reports.push_back(progress); }
    void cancel() { source_.request_stop(); }
    std::vector<Progress> reports;

private:
    std::stop_source source_;
};

/// Always the same answer.
HttpServer::Handler saying(std::string answer) {
    return [answer = std::move(answer)](const std::string&, HttpServer::Connection& connection) {
        connection.write(answer);
    };
}

HttpServer::Handler redirecting_to(const std::string& location) {
    return saying(http_answer("302 Found", "Location: " + location + "\r\n", ""));
}

Result<WebResponse> get(const WebRequest& request, HttpClient::Limits limits = {}) {
    HttpClient client(std::move(limits));
    TestCall call;
    return client.get(request, call);
}

WebRequest request(const std::string& url) {
    WebRequest request;
    request.url = url;
    return request;
}

std::string content_of(const UniqueFd& file) {
    EXPECT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
    return read_all(file.get(), ByteCount::mib(64)).value();
}

struct Pipe {
    UniqueFd read;
    UniqueFd write;
    Pipe() {
        int fds[2] = {-1, -1};
        EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);
        read.reset(fds[0]);
        write.reset(fds[1]);
    }
};

TEST(http, get_brings_status_headers_and_body) {
    const HttpServer server(saying(http_answer("200 OK", "X-Colour:  blue\r\n", "hello")));
    WebRequest wanted = request(server.url("/a?b=c"));
    wanted.headers = {{"Accept", "text/plain"}};
    const Result<WebResponse> response = get(wanted);
    ASSERT_TRUE(response) << response.error().text();
    EXPECT_EQ(response->status, 200);
    EXPECT_EQ(response->body, "hello");
    EXPECT_THAT(response->headers, Contains(HttpHeader{"X-Colour", "blue"}));
    ASSERT_THAT(server.heads(), SizeIs(1));
    EXPECT_THAT(server.heads()[0], testing::StartsWith("GET /a?b=c HTTP/1.1\r\n"));
    EXPECT_THAT(server.heads()[0], HasSubstr("Accept: text/plain\r\n"));
}

TEST(http, a_status_of_400_and_above_is_a_response) {
    const HttpServer server(saying(http_answer("404 Not Found", "", "no")));
    const Result<WebResponse> response = get(request(server.url()));
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, 404);
    EXPECT_EQ(response->body, "no");
}

TEST(http, addresses_that_are_refused) {
    for (const char* url : {
             "",
             "nonsense",
             "/relative",
             "http://",
             "http://example.org/",
             "http://10.0.0.1/",
             "http://0.0.0.0/",
             "ftp://127.0.0.1/",
             "file:///etc/passwd",
             "gopher://127.0.0.1/",
             "http://127.0.0.1@example.org/",
             "https://user:secret@example.org/",
             "http://169.254.169.254/latest/meta-data/",
             "https://169.254.169.254/",
             "https://0xa9fea9fe/",
             "https://2852039166/",
             "https://[fe80::1]/",
             "https://[::ffff:169.254.169.254]/",
             "https://[64:ff9b::169.254.169.254]/",
             "http://127.0.0.1/\r\nEvil: yes",
             "http://localhost.example.org/",
         }) {
        const Result<WebResponse> response = get(request(url));
        ASSERT_FALSE(response) << url;
        EXPECT_EQ(response.error().code, Errc::permission_denied) << url;
        EXPECT_THAT(response.error().remedy, Not(IsEmpty()));
    }
}

TEST(http, headers_that_are_none_are_refused) {
    const HttpServer server(saying(http_answer("200 OK", "", "")));
    for (const HttpHeader& header :
         {HttpHeader{"X", "a\r\nEvil: 1"}, HttpHeader{"X\nEvil", "1"}, HttpHeader{"", "1"},
          HttpHeader{"X Y", "1"}, HttpHeader{"X", std::string("a\0b", 3)}}) {
        WebRequest wanted = request(server.url());
        wanted.headers = {header};
        const Result<WebResponse> response = get(wanted);
        ASSERT_FALSE(response);
        EXPECT_EQ(response.error().code, Errc::invalid_argument);
    }
    EXPECT_THAT(server.heads(), IsEmpty());
}

TEST(http, an_answer_past_the_maximum_is_corrupt) {
    const std::string body(5000, 'x');
    const std::string unannounced = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body;
    for (const std::string& answer : {http_answer("200 OK", "", body), unannounced}) {
        const HttpServer server(saying(answer));
        WebRequest wanted = request(server.url());
        wanted.max_body = ByteCount::bytes(4999);
        const Result<WebResponse> response = get(wanted);
        ASSERT_FALSE(response);
        EXPECT_EQ(response.error().code, Errc::corrupt);
        wanted.max_body = ByteCount::bytes(5000);
        EXPECT_TRUE(get(wanted));
    }
}

TEST(http, headers_without_end_are_corrupt) {
    const HttpServer server([](const std::string&, HttpServer::Connection& connection) {
        connection.write("HTTP/1.1 200 OK\r\n");
        const std::string line = "X-More: " + std::string(1000, 'y') + "\r\n";
        while (connection.write(line))
            continue;
    });
    EXPECT_FALSE(get(request(server.url())));
}

TEST(http, an_answer_that_is_no_http) {
    const HttpServer server(saying("SSH-2.0-OpenSSH_9.2\r\n"));
    const Result<WebResponse> response = get(request(server.url()));
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::corrupt);
}

TEST(http, a_connection_that_breaks_is_unreachable) {
    const HttpServer server(saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"));
    Result<WebResponse> response = get(request(server.url()));
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::unreachable);
    std::string nobody;
    {
        const HttpServer gone(saying(""));
        nobody = gone.url();
    }
    response = get(request(nobody));
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::unreachable);
    EXPECT_THAT(response.error().remedy, Not(IsEmpty()));
}

TEST(http, redirects_are_followed_and_keep_secrets_at_home) {
    const HttpServer target(saying(http_answer("200 OK", "", "there")));
    const HttpServer first([&](const std::string& head, HttpServer::Connection& connection) {
        const std::string location =
            head.starts_with("GET /start ") ? "/next" : target.url("/elsewhere");
        connection.write(
            http_answer("307 Temporary Redirect", "Location: " + location + "\r\n", ""));
    });
    WebRequest wanted = request(first.url("/start"));
    wanted.headers = {{"authorization", "Bearer s3cret"}, {"Accept", "x/y"}};
    const Result<WebResponse> response = get(wanted);
    ASSERT_TRUE(response) << response.error().text();
    EXPECT_EQ(response->body, "there");
    ASSERT_THAT(first.heads(), SizeIs(2));
    for (const std::string& head : first.heads())
        EXPECT_THAT(head, HasSubstr("s3cret"));
    ASSERT_THAT(target.heads(), SizeIs(1));
    EXPECT_THAT(target.heads()[0], Not(HasSubstr("s3cret")));
    EXPECT_THAT(target.heads()[0], HasSubstr("Accept: x/y"));
}

TEST(http, redirects_end) {
    const HttpServer server(redirecting_to("/again"));
    const Result<WebResponse> response = get(request(server.url()));
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::corrupt);
    EXPECT_THAT(server.heads(), SizeIs(11));
}

TEST(http, redirects_to_refused_addresses_are_refused) {
    for (const char* location : {"http://169.254.169.254/", "file:///etc/passwd",
                                 "http://example.org/", "https://u:p@example.org/"}) {
        const HttpServer server(redirecting_to(location));
        const Result<WebResponse> response = get(request(server.url()));
        ASSERT_FALSE(response) << location;
        EXPECT_EQ(response.error().code, Errc::permission_denied);
        EXPECT_THAT(response.error().message, HasSubstr("while following"));
    }
}

TEST(http, cancelled_before_and_while_the_server_is_silent) {
    HttpClient client;
    TestCall call;
    const HttpServer server([&](const std::string&, HttpServer::Connection& connection) {
        call.cancel();  // the request is there: now it is in the middle
        connection.wait();
    });
    Result<WebResponse> response = client.get(request(server.url()), call);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::cancelled);
    response = client.get(request(server.url()), call);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::cancelled);
    EXPECT_THAT(server.heads(), SizeIs(1));
}

TEST(http, a_stall_and_a_deadline_are_timed_out) {
    const HttpServer server([](const std::string&, HttpServer::Connection& connection) {
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        connection.wait();
    });
    HttpClient::Limits limits;
    limits.stall_time = std::chrono::seconds(1);
    Result<WebResponse> response = get(request(server.url()), limits);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::timed_out) << response.error().text();
    WebRequest wanted = request(server.url());
    wanted.deadline = std::chrono::seconds(1);
    response = get(wanted);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::timed_out);
    EXPECT_THAT(response.error().message, HasSubstr("longer than 1 s"));
}

TEST(http, download_writes_the_body_and_reports) {
    const std::string body(300'000, 'z');
    const HttpServer server(saying(http_answer("200 OK", "", body)));
    HttpClient client;
    TestCall call;
    const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
    const Result<WebResponse> response = client.download(request(server.url()), sink.get(), call);
    ASSERT_TRUE(response) << response.error().text();
    EXPECT_THAT(response->body, IsEmpty());
    EXPECT_TRUE(content_of(sink) == body);
    ASSERT_THAT(call.reports, Not(IsEmpty()));
    EXPECT_EQ(call.reports.back(),
              (Progress{"downloading", body.size(), body.size(), Progress::Unit::bytes}));
}

TEST(http, download_resumes) {
    const HttpServer server(
        saying(http_answer("206 Partial Content", "Content-Range: bytes 4-9/10\r\n", "456789")));
    HttpClient client;
    TestCall call;
    const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
    WebRequest wanted = request(server.url());
    wanted.resume_from = 4;
    const Result<WebResponse> response = client.download(wanted, sink.get(), call);
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, 206);
    EXPECT_EQ(content_of(sink), "456789");
    EXPECT_THAT(server.heads()[0], HasSubstr("Range: bytes=4-\r\n"));
    EXPECT_EQ(call.reports.back().done, 10u);
    EXPECT_EQ(call.reports.back().total, 10u);
}

TEST(http, a_download_that_cannot_go_on_writes_nothing) {
    const std::pair<std::string, Errc> answers[] = {
        {http_answer("200 OK", "", "0123456789"), Errc::unsupported},
        {http_answer("200 OK", "", ""), Errc::unsupported},
        {http_answer("206 Partial Content", "Content-Range: bytes 0-9/10\r\n", "0123456789"),
         Errc::corrupt},
        {http_answer("206 Partial Content", "Content-Range: bytes 40-49/50\r\n", "0123456789"),
         Errc::corrupt},
        {http_answer("206 Partial Content", "", "456789"), Errc::corrupt},
    };
    for (const auto& [answer, code] : answers) {
        const HttpServer server(saying(answer));
        HttpClient client;
        TestCall call;
        const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
        WebRequest wanted = request(server.url());
        wanted.resume_from = 4;
        wanted.must_resume = true;
        const Result<WebResponse> response = client.download(wanted, sink.get(), call);
        ASSERT_FALSE(response) << answer;
        EXPECT_EQ(response.error().code, code) << answer;
        EXPECT_THAT(content_of(sink), IsEmpty());
        EXPECT_EQ(call.reports.back().done, 4u);
    }
}

TEST(http, the_last_report_of_a_download_that_broke_says_how_far_it_came) {
    const std::string part(100'000, 'h');
    const HttpServer server(saying("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + part));
    HttpClient client;
    TestCall call;
    const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
    const Result<WebResponse> response = client.download(request(server.url()), sink.get(), call);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::unreachable);
    EXPECT_TRUE(content_of(sink) == part);
    EXPECT_EQ(call.reports.back().done, part.size());
}

TEST(http, a_post_carries_its_body_and_follows_nothing) {
    const HttpServer target(saying(http_answer("200 OK", "", "there")));
    const HttpServer server(redirecting_to(target.url()));
    WebRequest wanted = request(server.url("/token"));
    wanted.post = "grant_type=refresh_token";
    const Result<WebResponse> response = get(wanted);
    ASSERT_TRUE(response) << response.error().text();
    EXPECT_EQ(response->status, 302);
    EXPECT_THAT(target.heads(), IsEmpty());
    ASSERT_THAT(server.heads(), SizeIs(1));
    EXPECT_THAT(server.heads()[0], testing::StartsWith("POST /token HTTP/1.1\r\n"));
    EXPECT_THAT(server.heads()[0], HasSubstr("Content-Length: 24\r\n"));
    EXPECT_THAT(server.heads()[0],
                HasSubstr("Content-Type: application/x-www-form-urlencoded\r\n"));
}

TEST(http, plain_where_the_owner_said_so_and_nowhere_else) {
    WebRequest wanted = request("http://banger.invalid/");
    Result<WebResponse> response = get(wanted);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::permission_denied);
    wanted.may_be_plain = true;
    response = get(wanted);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::unreachable) << response.error().text();

    const HttpServer server(redirecting_to("http://other.invalid/"));
    wanted = request(server.url());
    wanted.may_be_plain = true;
    response = get(wanted);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::permission_denied);
    EXPECT_THAT(response.error().message, HasSubstr("not encrypted"));
}

TEST(http, the_internet_does_not_lead_inside) {
    HttpClient::Limits limits;
    limits.internet_address = "127.0.0.1";
    for (const char* location :
         {"https://10.1.2.3/", "https://172.31.0.1/", "https://192.168.1.1/", "https://100.64.0.1/",
          "https://127.0.0.2/", "http://127.0.0.2:1/", "https://0.0.0.0/", "https://[::1]/",
          "https://[fd00::1]/", "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::10.0.0.1]/"}) {
        const HttpServer server(redirecting_to(location));
        const Result<WebResponse> response = get(request(server.url()), limits);
        ASSERT_FALSE(response) << location;
        EXPECT_EQ(response.error().code, Errc::permission_denied) << location;
        EXPECT_THAT(response.error().message, HasSubstr("leads from the internet to")) << location;
    }
    const HttpServer server(saying(http_answer("200 OK", "", "hello")));
    Result<WebResponse> response = get(request(server.url()), limits);
    ASSERT_TRUE(response);
    EXPECT_TRUE(response->is_public);
    response = get(request(server.url()));
    ASSERT_TRUE(response);
    EXPECT_FALSE(response->is_public);
    WebRequest wanted = request(server.url());
    wanted.must_be_public = true;
    response = get(wanted);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::permission_denied);
    EXPECT_TRUE(get(wanted, limits));
}

TEST(http, download_keeps_error_pages_and_redirect_pages_out_of_the_sink) {
    const HttpServer target(saying(http_answer("404 Not Found", "", "an error page")));
    const HttpServer server(saying(
        http_answer("301 Moved", "Location: " + target.url() + "\r\n", "a page of its own")));
    HttpClient client;
    TestCall call;
    const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
    const Result<WebResponse> response = client.download(request(server.url()), sink.get(), call);
    ASSERT_TRUE(response) << response.error().text();
    EXPECT_EQ(response->status, 404);
    EXPECT_THAT(content_of(sink), IsEmpty());
}

TEST(http, download_into_a_pipe_nobody_reads) {
    const HttpServer server(saying(http_answer("200 OK", "", std::string(1 << 20, 'p'))));
    HttpClient client;
    TestCall call;
    Pipe pipe;
    pipe.read.reset();
    Result<WebResponse> response = client.download(request(server.url()), pipe.write.get(), call);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::cancelled) << "the reader went away";

    Pipe full;
    Result<WebResponse> stopped = Error();
    {
        const std::jthread thread(
            [&] { stopped = client.download(request(server.url()), full.write.get(), call); });
        ASSERT_TRUE(poll_fd(full.read.get(), POLLIN, std::chrono::seconds(30), {}));
        call.cancel();
    }
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().code, Errc::cancelled);
}

TEST(http, download_needs_a_sink) {
    HttpClient client;
    TestCall call;
    EXPECT_FALSE(client.download(request("http://127.0.0.1/"), -1, call));
}

TEST(http, a_proxy_is_not_asked_for_loopback) {
    ASSERT_EQ(::setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    const HttpServer server(saying(http_answer("200 OK", "", "direct")));
    const Result<WebResponse> response = get(request(server.url()));
    ASSERT_EQ(::unsetenv("http_proxy"), 0);
    ASSERT_TRUE(response) << response.error().text();
    EXPECT_EQ(response->body, "direct");
}

TEST(http, many_at_once) {
    const HttpServer server(saying(http_answer("200 OK", "", "hello")));
    HttpClient client;
    std::vector<std::string> bodies(16);
    {
        std::vector<std::jthread> threads;
        for (std::string& body : bodies)
            threads.emplace_back([&] {
                TestCall call;
                const Result<WebResponse> response = client.get(request(server.url()), call);
                body = response ? response->body : response.error().text();
            });
    }
    EXPECT_THAT(bodies, testing::Each("hello"));
}

TEST(https, a_certificate_is_verified) {
    const TempFolder folder;
    const std::string certificate = folder / "cert.pem";
    const std::unique_ptr<HttpServer> server =
        HttpServer::with_tls(saying(http_answer("200 OK", "", "sealed")), certificate);
    Result<WebResponse> response = get(request(server->url("/", "localhost")));
    ASSERT_FALSE(response) << "nobody vouches for it";
    EXPECT_EQ(response.error().code, Errc::permission_denied);
    EXPECT_THAT(response.error().remedy, HasSubstr("prove who it is"));

    HttpClient::Limits limits;
    limits.ca_file = certificate;
    response = get(request(server->url("/", "localhost")), limits);
    ASSERT_TRUE(response) << response.error().text();
    EXPECT_EQ(response->body, "sealed");

    response = get(request(server->url("/", "127.0.0.1")), limits);
    ASSERT_FALSE(response) << "it is for another name";
    EXPECT_EQ(response.error().code, Errc::permission_denied);
}

TEST(https, never_leads_to_http) {
    const TempFolder folder;
    const std::string certificate = folder / "cert.pem";
    const HttpServer open(saying(http_answer("200 OK", "", "open")));
    const std::unique_ptr<HttpServer> server =
        HttpServer::with_tls(redirecting_to(open.url()), certificate);
    HttpClient::Limits limits;
    limits.ca_file = certificate;
    const Result<WebResponse> response = get(request(server->url("/", "localhost")), limits);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, Errc::permission_denied);
    EXPECT_THAT(open.heads(), IsEmpty());
}

TEST(https, a_server_without_tls_is_refused) {
    const HttpServer server(saying(http_answer("200 OK", "", "open")));
    std::string url = server.url();
    url.replace(0, 4, "https");
    // It waits for the end of a head that never comes; the client's hello is none.
    WebRequest wanted = request(url);
    wanted.deadline = std::chrono::seconds(2);
    EXPECT_FALSE(get(wanted));
}

}  // namespace
}  // namespace banger
