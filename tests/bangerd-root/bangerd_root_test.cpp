// A real bangerd-root with the fakes in it: what it is made of, who may speak with it, and what is
// left after it was killed.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "banger/contract/subject.hpp"
#include "core/base/child.hpp"
#include "core/plugins/registry.hpp"
#include "core/remote/proxies.hpp"
#include "core/rpc/message.hpp"
#include "daemons/bangerd-root/digest.hpp"
#include "fake_plugin.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::root {
namespace {

using contract::failed_with;
using contract::has_remedy;
using contract::never;
using contract::succeeded;
using rpc::PacketChannel;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::string_view sanitized = SANITIZED;

std::chrono::steady_clock::time_point soon() {
    return std::chrono::steady_clock::now() + std::chrono::seconds(30);
}

/// One helper and its places.
class BangerdRootTest : public testing::Test {
protected:
    void SetUp() override {
        for (const char* name : {"plugins", "run", "state"})
            ASSERT_TRUE(ensure_folder(folder_ / name, 0711));
        std::filesystem::copy_file(FAKE_ROOT, folder_ / "plugins/fake-root.so");
        std::filesystem::copy_file(FAKE_ROOT_MANIFEST, folder_ / "plugins/fake-root.toml");
        for (const char* name : {"plugins/fake-root.so", "plugins/fake-root.toml"})
            ASSERT_EQ(::chmod((folder_ / name).c_str(), 0644), 0);
        configure("");
        listen_for_notifications();
    }
    void TearDown() override {
        if (child_) child_->terminate(std::chrono::seconds(10));
        if (HasFailure()) ADD_FAILURE() << "the helper said:\n" << said();
    }

    void configure(const std::string& settings) {
        write_configuration(R"({"owner_uid":)" + std::to_string(::geteuid()) +
                            R"(,"owner_gid":0,"plugins":[{"name":"fake-root","settings":{)" +
                            settings + "}}]}");
    }
    void write_configuration(const std::string& text) {
        ASSERT_TRUE(write_file_atomic(folder_ / "helper.json", text, 0600));
    }

    /// Starts it and returns when it serves or has ended.
    void start(std::vector<std::string> flags = {}) {
        const UniqueFd log(
            ::open((folder_ / "log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
        Command command;
        command.program = BANGERD_ROOT;
        command.arguments = {
            "--config", folder_ / "helper.json", "--plugins",     folder_ / "plugins",
            "--run",    folder_ / "run",         "--state",       folder_ / "state",
            "--socket", socket_path(),           "--trusted-uid", std::to_string(::geteuid())};
        command.arguments.insert(command.arguments.end(), flags.begin(), flags.end());
        command.environment = {{"NOTIFY_SOCKET", folder_ / "notify"}};
        command.standard_error = log.get();
        Result<Child> child = spawn(command);
        ASSERT_TRUE(succeeded(child));
        child_.emplace(std::move(child).value());
        await_ready();
    }
    void await_ready() {
        while (true) {
            pollfd all[] = {{notify_.get(), POLLIN, 0}, {child_->pidfd().get(), POLLIN, 0}};
            ASSERT_GT(::poll(all, 2, 60'000), 0);
            if (all[0].revents == 0) return;
            char text[256] = {};
            ASSERT_GT(::recv(notify_.get(), text, sizeof text - 1, 0), 0);
            if (std::string_view(text).find("READY=1") != std::string_view::npos) return;
        }
    }
    /// What it ends with by itself.
    ExitStatus ended() {
        const Result<ExitStatus> status = child_->wait({});
        child_.reset();
        return status.value();
    }
    void kill_it() {
        ASSERT_EQ(::kill(static_cast<pid_t>(child_->id().pid), SIGKILL), 0);
        EXPECT_EQ(ended().signal, SIGKILL);
    }
    std::string said() { return read_file(folder_ / "log", ByteCount::mib(1)).value_or(""); }
    [[nodiscard]] std::string socket_path() const { return folder_ / "run/s"; }
    std::string proc(const std::string& name) {
        return read_file("/proc/" + std::to_string(child_->id().pid) + "/" + name,
                         ByteCount::mib(4))
            .value_or("");
    }

    std::unique_ptr<remote::RemotePlugin> plugin() {
        return remote::RemotePlugin::open(
                   remote::Client::open(remote::connect_to(socket_path()), {}).value(), "fake-root")
            .value();
    }
    /// Returns when a call is in flight: a connection beside ours would not see it, so the plugin's
    /// half-made link is looked for.
    void await_call() {
        while (links().empty())
            std::this_thread::yield();
    }
    PacketChannel connect() { return remote::connect_to(socket_path())().value(); }
    static LinkRequest request(const std::string& name = "a") {
        const VmId id = VmId::random();
        return {id,
                VmName::parse(name).value(),
                MacAddress::of(id),
                Ipv4Address::parse("10.99.0.7").value(),
                false,
                ::geteuid(),
                {}};
    }
    std::vector<std::string> links() { return list_folder(folder_ / "run/fake-root/net").value(); }

    TempFolder folder_;
    std::optional<Child> child_;

private:
    void listen_for_notifications() {
        notify_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const std::string path = folder_ / "notify";
        std::memcpy(static_cast<void*>(address.sun_path), path.c_str(), path.size() + 1);
        ASSERT_EQ(::bind(notify_.get(), reinterpret_cast<const sockaddr*>(&address),  // NOLINT
                         sizeof address),
                  0);
    }
    UniqueFd notify_;
};

TEST_F(BangerdRootTest, serves_the_roles_of_its_plugin) {
    configure(R"("pool":"10.77.0.1/24")");
    start();
    const std::unique_ptr<remote::RemotePlugin> remote = plugin();
    const Roles roles = remote->roles();
    ASSERT_NE(roles.network, nullptr);
    ASSERT_NE(roles.storage, nullptr);
    ASSERT_NE(roles.dns, nullptr);
    EXPECT_EQ(roles.vm_backend, nullptr);
    EXPECT_EQ(roles.network->addressing().pool->text(), "10.77.0.1/24");
    LinkRequest asked = request();
    asked.address = Ipv4Address::parse("10.77.0.9").value();
    EXPECT_TRUE(succeeded(roles.network->attach(asked, never())));
    EXPECT_THAT(links(), SizeIs(1));
    EXPECT_TRUE(succeeded(roles.network->detach(asked.vm)));
    EXPECT_THAT(links(), IsEmpty());
}

TEST_F(BangerdRootTest, leaves_on_sigterm_and_leaves_everything_where_it_is) {
    start();
    const std::unique_ptr<remote::RemotePlugin> remote = plugin();
    ASSERT_TRUE(succeeded(remote->roles().network->attach(request(), never())));
    ASSERT_EQ(::kill(static_cast<pid_t>(child_->id().pid), SIGTERM), 0);
    EXPECT_TRUE(ended().is_success()) << said();
    EXPECT_THAT(links(), SizeIs(1));
}

TEST_F(BangerdRootTest, a_call_that_hangs_is_stopped_and_undone_before_it_leaves) {
    configure(R"("hang":["network.attach"])");
    start({"--drain-milliseconds", "100"});
    const std::unique_ptr<remote::RemotePlugin> remote = plugin();
    std::jthread asks([&] {
        EXPECT_TRUE(
            failed_with(remote->roles().network->attach(request(), never()), Errc::cancelled));
    });
    await_call();
    ASSERT_EQ(::kill(static_cast<pid_t>(child_->id().pid), SIGTERM), 0);
    EXPECT_TRUE(ended().is_success());
    asks.join();
    EXPECT_THAT(links(), IsEmpty());
}

TEST_F(BangerdRootTest, a_call_that_is_stuck_does_not_keep_it) {
    start(
        {"--drain-milliseconds", "50", "--call-milliseconds", "50", "--grace-milliseconds", "50"});
    const std::unique_ptr<remote::RemotePlugin> remote = plugin();
    EXPECT_TRUE(
        failed_with(remote->roles().network->attach(request("blocks"), never()), Errc::timed_out));
    EXPECT_TRUE(succeeded(remote->roles().network->detach(VmId::random()))) << "others go on";
    ASSERT_EQ(::kill(static_cast<pid_t>(child_->id().pid), SIGTERM), 0);
    EXPECT_TRUE(ended().is_success());
    EXPECT_THAT(said(), HasSubstr("is stuck"));
}

TEST_F(BangerdRootTest, a_plugin_that_throws_or_dies_is_an_error_of_one_call) {
    start();
    const std::unique_ptr<remote::RemotePlugin> remote = plugin();
    Network& network = *remote->roles().network;
    const Result<NetworkLink> thrown = network.attach(request("throws"), never());
    EXPECT_TRUE(failed_with(thrown, Errc::internal));
    EXPECT_TRUE(has_remedy(thrown));
    const Result<NetworkLink> died = network.attach(request("aborts"), never());
    EXPECT_TRUE(failed_with(died, Errc::unavailable));
    EXPECT_TRUE(has_remedy(died));
    EXPECT_EQ(ended().signal, SIGABRT);
    start();
    EXPECT_TRUE(succeeded(network.attach(request(), never()))) << "the proxy found the new one";
}

TEST_F(BangerdRootTest, killed_in_the_middle_of_a_call_and_started_again) {
    configure(R"("hang":["network.attach"])");
    start();
    const std::unique_ptr<remote::RemotePlugin> remote = plugin();
    Network& network = *remote->roles().network;
    const LinkRequest asked = request();
    std::jthread asks(
        [&] { EXPECT_TRUE(failed_with(network.attach(asked, never()), Errc::unavailable)); });
    await_call();
    kill_it();
    asks.join();
    configure("");
    start();
    EXPECT_TRUE(succeeded(network.detach(asked.vm)));
    EXPECT_THAT(links(), IsEmpty());
    EXPECT_TRUE(succeeded(network.attach(asked, never())));
    kill_it();
    start();
    EXPECT_THAT(links(), SizeIs(1)) << "what it made outlives it";
    EXPECT_TRUE(succeeded(network.recover({})));
    EXPECT_THAT(links(), IsEmpty());
}

TEST_F(BangerdRootTest, another_user_is_refused) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to be somebody else";
    start();
    ASSERT_EQ(::chmod(folder_.path().c_str(), 0711), 0);
    ASSERT_EQ(::chmod(socket_path().c_str(), 0666), 0) << "the file's mode would refuse him first";
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(9);
        const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        ::strncpy(static_cast<char*>(address.sun_path), socket_path().c_str(),
                  sizeof address.sun_path - 1);
        if (::connect(fd, reinterpret_cast<const sockaddr*>(&address),  // NOLINT
                      sizeof address) != 0)
            ::_exit(8);
        constexpr std::string_view call = R"({"method":"banger.describe"})";
        static_cast<void>(::send(fd, call.data(), call.size(), MSG_NOSIGNAL));
        char answer[16];
        ::_exit(::recv(fd, answer, sizeof answer, 0) > 0 ? 7 : 0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_NE(plugin(), nullptr) << "the owner is served as before";
    EXPECT_THAT(said(), HasSubstr("refused a connection of uid 65534"));
}

TEST_F(BangerdRootTest, somebody_elses_uid_and_sizes_over_the_limit_are_refused) {
    start();
    const std::unique_ptr<remote::RemotePlugin> remote = plugin();
    LinkRequest foreign = request();
    foreign.owner_uid += 1;
    EXPECT_TRUE(
        failed_with(remote->roles().network->attach(foreign, never()), Errc::permission_denied));
    const UniqueFd base(::open(FAKE_ROOT_MANIFEST, O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(failed_with(remote->roles().storage->create({VmId::random(),
                                                             VolumeRole::root,
                                                             base.get(),
                                                             ByteCount::gib(16 * 1024 + 1),
                                                             {DiskFormat::raw},
                                                             ::geteuid()},
                                                            never()),
                            Errc::invalid_argument));
    EXPECT_THAT(links(), IsEmpty());
}

TEST_F(BangerdRootTest, ten_thousand_random_messages_make_nothing) {
    start();
    std::mt19937 random(7);  // NOLINT: the same messages in every run
    const std::string seed =
        R"({"method":"fake-root/storage.create","parameters":{"request":{"vm":"0123456789ab",)"
        R"("role":"root","size":1048576,"formats":["raw"],"owner_uid":0}}})";
    PacketChannel channel = connect();
    for (int i = 0; i < 10000; ++i) {
        std::string text = seed;
        for (std::size_t changes = random() % 8 + 1; changes > 0; --changes)
            text[random() % text.size()] = static_cast<char>(random() % 256);
        const bool is_sent = channel.send(text, {}, soon()).has_value();
        const Result<rpc::Packet> answer = channel.receive(soon(), {});
        ASSERT_TRUE(!is_sent || answer) << answer.error().text();
        const Result<rpc::ReplyMessage> reply = rpc::read_reply(answer->text);
        ASSERT_TRUE(succeeded(reply));
        EXPECT_FALSE(reply->error.empty()) << "no descriptor came with it: " << text;
        if (rpc::error_of(*reply).code == Errc::corrupt) channel = connect();
    }
    EXPECT_THAT(list_folder(folder_ / "state/fake-root/disks").value(), IsEmpty());
    EXPECT_NE(plugin(), nullptr);
}

TEST_F(BangerdRootTest, does_not_start_on_what_others_could_have_written) {
    const auto refuses = [&](const std::string& reason) {
        start();
        EXPECT_EQ(ended().code, 1);
        EXPECT_THAT(said(), HasSubstr(reason));
    };
    write_configuration("{}");
    refuses("owner_uid");
    write_configuration(R"({"owner_uid":0,"owner_gid":0,"plugins":[],"shell":"/bin/sh"})");
    refuses("shell");
    write_configuration(
        R"({"owner_uid":0,"owner_gid":0,"plugins":[{"name":"missing","settings":{}}]})");
    refuses("missing.so");
    configure(R"("all_roles":true)");
    refuses("no policy");
    configure("");
    ASSERT_EQ(::chmod((folder_ / "plugins/fake-root.so").c_str(), 0666), 0);
    refuses("can be written by others");
    ASSERT_EQ(::chmod((folder_ / "plugins/fake-root.so").c_str(), 0644), 0);
    ASSERT_EQ(::chmod((folder_ / "plugins").c_str(), 0777), 0);
    refuses("can be written by others");
    ASSERT_EQ(::chmod((folder_ / "plugins").c_str(), 0755), 0);
    ASSERT_EQ(::rename((folder_ / "plugins/fake-root.so").c_str(), (folder_ / "x").c_str()), 0);
    ASSERT_EQ(::symlink((folder_ / "x").c_str(), (folder_ / "plugins/fake-root.so").c_str()), 0);
    refuses("symbolic link");
}

TEST_F(BangerdRootTest, a_library_with_a_digest_is_that_one_or_none) {
    const std::string library = folder_ / "plugins/fake-root.so";
    const auto configure_digest = [&](const std::string& digest) {
        write_configuration(R"({"owner_uid":)" + std::to_string(::geteuid()) +
                            R"(,"owner_gid":0,"plugins":[{"name":"fake-root","settings":{},)" +
                            R"("digest":")" + digest + "\"}]}");
    };
    const auto refuses = [&](const std::string& reason, const std::string& remedy) {
        start();
        EXPECT_EQ(ended().code, 1);
        EXPECT_THAT(said(), HasSubstr(reason));
        EXPECT_THAT(said(), HasSubstr(remedy));
    };
    const UniqueFd file(::open(library.c_str(), O_RDONLY | O_CLOEXEC));
    const std::string digest = sha256_of(file.get()).value().str();
    configure_digest(digest);
    start();
    EXPECT_NE(plugin(), nullptr);
    kill_it();

    // Who had it open for writing when it became root's could change it after the look.
    UniqueFd writer(::open(library.c_str(), O_WRONLY | O_CLOEXEC));
    refuses("is open for writing", "install -m 644");
    writer.reset();

    std::string bytes = read_file(library, ByteCount::mib(256)).value();
    bytes.push_back('\0');
    ASSERT_TRUE(write_file_atomic(library, bytes, 0644));
    refuses("is not the library that root allowed", "sudo banger plugin trust fake-root");
    configure_digest("sha256:12");
    refuses("digest", "");
}

TEST(Sha256Test, IsTheStandards) {
    for (const auto& [text, sum] :
         {std::pair{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
          {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}) {
        TempFolder folder;
        ASSERT_TRUE(write_file_atomic(folder / "file", text, 0600));
        const UniqueFd file = open_read(folder / "file").value();
        EXPECT_EQ(sha256_of(file.get()).value().hex(), sum);
        EXPECT_FALSE(is_being_written(file.get()).value());
    }
    EXPECT_FALSE(sha256_of(-1));
    EXPECT_FALSE(is_being_written(-1));
}

TEST_F(BangerdRootTest, its_plugins_privilege_shows_in_the_registry) {
    start();
    const std::string fake = R"(name = "fake"
version = "0.1.0"
summary = "a"
roles = ["network", "dns", "storage", "image-source", "vm-backend"]
privilege = "none"
api_version = 1
)";
    RegistryOptions options;
    options.folders = {folder_ / "plugins"};
    options.owner = ::geteuid();
    options.choice = {"fake-root", "fake-root", "fake-root", "fake", {}};
    options.own_folders = {folder_ / "own", folder_ / "own", folder_ / "own"};
    options.built_in.push_back({parse_manifest(fake, "fake.toml").value(),
                                [](Host& host) -> Result<std::unique_ptr<Plugin>> {
                                    return std::unique_ptr<Plugin>(
                                        BANGER_TRY(FakePlugin::make(host)));
                                }});
    std::vector<std::string> recovered;
    options.on_load = [&](const PluginName& name, const Roles& roles) -> Result<void> {
        recovered.push_back(name.str());
        if (roles.network != nullptr) BANGER_TRY(roles.network->recover({}));
        return ok();
    };
    options.root_socket = socket_path();
    const Result<std::unique_ptr<Registry>> registry = Registry::open(options);
    ASSERT_TRUE(succeeded(registry));
    EXPECT_THAT(recovered, Contains("fake-root"));
    const Result<PluginInfo> info = (*registry)->info("fake-root");
    ASSERT_TRUE(succeeded(info));
    EXPECT_EQ(info->status, PluginStatus::loaded);
    EXPECT_EQ(info->runs_in, "bangerd-root");
    const LinkRequest asked = request();
    EXPECT_TRUE(succeeded((*registry)->network().attach(asked, never())));
    EXPECT_THAT(links(), SizeIs(1));
    kill_it();
    EXPECT_TRUE(failed_with((*registry)->network().detach(asked.vm), Errc::unavailable));
    start();
    EXPECT_TRUE(succeeded((*registry)->network().detach(asked.vm)));
    EXPECT_THAT(links(), IsEmpty());
    EXPECT_THAT(proc("maps"), HasSubstr("fake-root.so"));
    EXPECT_THAT(read_file("/proc/self/maps", ByteCount::mib(4)).value(),
                testing::Not(HasSubstr("plugins/fake-root.so")));

    options.root_socket.clear();
    const Result<std::unique_ptr<Registry>> user_mode = Registry::open(options);
    EXPECT_TRUE(failed_with(user_mode, Errc::unsupported));
}

// ---- what it is made of ----

/// Paths of the libraries that a process has mapped.
std::set<std::string> libraries_in(const std::string& maps) {
    std::set<std::string> found;
    std::istringstream lines(maps);
    for (std::string line; std::getline(lines, line);)
        if (const std::size_t at = line.find('/'); at != line.npos)
            if (line.find(".so", at) != line.npos) found.insert(line.substr(at));
    return found;
}

TEST_F(BangerdRootTest, opens_no_library_after_its_start_and_holds_little) {
    start();
    const std::set<std::string> before = libraries_in(proc("maps"));
    ASSERT_THAT(before, SizeIs(testing::Ge(3)));
    const std::string status = proc("status");
    EXPECT_THAT(status, HasSubstr("Umask:\t0077"));
    const std::unique_ptr<remote::RemotePlugin> remote = plugin();
    contract::all_at_once(8, [&](std::size_t) {
        const LinkRequest asked = request();
        EXPECT_TRUE(succeeded(remote->roles().network->attach(asked, never())));
        EXPECT_TRUE(succeeded(remote->roles().network->detach(asked.vm)));
        EXPECT_THAT(remote->roles().storage->checks(never()), SizeIs(testing::Ge(0)));
    });
    EXPECT_EQ(libraries_in(proc("maps")), before);
    if (!sanitized.empty()) GTEST_SKIP() << "memory is the sanitizer's";
    const std::string now = proc("status");
    const std::size_t at = now.find("VmRSS:");
    ASSERT_NE(at, now.npos);
    const long kib = std::stol(now.substr(at + 6));
    RecordProperty("rss_kib", static_cast<int>(kib));
    EXPECT_LE(kib, 8 * 1024);
}

/// libgcrypt for the digest of a third party's plugin; libsystemd, which plugins of ours bring
/// along, needs it all the same.
TEST(BangerdRootBinaryTest, needs_the_c_and_cpp_libraries_and_one_other) {
    if (!sanitized.empty()) GTEST_SKIP() << "a sanitizer brings libraries of its own";
    Command command;
    command.program = find_program("readelf").value();
    command.arguments = {"-d", BANGERD_ROOT};
    const Result<CommandOutput> output =
        run_command(command, std::chrono::seconds(30), ByteCount::mib(1), {});
    ASSERT_TRUE(succeeded(output));
    std::set<std::string> needed;
    std::istringstream lines(output->standard_output);
    for (std::string line; std::getline(lines, line);)
        if (line.find("(NEEDED)") != line.npos)
            needed.insert(line.substr(line.find('[') + 1, line.find(']') - line.find('[') - 1));
    const std::set<std::string> allowed = {
        "libc.so.6",      "libgcc_s.so.1",        "libm.so.6",
        "libstdc++.so.6", "ld-linux-x86-64.so.2", "libgcrypt.so.20"};
    for (const std::string& library : needed)
        EXPECT_TRUE(allowed.contains(library)) << library;
    EXPECT_TRUE(needed.contains("libc.so.6"));
}

}  // namespace
}  // namespace banger::root
