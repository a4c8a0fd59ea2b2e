// Third parties' plugins that do what they should not, one test each: what the user sees, that
// bangerd and the other plugins go on, and that the plugin did not get what it wanted.

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "banger/contract/subject.hpp"
#include "core/base/process.hpp"
#include "core/plugin_host/landlock.hpp"
#include "tests/plugin-host/third_party.hpp"
#include "tests/plugins/http_server.hpp"

namespace banger {
namespace {

using namespace std::chrono_literals;
using contract::QuietCall;
using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

plugin_host::Patience patience(std::chrono::milliseconds plugin_host::Patience::*which,
                               std::chrono::milliseconds time) {
    plugin_host::Patience patience;
    patience.*which = time;
    return patience;
}

/// bangerd's registry with the wild plugin as its first image source.
class BadPlugin : public testing::Test {
protected:
    void SetUp() override { third_party_.install_wild(); }

    void open(const std::string& start = "", const std::string& folder = "",
              const plugin_host::Patience& patient = {}) {
        RegistryOptions options = third_party_.options({"wild", "fake"});
        options.settings["wild"] = {{"start", start}, {"folder", folder}};
        options.patience = patient;
        plugins_ = third_party_.open(std::move(options));
        ASSERT_TRUE(plugins_);
    }
    ImageSource& wild() { return *plugins_->image_sources().at(0).second; }
    ImageSource& fake() { return *plugins_->image_sources().at(1).second; }
    static Result<Resolution> resolve(ImageSource& source, const std::string& reference,
                                      std::stop_token stop = {}) {
        QuietCall call(std::move(stop));
        return source.resolve({ArtifactKind::image, reference, "amd64"}, call);
    }
    /// What the plugin tried, and was told.
    Error refused(const std::string& deed) {
        const Result<Resolution> resolution = resolve(wild(), "wild:" + deed);
        EXPECT_FALSE(resolution) << deed << " worked";
        return resolution ? Error() : resolution.error();
    }
    void expect_others_work() {
        EXPECT_TRUE(resolve(fake(), "fake:small"));
        EXPECT_TRUE(plugins_->storage().remove(VmId::random()));
    }
    std::int64_t pid() {
        const Result<Resolution> resolution = resolve(wild(), "wild:pid");
        if (!resolution) {
            ADD_FAILURE() << resolution.error().text();
            return 0;
        }
        return std::stoll(std::get<ArtifactManifest>(*resolution).description.substr(4));
    }
    Check row(const std::string& name) {
        for (const Check& check : plugins_->checks({}))
            if (check.name == name) return check;
        ADD_FAILURE() << "doctor has no row " << name;
        return {};
    }

    ThirdParty third_party_;
    std::unique_ptr<Registry> plugins_;
};

TEST_F(BadPlugin, a_good_day_runs_in_a_process_of_its_own) {
    open();
    EXPECT_EQ(plugins_->info("wild")->status, PluginStatus::loaded);
    const std::int64_t its = pid();
    EXPECT_NE(its, ::getpid());
    EXPECT_EQ(pid(), its) << "one process for many calls";
    EXPECT_EQ(plugins_->info("wild")->runs_in, "banger-plugin-host");
    EXPECT_THAT(third_party_.lines_with("is being made"), Contains("wild: wild is being made"));
    EXPECT_EQ(row("plugin wild").status, CheckStatus::pass);
    EXPECT_EQ(row("wild").detail, "as ever") << "its own row";
    plugins_.reset();
    EXPECT_FALSE(process_id_of(its)) << "it ends with bangerd";
}

// ---- what is wrong with the file ----

struct Misfit {
    const char* variant;
    const char* reason;
};
class MisfitPlugin : public testing::TestWithParam<Misfit> {};

TEST_P(MisfitPlugin, is_a_sentence_and_bangerd_starts) {
    ThirdParty third_party;
    third_party.folder().install(GetParam().variant);
    RegistryOptions options = third_party.options();
    options.choice.network = "sample";  // named by the configuration all the same
    const std::unique_ptr<Registry> plugins = third_party.open(std::move(options));
    ASSERT_TRUE(plugins);
    const Result<void> call = plugins->network().detach(VmId::random());
    ASSERT_FALSE(call);
    EXPECT_EQ(call.error().code, Errc::unavailable);
    EXPECT_THAT(call.error().message, HasSubstr(GetParam().reason));
    EXPECT_THAT(call.error().remedy, Not(IsEmpty()));
    const Result<PluginInfo> info = plugins->info("sample");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->status, PluginStatus::refused);
    EXPECT_THAT(info->refusal->reason, HasSubstr(GetParam().reason));
    EXPECT_TRUE(plugins->storage().remove(VmId::random())) << "the others work";
}

INSTANTIATE_TEST_SUITE_P(each, MisfitPlugin,
                         testing::Values(Misfit{"api_new", "plugin-api version 2"},
                                         Misfit{"tag", "built with \"libc++17\""},
                                         Misfit{"no_symbol", "no symbol"},
                                         Misfit{"magic", "wrong first word"},
                                         Misfit{"create_throws", "create lost its temper"}),
                         [](const auto& row) { return std::string(row.param.variant); });

TEST_F(BadPlugin, ends_or_hangs_while_it_is_started) {
    open("abort");
    Error error = refused("pid");
    EXPECT_EQ(error.code, Errc::unavailable);
    EXPECT_THAT(error.message, HasSubstr("did not start: it ended while it was started: killed by "
                                         "signal 6"));
    EXPECT_THAT(error.remedy, HasSubstr("log of bangerd"));
    expect_others_work();

    open("sleep", "", patience(&plugin_host::Patience::start, 300ms));
    error = refused("pid");
    EXPECT_EQ(error.code, Errc::unavailable);
    EXPECT_THAT(error.message, HasSubstr("it did not start within"));
    expect_others_work();

    open("throw");
    EXPECT_THAT(refused("pid").message, HasSubstr("it cannot start: lost its temper"));
}

// ---- what it does when it is called ----

TEST_F(BadPlugin, crashes_and_is_started_again_until_it_is_in_quarantine) {
    open();
    std::int64_t last = 0;
    for (const char* deed : {"exit", "abort", "crash"}) {
        const std::int64_t before = pid();
        EXPECT_NE(before, last);
        last = before;
        const Error error = refused(deed);
        EXPECT_EQ(error.code, Errc::unavailable) << deed;
        EXPECT_THAT(error.message, HasSubstr("the plugin wild went away")) << deed;
        EXPECT_THAT(error.remedy, HasSubstr("banger plugin info wild")) << deed;
        expect_others_work();
    }
    const Error after = refused("pid");
    EXPECT_EQ(after.code, Errc::unavailable);
    EXPECT_THAT(after.message, HasSubstr("is in quarantine, because it crashed 3 times"));
    EXPECT_THAT(after.remedy, HasSubstr("banger plugin retry wild"));
    const Result<PluginInfo> info = plugins_->info("wild");
    EXPECT_EQ(info->status, PluginStatus::quarantined);
    EXPECT_THAT(info->refusal->reason, HasSubstr("killed by signal"));
    EXPECT_EQ(row("plugin wild").status, CheckStatus::warn);
    EXPECT_THAT(third_party_.lines_with("is in quarantine"),
                Contains(HasSubstr("is in quarantine")));
    expect_others_work();

    open();
    EXPECT_THAT(refused("pid").message, HasSubstr("is in quarantine")) << "bangerd starts anew";
    ASSERT_TRUE(plugins_->retry("wild"));
    EXPECT_TRUE(resolve(wild(), "wild:pid"));
    EXPECT_EQ(plugins_->info("wild")->status, PluginStatus::loaded);
    EXPECT_EQ(plugins_->retry("fake").error().code, Errc::unsupported);
    EXPECT_EQ(plugins_->retry("wilt").error().code, Errc::not_found);
    for (int i = 0; i < 3; ++i)
        static_cast<void>(refused("crash"));
    EXPECT_THAT(refused("pid").message, HasSubstr("is in quarantine"));
    third_party_.install_wild();
    open();
    EXPECT_TRUE(resolve(wild(), "wild:pid")) << "another file is another plugin";
}

TEST_F(BadPlugin, throws) {
    open();
    const std::int64_t its = pid();
    const Error error = refused("throw");
    EXPECT_EQ(error.code, Errc::internal);
    EXPECT_THAT(error.message, HasSubstr("wild/image-source.resolve threw: lost its temper"));
    EXPECT_EQ(pid(), its) << "that is no crash";
}

TEST_F(BadPlugin, sleeps_for_ever_and_the_caller_leaves) {
    open("", "", patience(&plugin_host::Patience::stopping, 200ms));
    const std::int64_t its = pid();
    std::stop_source source;
    std::optional<Result<Resolution>> result;
    {
        std::jthread thread(
            [&] { result.emplace(resolve(wild(), "wild:sleep", source.get_token())); });
        while (plugins_->info("wild")->in_flight.empty())
            std::this_thread::yield();
        // Others are served meanwhile, by the same plugin too.
        EXPECT_EQ(pid(), its);
        expect_others_work();
        source.request_stop();
    }
    ASSERT_FALSE(*result);
    EXPECT_EQ(result->error().code, Errc::cancelled);
    EXPECT_NE(pid(), its) << "it did not come back, so it was ended";
    EXPECT_THAT(third_party_.lines_with("did not answer wild"),
                Contains(HasSubstr("did not answer wild/image-source.resolve after it was")));
}

TEST_F(BadPlugin, sleeps_for_ever_and_nobody_leaves) {
    open("", "", patience(&plugin_host::Patience::silence, 2s));
    const Error error = refused("sleep");
    EXPECT_EQ(error.code, Errc::timed_out);
    EXPECT_THAT(error.message, HasSubstr("did not answer wild/image-source.resolve in time"));
    EXPECT_TRUE(resolve(wild(), "wild:pid")) << "a new one";
}

TEST_F(BadPlugin, allocates_without_end) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "the sanitizers reserve more than any limit";
#else
    open();
    const Error error = refused("allocate");
    EXPECT_THAT(error.message, HasSubstr("std::bad_alloc")) << error.text();
    expect_others_work();
#endif
}

TEST_F(BadPlugin, answers_with_garbage) {
    open();
    const Error error = refused("garbage");
    // It says so on each of its sockets; whoever hears it first ends it, and the call may learn of
    // that alone.
    EXPECT_THAT(error.code, testing::AnyOf(Errc::corrupt, Errc::unavailable));
    EXPECT_THAT(error.message,
                testing::AnyOf(HasSubstr("the plugin wild answered wild/image-source.resolve with "
                                         "what is no answer"),
                               HasSubstr("the plugin wild went away")));
    EXPECT_TRUE(resolve(wild(), "wild:pid")) << "a new one";
    expect_others_work();
}

TEST_F(BadPlugin, writes_and_reads_outside_of_its_folders) {
    if (plugin_host::landlock_version() == 0) GTEST_SKIP() << "this kernel has no Landlock";
    const TempFolder opened;
    ASSERT_TRUE(write_file_atomic(third_party_.outside("secret"), "s", 0600));
    ASSERT_TRUE(write_file_atomic(opened / "given", "g", 0600));
    open("", opened.path());
    for (const std::string& deed :
         {"write=" + third_party_.outside("mine"), "read=" + third_party_.outside("secret"),
          "write=" + opened / "more", std::string("read=/proc/1/environ"),
          "read=" + third_party_.folder().manifest("wild")})
        EXPECT_EQ(refused(deed).code, Errc::permission_denied) << deed;
    EXPECT_FALSE(path_exists(third_party_.outside("mine")));
    EXPECT_TRUE(resolve(wild(), "wild:read=" + opened / "given")) << "declared and chosen";
    const std::string state = third_party_.options().own_folders.state + "/wild";
    EXPECT_TRUE(resolve(wild(), "wild:write=" + state + "/note"));
    EXPECT_EQ(refused("link=" + state + "/link").code, Errc::permission_denied);
    // Landlock has no right for it; the filter has.
    EXPECT_EQ(refused("chmod=" + third_party_.outside("secret")).code, Errc::permission_denied);
}

TEST_F(BadPlugin, opens_the_network_undeclared) {
    open();
    for (const char* family : {"inet", "unix"})
        EXPECT_EQ(refused(std::string("socket=") + family).code, Errc::permission_denied) << family;
    const Error error = refused("web=http://127.0.0.1:1/");
    EXPECT_EQ(error.code, Errc::permission_denied);
    EXPECT_THAT(error.message, HasSubstr("does not ask for the network"));
}

TEST_F(BadPlugin, a_declared_network_is_the_web_through_bangerd) {
    const HttpServer server([](const std::string&, HttpServer::Connection& connection) {
        connection.write(http_answer("200 OK", "", std::string(300'000, 'b')));
    });
    third_party_.folder().write(third_party_.folder().manifest("wild"),
                                source_file("tests/plugin-host/wild.toml") + "network = true\n");
    open();
    EXPECT_EQ(refused("socket=inet").code, Errc::permission_denied) << "no socket of its own";
    const Error error = refused("web=" + server.url());
    EXPECT_EQ(error.code, Errc::wrong_state) << error.text();
    EXPECT_THAT(error.message, HasSubstr("200 300000 200 300000"));
}

TEST_F(BadPlugin, forks_and_signals) {
    open();
    EXPECT_EQ(refused("fork").code, Errc::permission_denied);
    EXPECT_EQ(refused("kill").code, Errc::permission_denied) << "bangerd is its parent";
    EXPECT_FALSE(resolve(wild(), "wild:outlive")) << "it dies with bangerd";
}

TEST_F(BadPlugin, keeps_descriptors_and_writes_to_them_later) {
    ::signal(SIGPIPE, SIG_IGN);
    open();
    const Result<Resolution> resolution = resolve(wild(), "wild:leak");
    ASSERT_TRUE(resolution);
    const auto& manifest = std::get<ArtifactManifest>(*resolution);
    QuietCall call;
    int ends[2] = {-1, -1};
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    UniqueFd sink(ends[1]);
    ASSERT_TRUE(wild().fetch(manifest, 0, 0, sink, call));
    sink.reset();
    // The reader sees the end, whoever kept the other one.
    const Result<std::string> bytes = read_all(reader.get(), ByteCount::mib(1));
    ASSERT_TRUE(bytes);
    EXPECT_EQ(bytes->substr(0, 5), "bytes");
    // It runs out of its own descriptors, and bangerd has none fewer.
    const std::size_t before = list_folder("/proc/self/fd").value().size();
    const UniqueFd file(::memfd_create("part", MFD_CLOEXEC));
    int failures = 0;
    for (int i = 0; i < 300; ++i)
        if (!wild().fetch(manifest, 0, 0, file, call)) ++failures;
    EXPECT_GT(failures, 0);
    EXPECT_LE(list_folder("/proc/self/fd").value().size(), before + 8);
    expect_others_work();
}

TEST_F(BadPlugin, writes_more_than_anybody_reads) {
    open();
    ASSERT_TRUE(resolve(wild(), "wild:chatter"));
    plugins_.reset();
    const std::vector<std::string> lines = third_party_.lines();
    EXPECT_LE(lines.size(), 300u);
    EXPECT_THAT(lines, Contains(HasSubstr("lines more were left out")));
    EXPECT_THAT(lines, Each(Not(HasSubstr("\033")))) << "a terminal may show them";
}

// ---- what it asks for ----

TEST_F(BadPlugin, asks_for_what_is_bangers_own) {
    RegistryOptions options = third_party_.options({"wild"});
    ASSERT_TRUE(ensure_folder(options.own_folders.state, 0700));
    options.settings["wild"] = {{"folder", parent_path(options.own_folders.state)}};
    plugins_ = third_party_.open(std::move(options));
    const Error error = refused("pid");
    EXPECT_THAT(error.message, HasSubstr("where banger's own"));
}

TEST_F(BadPlugin, needs_root) {
    std::string manifest = source_file("tests/plugin-host/wild.toml");
    manifest.replace(manifest.find("\"none\""), 6, "\"root\"");
    manifest.erase(manifest.find("\n[sandbox]"));
    third_party_.folder().write(third_party_.folder().manifest("wild"), manifest);
    open();
    EXPECT_THAT(refused("pid").message, HasSubstr("in a folder that is not banger's own"));
}

TEST_F(BadPlugin, fills_the_role_that_none_can_fill_from_there) {
    std::string manifest = source_file("tests/plugin-host/wild.toml");
    const std::size_t at = manifest.find("roles = ");
    manifest.replace(at, manifest.find('\n', at) - at, R"(roles = ["vm-backend"])");
    third_party_.folder().write(third_party_.folder().manifest("wild"), manifest);
    open();
    const Error error = plugins_->vm_backend("wild").error();
    EXPECT_THAT(error.message, HasSubstr("starts no other process"));
    EXPECT_THAT(error.remedy, HasSubstr("beside banger's own plugins"));
    EXPECT_EQ(plugins_->info("wild")->status, PluginStatus::refused);
    EXPECT_THAT(row("plugin wild").detail, HasSubstr("vm-backend"));
    expect_others_work();
}

TEST_F(BadPlugin, safe_mode_leaves_it_alone) {
    RegistryOptions options = third_party_.options({"wild", "fake"});
    options.is_safe_mode = true;
    plugins_ = third_party_.open(std::move(options));
    ASSERT_TRUE(plugins_);
    EXPECT_THAT(refused("pid").message, HasSubstr("safe mode"));
    EXPECT_EQ(plugins_->info("wild")->status, PluginStatus::refused);
    EXPECT_THAT(row("plugin wild").remedy, HasSubstr("--safe-mode"));
    expect_others_work();
}

TEST_F(BadPlugin, an_executable_that_is_none) {
    const PluginFolder& folder = third_party_.folder();
    const std::string manifest = source_file("tests/third-party/python-image-source/image-py.toml");
    folder.write(folder.manifest("image-py"), manifest);
    RegistryOptions options = third_party_.options({"fake"});
    const auto reason_of = [&] {
        const std::unique_ptr<Registry> plugins = third_party_.open(options);
        const Result<ImageSource*> source = plugins->image_source("image-py");
        if (!source) return source.error().text();
        QuietCall call;
        return (*source)->available(call).error().text();
    };
    EXPECT_THAT(reason_of(), HasSubstr("no such file"));
    folder.write(folder.path() + "/image-py", "#!/bin/sh\n", 0644);
    EXPECT_THAT(reason_of(), HasSubstr("it is not executable"));
    folder.write(folder.path() + "/image-py", "neither script nor program", 0755);
    EXPECT_THAT(reason_of(), HasSubstr("it cannot be run"));
    folder.write(folder.path() + "/image-py", "#!/bin/sh\nexit 3\n", 0755);
    EXPECT_THAT(reason_of(), HasSubstr("exit status 3"));
    folder.write(folder.path() + "/image-py", "#!/bin/sh\necho hello >&3\nwhile :; do :; done\n",
                 0755);
    EXPECT_THAT(reason_of(), HasSubstr("its first answer is none"));
}

}  // namespace
}  // namespace banger
