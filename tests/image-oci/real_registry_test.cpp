#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "core/base/child.hpp"
#include "core/base/process.hpp"
#include "plugins/image-oci/source.hpp"
#include "tests/catalog/fake_host.hpp"
#include "tests/image-oci/made_image.hpp"
#include "tests/image-oci/web_host.hpp"

namespace banger::image_oci {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

/// bcrypt of "s3cret" for "joe", as htpasswd -B writes it.
constexpr const char* htpasswd =
    "joe:$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n";

/// Debian's docker-registry on a port of its own choice, and skopeo to fill it.
class RealRegistry : public testing::Test {
protected:
    void SetUp() override {
        for (const char* program : {"docker-registry", "skopeo"})
            if (!find_program(program)) {
                const char* required = std::getenv("BANGER_REQUIRE");
                if (required &&
                    std::string_view(required).find("registry") != std::string_view::npos)
                    FAIL() << program << " is not installed";
                GTEST_SKIP() << program << " is not installed: ./dev deps";
            }
    }
    ~RealRegistry() override {
        if (child_) child_->terminate(std::chrono::seconds(2));
    }
    void start(const std::string& more = "") {
        ASSERT_TRUE(
            write_file_atomic(folder_ / "config.yml",
                              "version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\n"
                              "storage: {filesystem: {rootdirectory: " +
                                  folder_ / "data" + "}}\nhttp: {addr: \"127.0.0.1:0\"}\n" + more,
                              0600));
        int ends[2];
        ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        log_.reset(ends[0]);
        const UniqueFd write_end(ends[1]);
        Command command;
        command.program = find_program("docker-registry").value();
        command.arguments = {"serve", folder_ / "config.yml"};
        command.environment = minimal_environment();
        command.environment["OTEL_TRACES_EXPORTER"] = "none";
        command.standard_error = write_end.get();
        command.standard_output = write_end.get();
        command.dies_with_parent = true;
        Result<Child> child = spawn(command);
        ASSERT_TRUE(child) << child.error().text();
        child_ = std::move(*child);
        host_and_port_ = "127.0.0.1:" + wait_for_port();
    }
    /// From its own log, which says where it listens once it does.
    std::string wait_for_port() {
        const std::string mark = "listening on 127.0.0.1:";
        std::string text;
        for (;;) {
            if (const std::size_t at = text.find(mark); at != text.npos) {
                const std::size_t begin = at + mark.size();
                const std::size_t end = text.find_first_not_of("0123456789", begin);
                if (end != text.npos) return text.substr(begin, end - begin);
            }
            char buffer[4096];
            const Result<int> ready = poll_fd(log_.get(), POLLIN, std::chrono::seconds(60), {});
            const ssize_t count =
                ready.value_or(0) > 0 ? ::read(log_.get(), buffer, sizeof buffer) : 0;
            if (count <= 0) {
                ADD_FAILURE() << "docker-registry did not start: " << text;
                return "0";
            }
            text.append(buffer, static_cast<std::size_t>(count));
        }
    }
    /// Copies with skopeo; `from` and `to` as it writes them.
    void copy(std::vector<std::string> options, const std::string& from, const std::string& to) {
        Command command;
        command.program = find_program("skopeo").value();
        command.arguments = {"--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"};
        command.arguments.insert(command.arguments.end(), options.begin(), options.end());
        command.arguments.push_back(from);
        command.arguments.push_back(to);
        command.environment = minimal_environment();
        command.environment["HOME"] = folder_.path();
        const Result<CommandOutput> output =
            run_command(command, std::chrono::seconds(90), ByteCount::mib(1), {});
        ASSERT_TRUE(output) << output.error().text();
        ASSERT_TRUE(output->status.is_success()) << output->standard_error;
    }
    std::string archive(const std::string& name, const std::string& bytes) {
        EXPECT_TRUE(write_file_atomic(folder_ / name, bytes, 0600));
        return folder_ / name;
    }
    OciSource& source() {
        if (!source_) {
            options_.docker_config = folder_ / "docker.json";
            source_ = std::make_unique<OciSource>(host_, host_, options_);
        }
        return *source_;
    }
    Result<ArtifactManifest> resolve(const std::string& reference) {
        Result<Resolution> resolution =
            source().resolve({ArtifactKind::image, reference, "amd64"}, call_);
        if (!resolution) return std::move(resolution).error();
        return std::get<ArtifactManifest>(*std::move(resolution));
    }
    std::string fetch(const ArtifactManifest& manifest, std::size_t part,
                      std::uint64_t resume_from = 0) {
        const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
        const Result<void> fetched = source().fetch(manifest, part, resume_from, sink, call_);
        EXPECT_TRUE(fetched) << fetched.error().text();
        ::lseek(sink.get(), 0, SEEK_SET);
        return read_all(sink.get(), ByteCount::mib(64)).value();
    }
    void expect_whole(const std::string& reference, const MadeImage& made) {
        const Result<ArtifactManifest> manifest = resolve(reference);
        ASSERT_TRUE(manifest) << manifest.error().text();
        EXPECT_EQ(manifest->run_config.working_folder, "/w");
        ASSERT_THAT(manifest->parts, SizeIs(made.layers.size()));
        for (std::size_t i = 0; i < made.layers.size(); ++i) {
            const std::string bytes = fetch(*manifest, i);
            EXPECT_EQ(digest_of(bytes), manifest->parts[i].digest);
            EXPECT_EQ(bytes.size(), manifest->parts[i].size->count());
            EXPECT_TRUE(fetch(*manifest, i, 100) == bytes.substr(100));
        }
    }

    TempFolder folder_;
    WebHost host_;
    Options options_;
    FakeCall call_;
    std::string host_and_port_;
    UniqueFd log_;
    std::optional<Child> child_;
    std::unique_ptr<OciSource> source_;
};

TEST_F(RealRegistry, images_of_both_families_by_tag_and_digest) {
    start();
    const MadeImage made(3);
    const std::string file = archive("image.tar", tar_of(layout_of(made)));
    const std::string place = "docker://" + host_and_port_ + "/team/";
    copy({"--preserve-digests"}, "oci-archive:" + file, place + "oci:1");
    copy({"--dest-compress"}, "oci-archive:" + file, place + "packed:1");
    copy({"--format", "v2s2"}, "oci-archive:" + file, place + "docker:1");
    for (const std::string name : {"oci", "packed", "docker"})
        expect_whole(host_and_port_ + "/team/" + name + ":1", made);
    expect_whole(host_and_port_ + "/team/oci@" + made.digest(), made);
    EXPECT_EQ(resolve(host_and_port_ + "/team/oci:1")->parts[0].digest, digest_of(made.layers[0]));
    const Result<ArtifactManifest> none = resolve(host_and_port_ + "/team/oci:2");
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, Errc::invalid_argument);
    EXPECT_THAT(none.error().message, HasSubstr("manifest unknown"));
}

TEST_F(RealRegistry, an_index_leads_to_this_architecture) {
    start();
    const MadeImage amd64(2);
    const MadeImage arm64(1, "arm64");
    Files files = layout_of(amd64);
    files.merge(layout_of(arm64));
    const std::string index =
        index_of({descriptor(oci_manifest, arm64.manifest, platform("linux", "arm64", "v8")),
                  descriptor(oci_manifest, amd64.manifest, platform("linux", "amd64"))});
    files[blob_name(index)] = index;
    files["index.json"] =
        R"({"schemaVersion":2,"manifests":[)" + descriptor(oci_index, index) + "]}";
    const std::string file = archive("index.tar", tar_of(files));
    copy({"--all"}, "oci-archive:" + file, "docker://" + host_and_port_ + "/both:1");
    expect_whole(host_and_port_ + "/both:1", amd64);
    expect_whole("oci-archive:" + file, amd64);
    copy({"--all"}, "oci-archive:" + file, "oci:" + folder_ / "layout" + ":one");
    expect_whole("oci:" + folder_ / "layout", amd64);
}

TEST_F(RealRegistry, with_passwords) {
    ASSERT_TRUE(write_file_atomic(folder_ / "htpasswd", htpasswd, 0600));
    start("auth: {htpasswd: {realm: here, path: " + folder_ / "htpasswd" + "}}\n");
    const MadeImage made(1);
    const std::string file = archive("image.tar", tar_of(layout_of(made)));
    copy({"--dest-creds", "joe:s3cret"}, "oci-archive:" + file,
         "docker://" + host_and_port_ + "/private:1");
    const std::string reference = host_and_port_ + "/private:1";
    Result<ArtifactManifest> manifest = resolve(reference);
    ASSERT_FALSE(manifest);
    EXPECT_EQ(manifest.error().code, Errc::permission_denied);
    EXPECT_THAT(manifest.error().remedy, HasSubstr("docker login " + host_and_port_));
    const auto log_in = [&](const std::string& login) {
        ASSERT_TRUE(write_file_atomic(
            folder_ / "docker.json",
            R"({"auths":{")" + host_and_port_ + R"(":{"auth":")" + base64(login) + "\"}}}", 0600));
    };
    log_in("joe:wrong");
    manifest = resolve(reference);
    ASSERT_FALSE(manifest);
    EXPECT_THAT(manifest.error().message, HasSubstr("to your login"));
    log_in("joe:s3cret");
    expect_whole(reference, made);
    // What docker login writes when skopeo does it.
    ASSERT_EQ(::unlink((folder_ / "docker.json").c_str()), 0);
    Command login;
    login.program = find_program("skopeo").value();
    login.arguments = {
        "login",      "--tls-verify=false",    "--username",  "joe", "--password", "s3cret",
        "--authfile", folder_ / "docker.json", host_and_port_};
    login.environment = minimal_environment();
    const Result<CommandOutput> output =
        run_command(login, std::chrono::seconds(60), ByteCount::mib(1), {});
    ASSERT_TRUE(output && output->status.is_success());
    source_.reset();
    expect_whole(reference, made);
    EXPECT_EQ(host_.logged().find("s3cret"), std::string::npos);
}

TEST_F(RealRegistry, what_skopeo_saves) {
    const MadeImage made(2);
    const std::string file = archive("image.tar", tar_of(layout_of(made)));
    copy({}, "oci-archive:" + file, "docker-archive:" + folder_ / "saved.tar" + ":team/app:7");
    copy({}, "oci-archive:" + file, "oci-archive:" + folder_ / "again.tar" + ":7");
    copy({}, "oci-archive:" + file, "oci:" + folder_ / "layout" + ":7");
    expect_whole("docker-archive:" + folder_ / "saved.tar", made);
    expect_whole("docker-archive:" + folder_ / "saved.tar" + ":team/app:7", made);
    expect_whole("oci-archive:" + folder_ / "again.tar" + ":7", made);
    expect_whole("oci:" + folder_ / "layout" + ":7", made);
    EXPECT_EQ(resolve("docker-archive:" + folder_ / "saved.tar")->suggested_name, "team-app-7");
}

}  // namespace
}  // namespace banger::image_oci
