#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "core/base/file.hpp"
#include "plugins/image-oci/source.hpp"
#include "tests/catalog/fake_host.hpp"
#include "tests/image-oci/scripted_registry.hpp"
#include "tests/image-oci/web_host.hpp"

namespace banger::image_oci {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

HttpClient::Limits quick() {
    HttpClient::Limits limits;
    limits.stall_time = std::chrono::seconds(1);
    limits.connect_time = std::chrono::seconds(5);
    return limits;
}

/// The plugin against a registry that lies; nobody waits for long.
class LyingRegistry : public testing::Test {
protected:
    LyingRegistry() {
        options_.docker_config = host_ / "config.json";
        options_.patience = {.attempts = 3,
                             .first_wait = std::chrono::milliseconds(5),
                             .longest_wait = std::chrono::milliseconds(1500),
                             .document = std::chrono::seconds(3),
                             .blob = std::chrono::seconds(20)};
        registry_.serve(made_);
    }
    OciSource& source() {
        if (!source_) source_ = std::make_unique<OciSource>(host_, host_, options_);
        return *source_;
    }
    std::string reference() const { return registry_.host() + "/x:1"; }
    Result<ArtifactManifest> resolve(const std::string& reference) {
        Result<Resolution> resolution =
            source().resolve({ArtifactKind::image, reference, "amd64"}, call_);
        if (!resolution) return std::move(resolution).error();
        return std::get<ArtifactManifest>(*std::move(resolution));
    }
    Result<ArtifactManifest> resolve() { return resolve(reference()); }
    Result<std::string> fetch(const ArtifactManifest& manifest, std::size_t part,
                              std::uint64_t resume_from = 0) {
        const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
        const Result<void> fetched = source().fetch(manifest, part, resume_from, sink, call_);
        ::lseek(sink.get(), 0, SEEK_SET);
        written_ = read_all(sink.get(), ByteCount::mib(64)).value();
        if (!fetched) return fetched.error();
        return written_;
    }
    /// The whole of a pull: what resolve() and the first fetch() say.
    Result<std::string> pull() {
        const ArtifactManifest manifest = BANGER_TRY(resolve());
        return fetch(manifest, 0);
    }
    template <class T>
    void expect_refused(const Result<T>& result, Errc code, const std::string& text) {
        ASSERT_FALSE(result) << text;
        EXPECT_EQ(result.error().code, code) << result.error().text();
        EXPECT_THAT(result.error().message, HasSubstr(text));
        EXPECT_THAT(result.error().remedy, Not(IsEmpty()));
    }
    void log_in(const std::string& registry, const std::string& login) {
        ASSERT_TRUE(write_file_atomic(
            host_ / "config.json",
            R"({"auths":{")" + registry + R"(":{"auth":")" + base64(login) + "\"}}}", 0600));
    }

    MadeImage made_{2};
    ScriptedRegistry registry_;
    WebHost host_{quick()};
    Options options_;
    FakeCall call_;
    std::string written_;
    std::unique_ptr<OciSource> source_;
};

constexpr const char* layer_type = "application/octet-stream";

TEST_F(LyingRegistry, an_honest_one) {
    const Result<ArtifactManifest> manifest = resolve();
    ASSERT_TRUE(manifest) << manifest.error().text();
    EXPECT_EQ(manifest->reference, reference());
    EXPECT_EQ(manifest->architecture, "amd64");
    EXPECT_EQ(manifest->description, "made here");
    EXPECT_THAT(manifest->provenance, HasSubstr(made_.digest()));
    EXPECT_EQ(manifest->run_config.user, "7:8");
    ASSERT_THAT(manifest->parts, SizeIs(2));
    for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(manifest->parts[i].digest, digest_of(made_.layers[i]));
        EXPECT_TRUE(fetch(*manifest, i).value_or("") == made_.layers[i]);
    }
    EXPECT_EQ(call_.reported().back(), (Progress{"downloading layer 2 of 2", made_.layers[1].size(),
                                                 made_.layers[1].size(), Progress::Unit::bytes}));
    const std::string exact = registry_.host() + "/x@" + made_.digest();
    EXPECT_EQ(resolve(exact)->reference, exact);
    EXPECT_THAT(host_.logged(), IsEmpty());
}

TEST_F(LyingRegistry, what_is_not_there) {
    expect_refused(resolve(registry_.host() + "/x:2"), Errc::invalid_argument, "has no");
    registry_.set(
        "/v2/x/manifests/1",
        http_answer("403 Forbidden", "", R"({"errors":[{"message":"not \u001b[2Jyou"}]})"));
    const Result<ArtifactManifest> refused = resolve();
    expect_refused(refused, Errc::permission_denied, "does not exist or needs a login");
    EXPECT_THAT(refused.error().remedy, HasSubstr("docker login " + registry_.host()));
    EXPECT_THAT(refused.error().message, Not(HasSubstr("\x1b"))) << "a registry writes no escapes";
    registry_.set("/v2/x/manifests/1", http_answer("418 Teapot", "", ""));
    expect_refused(resolve(), Errc::corrupt, "answered 418");
}

TEST_F(LyingRegistry, a_plain_name_says_both) {
    options_.default_registry = registry_.host();
    const Result<ArtifactManifest> none = resolve("debian-bookwrm");
    expect_refused(none, Errc::invalid_argument, "no catalog has \"debian-bookwrm\", and ");
    EXPECT_THAT(none.error().message, HasSubstr(registry_.host() + " has no"));
    EXPECT_THAT(none.error().remedy, HasSubstr("banger image list --available"));
}

TEST_F(LyingRegistry, no_network_is_said_at_once) {
    std::string nobody;
    {
        const ScriptedRegistry gone;
        nobody = gone.host();
    }
    options_.default_registry = nobody;
    expect_refused(resolve("alpine"), Errc::unreachable, "no catalog has \"alpine\", and ");
    expect_refused(resolve(nobody + "/x"), Errc::unreachable, "");
}

TEST_F(LyingRegistry, digests_that_do_not_match) {
    registry_.set("/v2/x/manifests/" + made_.digest(), oci_manifest, made_.manifest + " ");
    expect_refused(resolve(registry_.host() + "/x@" + made_.digest()), Errc::corrupt,
                   "instead of " + made_.digest());
    registry_.set("/v2/x/manifests/1", http_answer("200 OK",
                                                   "Content-Type: " + std::string(oci_manifest) +
                                                       "\r\nDocker-Content-Digest: sha256:" +
                                                       std::string(64, 'a') + "\r\n",
                                                   made_.manifest));
    expect_refused(resolve(), Errc::corrupt, "instead of");
    registry_.serve(made_);
    registry_.set(registry_.blob(made_.config), layer_type, std::string(made_.config.size(), ' '));
    expect_refused(resolve(), Errc::corrupt, "config has the digest");
    registry_.set(registry_.blob(made_.config), layer_type, made_.config + " ");
    expect_refused(resolve(), Errc::corrupt, "bytes instead of");
    registry_.set(registry_.blob(made_.config), layer_type, std::string(100'000, ' '));
    expect_refused(resolve(), Errc::corrupt, "larger than");
}

TEST_F(LyingRegistry, layers_of_another_size) {
    const std::string path = registry_.blob(made_.layers[0]);
    registry_.set(path, layer_type, made_.layers[0].substr(1));
    expect_refused(pull(), Errc::corrupt, "instead of");
    registry_.set(path, layer_type, made_.layers[0] + "more");
    expect_refused(pull(), Errc::corrupt, "larger than");
    registry_.set(path, layer_type, "");
    expect_refused(pull(), Errc::corrupt, "sent 0 bytes");
    registry_.set(path, http_answer("404 Not Found", "", ""));
    expect_refused(pull(), Errc::invalid_argument, "has no");
}

TEST_F(LyingRegistry, documents_without_measure) {
    registry_.set("/v2/x/manifests/1", oci_manifest, std::string(5 << 20, ' '));
    expect_refused(resolve(), Errc::corrupt, "larger than 4 MiB");
    registry_.set("/v2/x/manifests/1", oci_manifest, std::string(1'000'000, '['));
    expect_refused(resolve(), Errc::corrupt, "nests deeper");
}

TEST_F(LyingRegistry, documents_that_are_something_else) {
    const auto set = [&](const std::string& type, const std::string& body) {
        registry_.set("/v2/x/manifests/1", type, body);
    };
    set("application/vnd.docker.distribution.manifest.v1+prettyjws", R"({"schemaVersion":1})");
    expect_refused(resolve(), Errc::unsupported, "schema 1");
    set("application/vnd.cncf.notary", R"({"schemaVersion":2})");
    expect_refused(resolve(), Errc::unsupported, "unknown kind");
    set(docker_manifest, made_.manifest);
    expect_refused(resolve(), Errc::corrupt, "announced as");
    set(oci_index,
        index_of({descriptor(oci_manifest, made_.manifest, platform("linux", "arm64"))}));
    expect_refused(resolve(), Errc::unsupported, "linux/arm64");
    // Announced by the index as one thing, sent as another.
    set(oci_index,
        index_of({descriptor(oci_manifest, made_.manifest, platform("linux", "amd64"))}));
    ASSERT_TRUE(resolve());
    registry_.set("/v2/x/manifests/" + made_.digest(), docker_manifest, made_.manifest);
    expect_refused(resolve(), Errc::corrupt, "sent as");
    MadeImage foreign;
    foreign.write_manifest("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    set(oci_manifest, foreign.manifest);
    expect_refused(resolve(), Errc::unsupported, "elsewhere");
    const MadeImage arm(1, "arm64");
    registry_.serve(arm);
    expect_refused(resolve(), Errc::unsupported, "linux/arm64");
}

TEST_F(LyingRegistry, urls_of_layers_are_not_followed) {
    ScriptedRegistry elsewhere;
    std::string manifest = made_.manifest;
    const std::string mark = "\"layers\":[{";
    manifest.replace(manifest.find(mark), mark.size(),
                     mark + R"("urls":[")" + elsewhere.url("/stolen") + R"("],)");
    registry_.set("/v2/x/manifests/1", oci_manifest, manifest);
    EXPECT_TRUE(pull().value_or("") == made_.layers[0]);
    EXPECT_THAT(elsewhere.everything_asked(), IsEmpty());
}

TEST_F(LyingRegistry, indices_without_end) {
    std::string index =
        index_of({descriptor(oci_manifest, made_.manifest, platform("linux", "amd64"))});
    for (int i = 0; i < 6; ++i) {
        registry_.set("/v2/x/manifests/" + digest_of(index).str(), oci_index, index);
        index = index_of({descriptor(oci_index, index, platform("linux", "amd64"))});
    }
    registry_.set("/v2/x/manifests/1", oci_index, index);
    expect_refused(resolve(), Errc::corrupt, "more than 3 indices");
}

TEST_F(LyingRegistry, redirects_to_where_nobody_may_go) {
    for (const std::string location :
         {"http://other.invalid/blob", "http://169.254.169.254/latest/meta-data",
          "https://169.254.169.254/latest", "file:///etc/passwd", "https://u:p@other.invalid/"}) {
        const std::string redirect =
            http_answer("307 Temporary Redirect", "Location: " + location + "\r\n", "");
        registry_.set(registry_.blob(made_.layers[0]), redirect);
        expect_refused(pull(), Errc::permission_denied, "is refused");
        registry_.set("/v2/x/manifests/1", redirect);
        expect_refused(resolve(), Errc::permission_denied, "is refused");
        registry_.serve(made_);
    }
}

TEST_F(LyingRegistry, redirects_carry_no_credentials) {
    log_in(registry_.host(), "joe:s3cret");
    ScriptedRegistry elsewhere;
    elsewhere.set("/blob", layer_type, made_.layers[0]);
    const std::string blob = registry_.blob(made_.layers[0]);
    registry_.set_special([&](const std::string& path, const std::string& head, auto& connection) {
        if (path != "/v2/" && head.find("Authorization: Basic ") == head.npos) {
            connection.write(
                http_answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", ""));
            return true;
        }
        if (path != blob) return false;
        connection.write(http_answer("307 Temporary Redirect",
                                     "Location: " + elsewhere.url("/blob") + "\r\n", ""));
        return true;
    });
    const Result<std::string> pulled = pull();
    ASSERT_TRUE(pulled) << pulled.error().text();
    EXPECT_TRUE(*pulled == made_.layers[0]);
    EXPECT_THAT(elsewhere.asked("/blob"), SizeIs(1));
    EXPECT_THAT(elsewhere.everything_asked(), Not(HasSubstr("uthorization")));
    EXPECT_THAT(registry_.everything_asked(), HasSubstr(base64("joe:s3cret")));
    EXPECT_THAT(host_.logged(), Not(HasSubstr("s3cret")));
}

TEST_F(LyingRegistry, tokens_from_where_nobody_may_go) {
    for (const std::string realm : {"http://other.invalid/token", "http://169.254.169.254/token",
                                    "https://169.254.169.254/token"}) {
        registry_.set("/v2/x/manifests/1",
                      http_answer("401 Unauthorized",
                                  "WWW-Authenticate: Bearer realm=\"" + realm + "\"\r\n", ""));
        expect_refused(resolve(), Errc::permission_denied, "");
    }
}

TEST_F(LyingRegistry, the_internet_does_not_lead_to_this_machine) {
    HttpClient::Limits limits = quick();
    limits.internet_address = "127.0.0.1";
    WebHost host(limits);
    OciSource source(host, host, options_);
    ScriptedRegistry inside;
    const std::string port = inside.host().substr(inside.host().find(':'));
    // The registry counts as one of the internet; 127.0.0.2 is this machine.
    registry_.set(
        "/v2/x/manifests/1",
        http_answer("401 Unauthorized",
                    "WWW-Authenticate: Bearer realm=\"http://127.0.0.2" + port + "/token\"\r\n",
                    ""));
    const Result<Resolution> resolved =
        source.resolve({ArtifactKind::image, reference(), "amd64"}, call_);
    expect_refused(resolved, Errc::permission_denied, "from the internet to this machine");
    EXPECT_THAT(inside.everything_asked(), IsEmpty());
}

TEST_F(LyingRegistry, tokens_are_got_and_renewed) {
    ScriptedRegistry tokens;
    std::atomic<int> count = 0;
    tokens.set_special([&](const std::string& path, const std::string&, auto& connection) {
        if (path != "/token") return false;
        connection.write(http_answer(
            "200 OK", "", R"({"token":"tok)" + std::to_string(++count) + R"(","expires_in":600})"));
        return true;
    });
    std::atomic<int> wanted = 1;
    registry_.set_special([&](const std::string& path, const std::string& head, auto& connection) {
        const std::string header = "Authorization: Bearer tok" + std::to_string(wanted) + "\r\n";
        if (path == "/v2/" || head.find(header) != head.npos) return false;
        connection.write(http_answer("401 Unauthorized",
                                     "WWW-Authenticate: Bearer realm=\"" + tokens.url("/token") +
                                         "\",service=\"s\",scope=\"repository:x:pull\"\r\n",
                                     ""));
        return true;
    });
    const Result<ArtifactManifest> manifest = resolve();
    ASSERT_TRUE(manifest) << manifest.error().text();
    EXPECT_TRUE(fetch(*manifest, 0));
    EXPECT_EQ(count, 1) << "one for the whole repository";
    wanted = 2;  // the registry has revoked the first
    EXPECT_TRUE(fetch(*manifest, 1).value_or("") == made_.layers[1]);
    EXPECT_EQ(count, 2);
    wanted = 99;
    expect_refused(fetch(*manifest, 1), Errc::permission_denied, "refuses");
    EXPECT_EQ(count, 3) << "asked once more, not for ever";
}

TEST_F(LyingRegistry, busy_ones_are_asked_again) {
    std::atomic<int> count = 0;
    registry_.set_special([&](const std::string& path, const std::string&, auto& connection) {
        if (path != "/v2/x/manifests/1" || ++count > 2) return false;
        connection.write(count == 1 ? http_answer("429 Too Many", "Retry-After: 1\r\n", "")
                                    : http_answer("503 Service Unavailable", "", ""));
        return true;
    });
    ASSERT_TRUE(resolve());
    EXPECT_EQ(count, 3);
    const std::vector<Progress> reports = call_.reported();
    EXPECT_TRUE(std::ranges::any_of(reports, [](const Progress& progress) {
        return progress.stage.find("answered 429") != std::string::npos;
    }));
}

TEST_F(LyingRegistry, busy_ones_are_given_up) {
    registry_.set("/v2/x/manifests/1", http_answer("503 Service Unavailable", "", ""));
    expect_refused(resolve(), Errc::unreachable, "answered 503");
    EXPECT_THAT(registry_.asked("/v2/x/manifests/1"), SizeIs(3));
    registry_.set("/v2/x/manifests/1", http_answer("429 Too Many", "Retry-After: 3600\r\n", ""));
    const Result<ArtifactManifest> limited = resolve();
    expect_refused(limited, Errc::busy, "429");
    EXPECT_THAT(limited.error().remedy, HasSubstr("3600 s"));
    EXPECT_THAT(registry_.asked("/v2/x/manifests/1"), SizeIs(4)) << "an hour is not waited for";
    registry_.serve(made_);
    const Result<ArtifactManifest> manifest = resolve();
    ASSERT_TRUE(manifest);
    registry_.set(registry_.blob(made_.layers[0]), http_answer("500 Oops", "", ""));
    expect_refused(fetch(*manifest, 0), Errc::unreachable, "answered 500");
}

TEST_F(LyingRegistry, cancelled_while_waiting_for_a_busy_one) {
    options_.patience.first_wait = std::chrono::hours(1);
    options_.patience.longest_wait = std::chrono::hours(2);
    registry_.set("/v2/x/manifests/1", http_answer("503 Service Unavailable", "", ""));
    call_.on_report = [&](const Progress& progress) {
        if (progress.stage.starts_with("waiting")) call_.source.request_stop();
    };
    const Result<ArtifactManifest> manifest = resolve();
    ASSERT_FALSE(manifest);
    EXPECT_EQ(manifest.error().code, Errc::cancelled);
}

/// Answers ranges; breaks the connection after `most` bytes.
ScriptedRegistry::Special breaking(const std::string& blob, const std::string& bytes,
                                   std::size_t most, bool knows_ranges = true) {
    return [=](const std::string& path, const std::string& head, auto& connection) {
        if (path != blob) return false;
        std::size_t from = 0;
        if (const std::size_t at = head.find("Range: bytes="); at != head.npos && knows_ranges)
            from = std::stoul(head.substr(at + 13));
        const std::string rest = bytes.substr(from);
        const std::string status = from == 0 ? "200 OK\r\n"
                                             : "206 Partial Content\r\nContent-Range: bytes " +
                                                   std::to_string(from) + "-" +
                                                   std::to_string(bytes.size() - 1) + "/" +
                                                   std::to_string(bytes.size()) + "\r\n";
        connection.write("HTTP/1.1 " + status + "Content-Length: " + std::to_string(rest.size()) +
                         "\r\n\r\n" + rest.substr(0, most));
        return true;
    };
}

TEST_F(LyingRegistry, a_connection_that_breaks_goes_on_where_it_broke) {
    const std::string blob = registry_.blob(made_.layers[0]);
    registry_.set_special(breaking(blob, made_.layers[0], 10'000));
    const Result<std::string> pulled = pull();
    ASSERT_TRUE(pulled) << pulled.error().text();
    EXPECT_TRUE(*pulled == made_.layers[0]);
    EXPECT_EQ(registry_.asked(blob).size(), made_.layers[0].size() / 10'000 + 1);
    EXPECT_TRUE(fetch(*resolve(), 0, 40'000).value_or("") == made_.layers[0].substr(40'000));
}

TEST_F(LyingRegistry, a_server_that_cannot_resume) {
    const std::string blob = registry_.blob(made_.layers[0]);
    const Result<ArtifactManifest> manifest = resolve();
    ASSERT_TRUE(manifest);
    expect_refused(fetch(*manifest, 0, 1000), Errc::unsupported, "cannot continue");
    EXPECT_THAT(written_, IsEmpty());
    registry_.set_special(breaking(blob, made_.layers[0], 10'000, false));
    expect_refused(fetch(*manifest, 0), Errc::unreachable, "cannot continue");
    EXPECT_TRUE(written_ == made_.layers[0].substr(0, 10'000)) << "nothing of a second beginning";
    registry_.set_special(breaking(blob, made_.layers[0], 0));
    expect_refused(fetch(*manifest, 0), Errc::unreachable, "");
}

TEST_F(LyingRegistry, chunks_that_lie) {
    const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const std::string blob = registry_.blob(made_.layers[0]);
    registry_.set(blob, head + "ffff\r\nfew\r\n0\r\n\r\n");
    EXPECT_FALSE(pull());
    registry_.set(blob, head + "zz\r\nx");
    EXPECT_FALSE(pull());
    registry_.set(blob, head + "3\r\nabc\r\n0\r\n\r\n");
    expect_refused(pull(), Errc::corrupt, "sent 3 bytes");
    registry_.set(blob, head + "fffffffffffffffffff\r\nx");
    EXPECT_FALSE(pull());
}

TEST_F(LyingRegistry, one_that_drips) {
    std::string dripping = registry_.blob(made_.layers[0]);
    registry_.set_special([&](const std::string& path, const std::string&, auto& connection) {
        if (path != dripping) return false;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: " +
                         std::to_string(made_.layers[0].size()) + "\r\n\r\n");
        while (connection.write("x"))
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        return true;
    });
    const Result<ArtifactManifest> manifest = resolve();
    ASSERT_TRUE(manifest);
    expect_refused(fetch(*manifest, 0), Errc::unreachable, "cannot continue");
    dripping = "/v2/x/manifests/1";
    expect_refused(resolve(), Errc::timed_out, "");
}

TEST_F(LyingRegistry, one_that_is_silent) {
    registry_.set_special([&](const std::string& path, const std::string&, auto& connection) {
        if (path == "/v2/") return false;
        connection.wait();
        return true;
    });
    expect_refused(resolve(), Errc::timed_out, "");
}

TEST_F(LyingRegistry, tls_that_cannot_be_trusted_is_fatal) {
    const TempFolder folder;
    ScriptedRegistry sealed(folder / "cert.pem");
    sealed.serve(made_);
    const std::string reference = sealed.host("localhost") + "/x:1";
    expect_refused(resolve(reference), Errc::permission_denied, "");
    EXPECT_THAT(sealed.everything_asked(), IsEmpty());

    HttpClient::Limits limits = quick();
    limits.ca_file = folder / "cert.pem";
    WebHost trusting(limits);
    OciSource source(trusting, trusting, options_);
    const Result<Resolution> resolved =
        source.resolve({ArtifactKind::image, reference, "amd64"}, call_);
    EXPECT_TRUE(resolved) << resolved.error().text();
}

TEST_F(LyingRegistry, mirrors_come_first_and_may_fail) {
    ScriptedRegistry mirror;
    const auto under = [](std::string path) { return path.replace(0, 5, "/v2/proxy/x"); };
    mirror.set("/v2/proxy/x/manifests/1", oci_manifest, made_.manifest);
    mirror.set(under(registry_.blob(made_.config)), layer_type, made_.config);
    options_.mirrors = {{registry_.host(), mirror.host(), "proxy/"}};
    const Result<ArtifactManifest> manifest = resolve();
    ASSERT_TRUE(manifest) << manifest.error().text();
    EXPECT_EQ(manifest->reference, reference()) << "a mirror is no part of the name";
    EXPECT_THAT(registry_.asked("/v2/x/manifests/1"), IsEmpty());
    // It has no layers: the registry itself does.
    EXPECT_TRUE(fetch(*manifest, 0).value_or("") == made_.layers[0]);
    EXPECT_THAT(host_.logged(), HasSubstr("mirror " + mirror.host()));
    // One that breaks in the middle is taken over from where it broke.
    mirror.set_special(
        breaking(under(registry_.blob(made_.layers[1])), made_.layers[1], 20'000, false));
    registry_.set_special(breaking(registry_.blob(made_.layers[1]), made_.layers[1], 1 << 20));
    EXPECT_TRUE(fetch(*manifest, 1).value_or("") == made_.layers[1]);
    ASSERT_THAT(registry_.asked(registry_.blob(made_.layers[1])), SizeIs(1));
    EXPECT_THAT(registry_.asked(registry_.blob(made_.layers[1]))[0],
                HasSubstr("Range: bytes=20000-"));
}

TEST_F(LyingRegistry, logins_that_do_not_help) {
    registry_.set("/v2/x/manifests/1",
                  http_answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n",
                              R"({"errors":[{"message":"authentication required"}]})"));
    expect_refused(resolve(), Errc::permission_denied, "authentication required");
    log_in(registry_.host(), "joe:wrong");
    expect_refused(resolve(), Errc::permission_denied, "to your login");
    ASSERT_TRUE(write_file_atomic(host_ / "config.json", "{broken", 0600));
    const Result<ArtifactManifest> broken = resolve();
    expect_refused(broken, Errc::permission_denied, "its login could not be read");
    EXPECT_THAT(broken.error().message, HasSubstr("config.json"));
}

TEST_F(LyingRegistry, forged_locators_are_refused) {
    Result<ArtifactManifest> manifest = resolve();
    ASSERT_TRUE(manifest);
    const std::size_t before = registry_.everything_asked().size();
    for (const std::string& locator :
         {std::string(""), std::string("../../etc"), registry_.host() + "/x:1",
          registry_.host() + "/x@sha256:" + std::string(64, 'a'), std::string("oci:/etc")}) {
        manifest->parts[0].locator = locator;
        const Result<std::string> fetched = fetch(*manifest, 0);
        ASSERT_FALSE(fetched) << locator;
        EXPECT_EQ(fetched.error().code, Errc::invalid_argument);
    }
    EXPECT_EQ(registry_.everything_asked().size(), before);
}

TEST_F(LyingRegistry, doctor_asks_nobody) {
    options_.mirrors = {{"docker.io", registry_.host(), ""}};
    const std::vector<Check> checks = source().checks({});
    ASSERT_THAT(checks, SizeIs(2));
    for (const Check& check : checks)
        EXPECT_EQ(check.status, CheckStatus::pass) << check.detail;
    EXPECT_THAT(registry_.everything_asked(), IsEmpty());
}

}  // namespace
}  // namespace banger::image_oci
