#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <thread>

#include "core/base/child.hpp"
#include "core/base/daemon_mark.hpp"
#include "core/base/exec_frames.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "core/client/connection.hpp"
#include "core/client/upgrade.hpp"
#include "core/protocol/exec_fields.hpp"
#include "core/protocol/image_fields.hpp"
#include "core/protocol/system_fields.hpp"
#include "core/protocol/vm_fields.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

using namespace std::chrono_literals;
using namespace protocol;
using client::Connection;
using ::testing::HasSubstr;

constexpr const char* all_fake =
    "[plugins]\nnetwork = \"fake\"\ndns = \"fake\"\nstorage = \"fake\"\nvm_backend = \"fake\"\n"
    "image_sources = [\"fake\"]\n";

/// The real bangerd, as the command starts it, on the fake plugins.
class Bangerd : public ::testing::Test {
protected:
    void SetUp() override {
        for (const char* part : {"state", "cache", "config/banger", "run", "home"})
            ASSERT_TRUE(ensure_folder(folder_ / part, 0700));
        configure("");
    }
    void configure(const std::string& more) {
        ASSERT_TRUE(
            write_file_atomic(folder_ / "config/banger/config.toml", all_fake + more, 0600));
    }
    void configure_port(std::uint16_t port) {
        ASSERT_TRUE(write_file_atomic(folder_ / "config/banger/config.toml",
                                      "dns_port = " + std::to_string(port) + "\n" + all_fake,
                                      0600));
    }

    /// Starts one and returns what it says on its ready descriptor.
    std::string start(const std::string& idle_seconds = "0", const std::string& run = "run") {
        int ends[2];
        EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        const UniqueFd says(ends[0]);
        UniqueFd ready(ends[1]);
        Command command;
        command.program = std::string(BANGER_BIN) + "/bangerd";
        command.arguments = {"--user", "--ready-fd", std::to_string(ready.get()), "--idle-seconds",
                             idle_seconds};
        command.environment = minimal_environment();
        for (const auto& [name, part] :
             std::map<std::string, std::string>{{"HOME", "home"},
                                                {"XDG_STATE_HOME", "state"},
                                                {"XDG_CACHE_HOME", "cache"},
                                                {"XDG_CONFIG_HOME", "config"},
                                                {"XDG_RUNTIME_DIR", run}})
            command.environment[name] = folder_ / part;
        command.inherited = {ready.get()};
        Result<Child> child = spawn(command);
        EXPECT_TRUE(child);
        daemon_.emplace(std::move(*child));
        ready.reset();
        return *read_all(says.get(), ByteCount::kib(64));
    }
    Connection connect() {
        Result<Connection> connection =
            Connection::connect(folder_ / "run/banger/bangerd.sock", 10s);
        EXPECT_TRUE(connection) << connection.error().text();
        return std::move(*connection);
    }
    Result<client::Upgraded> exec_in(const ExecInVm& wanted) {
        return client::upgrade(folder_ / "run/banger/bangerd.sock", "io.banger.Vm.Exec",
                               rpc::encode(wanted), {});
    }
    static CreateVm wanted(const std::string& name) {
        CreateVm create;
        create.request.name = name;
        create.request.image = "fake:small";
        create.request.disk = ByteCount::mib(64).count();
        create.request.root = ByteCount::mib(256).count();
        return create;
    }
    static std::vector<Vm> machines(Connection& connection) {
        const Result<ListVmsReply> all =
            connection.call<ListVmsReply>("io.banger.Vm.List", ListVms{});
        EXPECT_TRUE(all) << all.error().text();
        return all ? all->vms : std::vector<Vm>{};
    }
    /// Everything of a machine that is on the host: files below the folders of plugins and
    /// machines.
    std::string leftovers() {
        Command find;
        find.program = *find_program("find");
        find.arguments = {folder_ / "state/banger/plugins",
                          folder_ / "state/banger/vms",
                          folder_ / "run/banger/p",
                          "-type",
                          "f",
                          "-o",
                          "-type",
                          "s"};
        const Result<CommandOutput> found = run_command(find, 30s, ByteCount::kib(64), {});
        return found ? found->standard_output : found.error().text();
    }

    TempFolder folder_;
    std::optional<Child> daemon_;
};

using Words = std::vector<std::string>;

/// What a command said on its two streams, and how it ended.
struct CommandEnd {
    std::string output;
    std::string errors;
    std::optional<int> status;
    std::optional<Error> failure;
};

CommandEnd finish(const Result<client::Upgraded>& begun) {
    CommandEnd end;
    if (!begun) {
        end.failure = begun.error();
        return end;
    }
    const client::Upgraded& upgraded = *begun;
    ExecFrameReader reader;
    reader.append(upgraded.rest);
    while (true) {
        while (const std::optional<ExecFrame> frame = reader.next().value()) {
            if (frame->kind == ExecKind::output) end.output += frame->data;
            if (frame->kind == ExecKind::error_output) end.errors += frame->data;
            if (frame->kind == ExecKind::exit) end.status = frame->data[0];
            if (frame->kind == ExecKind::failed) end.failure = failure_of(*frame);
        }
        char buffer[4096];
        const ssize_t count = ::recv(upgraded.socket.get(), buffer, sizeof buffer, 0);
        if (count <= 0) return end;
        reader.append({buffer, static_cast<std::size_t>(count)});
    }
}

TEST_F(Bangerd, CommandsRunThroughTheAgentBesideEverythingElse) {
    ASSERT_EQ(start(), "ready\n");
    Connection daemon = connect();
    ASSERT_TRUE(daemon.call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox")));
    const auto exec = [&](std::optional<std::vector<std::string>> command) {
        return exec_in({"sandbox", std::move(command), true, {}, {"A=1"}, {}, {}, {}});
    };
    // One that goes on all the while.
    Result<client::Upgraded> cat = exec(Words{"cat"});
    ASSERT_TRUE(cat) << cat.error().text();
    Result<client::Upgraded> said = exec(Words{"say", "a", "b"});
    ASSERT_TRUE(said) << said.error().text();
    const CommandEnd end = finish(said);
    EXPECT_EQ(end.output, "a b\n");
    EXPECT_EQ(end.status, 0);
    Result<client::Upgraded> asked = exec(Words{"request"});
    ASSERT_TRUE(asked);
    EXPECT_NE(finish(asked).output.find("\"environment\":[\"A=1\"]"), std::string::npos);
    EXPECT_TRUE(daemon.call<StatsOfVmReply>("io.banger.Vm.Stats", NamedVm{"sandbox"})
                    ->stats.guest.has_value());
    EXPECT_TRUE(daemon.call<HealthOfVmReply>("io.banger.Vm.Health", HealthOfVm{"sandbox", true}));
    const std::string input =
        framed_exec(ExecKind::input, "hello") + framed_exec(ExecKind::input_end);
    ASSERT_EQ(::send(cat->socket.get(), input.data(), input.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(input.size()));
    EXPECT_EQ(finish(cat).output, "hello");
    // Without "upgrade" there would be no way for the streams.
    EXPECT_EQ(daemon
                  .call<ExecInVmReply>("io.banger.Vm.Exec",
                                       ExecInVm{"sandbox", {}, false, {}, {}, {}, {}, {}})
                  .error()
                  .code,
              Errc::invalid_argument);
    // A machine that is stopped takes its commands with it.
    Result<client::Upgraded> waits = exec(Words{"wait"});
    ASSERT_TRUE(waits);
    ASSERT_TRUE(daemon.call<VmReply>("io.banger.Vm.Kill", KillVm{"sandbox", {}}));
    const CommandEnd gone = finish(waits);
    ASSERT_TRUE(gone.failure);
    EXPECT_EQ(gone.failure->code, Errc::unavailable);
    EXPECT_EQ(exec(Words{"true"}).error().code, Errc::wrong_state);
}

TEST_F(Bangerd, AKilledDaemonEndsTheSessionAndItsSuccessorHasAnother) {
    ASSERT_EQ(start(), "ready\n");
    ASSERT_TRUE(connect().call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox")));
    const auto exec = [&](std::vector<std::string> command) {
        return exec_in({"sandbox", std::move(command), false, {}, {}, {}, {}, {}});
    };
    Result<client::Upgraded> lost = exec(Words{"wait"});
    ASSERT_TRUE(lost);
    ASSERT_TRUE(kill_and_wait(daemon_->id()));
    const CommandEnd end = finish(lost);
    EXPECT_FALSE(end.status);
    EXPECT_FALSE(end.failure) << "nobody was left to say why";
    ASSERT_EQ(start(), "ready\n");
    Result<client::Upgraded> next = exec(Words{"exit", "7"});
    ASSERT_TRUE(next) << next.error().text();
    EXPECT_EQ(finish(next).status, 7);
}

TEST_F(Bangerd, AMachineComesAndGoes) {
    ASSERT_EQ(start(), "ready\n");
    Connection daemon = connect();
    std::vector<std::string> stages;
    const Result<CreateVmReply> made =
        daemon.call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox"),
                                   {.on_progress = [&](const banger::Progress& progress) {
                                       stages.push_back(progress.stage);
                                   }});
    ASSERT_TRUE(made) << made.error().text();
    EXPECT_EQ(made->vm->state, "running");
    EXPECT_FALSE(made->timings->empty());
    EXPECT_FALSE(stages.empty());
    ASSERT_EQ(machines(daemon).size(), 1u);
    stages.clear();
    const Result<DeleteVmReply> gone =
        daemon.call<DeleteVmReply>("io.banger.Vm.Delete", DeleteVm{made->vm->id, false},
                                   {.on_progress = [&](const banger::Progress& progress) {
                                       stages.push_back(progress.stage);
                                   }});
    ASSERT_TRUE(gone) << gone.error().text();
    EXPECT_THAT(stages, testing::ElementsAre("asking sandbox to power off"));
    EXPECT_TRUE(machines(daemon).empty());
    EXPECT_EQ(leftovers(), "");
    EXPECT_EQ(daemon.call<VmReply>("io.banger.Vm.Show", NamedVm{"sandbox"}).error().code,
              Errc::not_found);
}

TEST_F(Bangerd, AClientThatGoesAwayCancelsWhatItAskedFor) {
    configure("[plugin.fake]\nhang = [\"vm-backend.start\"]\n");
    ASSERT_EQ(start(), "ready\n");
    std::stop_source gone;
    Connection client = connect();
    const Result<CreateVmReply> made =
        client.call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox"),
                                   {.on_progress =
                                        [&](const banger::Progress& progress) {
                                            if (progress.stage == "starting the machine")
                                                gone.request_stop();
                                        },
                                    .stop = gone.get_token()});
    EXPECT_EQ(made.error().code, Errc::cancelled);
    Connection other = connect();
    while (!machines(other).empty())
        std::this_thread::yield();
    EXPECT_EQ(leftovers(), "");
}

TEST_F(Bangerd, ASecondOneIsRefused) {
    ASSERT_EQ(start(), "ready\n");
    Child first = std::move(*daemon_);
    EXPECT_NE(start().find("another bangerd of yours runs already"), std::string::npos);
    Connection daemon = connect();
    EXPECT_TRUE(machines(daemon).empty()) << "the first still serves";
}

TEST_F(Bangerd, WithAnotherRunFolderASecondOneNamesTheFirst) {
    ASSERT_EQ(start(), "ready\n");
    Child first = std::move(*daemon_);
    ASSERT_TRUE(ensure_folder(folder_ / "other", 0700));
    const std::optional<DaemonMark> mark = read_daemon_mark(folder_ / "state/banger/bangerd.lock");
    ASSERT_TRUE(mark);
    EXPECT_EQ(mark->socket, folder_ / "run/banger/bangerd.sock");
    const std::string pid = std::to_string(mark->process.pid);
    const std::string said = start("0", "other");
    for (const std::string& part : {"process " + pid, mark->socket, "kill " + pid})
        EXPECT_NE(said.find(part), std::string::npos) << said;
}

/// Whoever looks for it would not find it, and another could not take its lock.
TEST_F(Bangerd, LeavesWhenItsSocketIsTakenAwayAndMachinesRunOn) {
    const std::string socket = folder_ / "run/banger/bangerd.sock";
    ASSERT_EQ(start(), "ready\n");
    std::optional<std::int64_t> pid;
    {
        Connection daemon = connect();
        const Result<CreateVmReply> made =
            daemon.call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox"));
        ASSERT_TRUE(made) << made.error().text();
        pid = made->vm->pid;
    }
    ASSERT_TRUE(remove_file(socket));
    ASSERT_TRUE(*wait_for_exit(daemon_->pidfd(), 30s, {})) << "it holds the state for ever";
    EXPECT_TRUE(daemon_->wait({})->is_success());
    EXPECT_TRUE(process_id_of(*pid));

    // Another's in its place is left alone.
    ASSERT_EQ(start(), "ready\n");
    ASSERT_TRUE(write_file_atomic(socket, "mine", 0600));
    ASSERT_TRUE(*wait_for_exit(daemon_->pidfd(), 30s, {}));
    EXPECT_EQ(read_file(socket, ByteCount::kib(1)).value_or(""), "mine");
    ASSERT_TRUE(remove_file(socket));

    ASSERT_EQ(start(), "ready\n");
    Connection daemon = connect();
    ASSERT_EQ(machines(daemon).size(), 1u);
    EXPECT_EQ(machines(daemon)[0].pid, pid);
    ASSERT_TRUE(daemon.call<DeleteVmReply>("io.banger.Vm.Delete", DeleteVm{"sandbox", true}));
    // The whole folder, as at the end of a login.
    ASSERT_TRUE(remove_tree(folder_ / "run"));
    ASSERT_TRUE(*wait_for_exit(daemon_->pidfd(), 30s, {}));
}

TEST_F(Bangerd, LeavesWhenIdleButNotWhileAMachineRuns) {
    ASSERT_EQ(start("1"), "ready\n");
    {
        Connection daemon = connect();
        ASSERT_TRUE(daemon.call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox")));
    }
    EXPECT_FALSE(*wait_for_exit(daemon_->pidfd(), 2500ms, {})) << "it left under a running machine";
    {
        Connection daemon = connect();
        ASSERT_TRUE(daemon.call<DeleteVmReply>("io.banger.Vm.Delete", DeleteVm{"sandbox", true}));
    }
    EXPECT_TRUE(*wait_for_exit(daemon_->pidfd(), 30s, {})) << "it stays for ever";
    EXPECT_TRUE(daemon_->wait({})->is_success());
    EXPECT_FALSE(path_exists(folder_ / "run/banger/bangerd.sock"));
}

TEST_F(Bangerd, MachinesOutliveItHoweverItEnds) {
    for (const int signal : {SIGTERM, SIGKILL}) {
        SCOPED_TRACE(signal);
        ASSERT_EQ(start(), "ready\n");
        std::optional<std::int64_t> pid;
        {
            Connection daemon = connect();
            const Result<CreateVmReply> made =
                daemon.call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox"));
            ASSERT_TRUE(made) << made.error().text();
            pid = made->vm->pid;
        }
        ASSERT_TRUE(send_signal(daemon_->pidfd(), signal));
        ASSERT_TRUE(daemon_->wait({}));
        ASSERT_TRUE(process_id_of(*pid)) << "the machine died with its daemon";
        ASSERT_EQ(start(), "ready\n");
        Connection daemon = connect();
        const std::vector<Vm> found = machines(daemon);
        ASSERT_EQ(found.size(), 1u);
        EXPECT_EQ(found[0].state, "running");
        EXPECT_EQ(found[0].pid, pid);
        ASSERT_TRUE(daemon.call<DeleteVmReply>("io.banger.Vm.Delete", DeleteVm{"sandbox", true}));
        EXPECT_EQ(leftovers(), "");
        daemon_->terminate(10s);
    }
}

TEST_F(Bangerd, KilledInTheMiddleOfACreateTheNextOneLeavesNothing) {
    configure("[plugin.fake]\nhang = [\"vm-backend.start\"]\n");
    ASSERT_EQ(start(), "ready\n");
    Connection client = connect();
    (void)client.call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox"),
                                     {.on_progress = [&](const banger::Progress& progress) {
                                         if (progress.stage == "starting the machine")
                                             (void)send_signal(daemon_->pidfd(), SIGKILL);
                                     }});
    ASSERT_EQ(daemon_->wait({})->signal, SIGKILL);
    configure("");
    ASSERT_EQ(start(), "ready\n");
    Connection daemon = connect();
    EXPECT_TRUE(machines(daemon).empty());
    EXPECT_EQ(leftovers(), "");
    EXPECT_TRUE(daemon.call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox")))
        << "the name is free again";
    ASSERT_TRUE(daemon.call<DeleteVmReply>("io.banger.Vm.Delete", DeleteVm{"sandbox", true}));
}

/// A port that was free for UDP a moment ago; the socket holds it as long as it lives.
struct FreePort {
    UniqueFd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    std::uint16_t number = 0;
    FreePort() {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        EXPECT_EQ(::bind(socket.get(), generic, size), 0);
        EXPECT_EQ(::getsockname(socket.get(), generic, &size), 0);
        number = ntohs(address.sin_port);
    }
};

/// The response code to a query for NAME.vm, asked directly.
int ask(std::uint16_t port, const std::string& name) {
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const timeval patience{20, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in server{};
    server.sin_family = AF_INET;
    server.sin_port = htons(port);
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&server), sizeof server), 0);
    std::string query{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0};
    query += static_cast<char>(name.size()) + name + '\2' + "vm";
    query += std::string{0, 0, 1, 0, 1};
    EXPECT_GT(::send(socket.get(), query.data(), query.size(), 0), 0);
    char answer[512] = {};
    const ssize_t size = ::recv(socket.get(), answer, sizeof answer, 0);
    return size < 12 ? -1 : answer[3] & 0xf;
}

std::optional<Check> doctor_row(Connection& daemon, const std::string& name) {
    const Result<DoctorReply> reply =
        daemon.call<DoctorReply>("io.banger.System.Doctor", NoParameters{});
    EXPECT_TRUE(reply) << reply.error().text();
    for (const Check& check : reply->checks)
        if (check.name == name) return check;
    return std::nullopt;
}

TEST_F(Bangerd, NamesResolveWhileMachinesRunAndAfterARestart) {
    constexpr int found = 0;
    constexpr int no_such_name = 3;
    const std::uint16_t port = FreePort().number;
    configure_port(port);
    ASSERT_EQ(start(), "ready\n");
    {
        Connection daemon = connect();
        EXPECT_EQ(ask(port, "sandbox"), no_such_name);
        ASSERT_TRUE(daemon.call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox")));
        EXPECT_EQ(ask(port, "sandbox"), found);
        const std::optional<Check> row = doctor_row(daemon, "dns responder");
        ASSERT_TRUE(row);
        EXPECT_EQ(row->status, CheckStatus::pass) << row->detail;
        EXPECT_TRUE(doctor_row(daemon, "dns names"));
    }
    for (const int signal : {SIGKILL, SIGTERM}) {
        SCOPED_TRACE(signal);
        ASSERT_TRUE(send_signal(daemon_->pidfd(), signal));
        ASSERT_TRUE(daemon_->wait({}));
        ASSERT_EQ(start(), "ready\n");
        EXPECT_EQ(ask(port, "sandbox"), found);
    }
    Connection daemon = connect();
    ASSERT_TRUE(daemon.call<DeleteVmReply>("io.banger.Vm.Delete", DeleteVm{"sandbox", true}));
    EXPECT_EQ(ask(port, "sandbox"), no_such_name);
    ASSERT_TRUE(send_signal(daemon_->pidfd(), SIGTERM));
    ASSERT_TRUE(daemon_->wait({}));
    EXPECT_EQ(leftovers(), "") << "the route too";
}

TEST_F(Bangerd, MachinesDoNotNeedTheDnsPort) {
    const FreePort taken;
    configure_port(taken.number);
    ASSERT_EQ(start(), "ready\n");
    Connection daemon = connect();
    ASSERT_TRUE(daemon.call<CreateVmReply>("io.banger.Vm.Create", wanted("sandbox")));
    const std::optional<Check> row = doctor_row(daemon, "dns responder");
    ASSERT_TRUE(row);
    EXPECT_EQ(row->status, CheckStatus::fail);
    EXPECT_NE(row->detail.find(std::to_string(taken.number)), std::string::npos) << row->detail;
    EXPECT_NE(row->remedy.find("dns_port"), std::string::npos) << row->remedy;
    ASSERT_TRUE(daemon.call<DeleteVmReply>("io.banger.Vm.Delete", DeleteVm{"sandbox", true}));
}

TEST_F(Bangerd, AConfigurationThatIsWrongIsSaidWithFileAndLine) {
    ASSERT_TRUE(write_file_atomic(folder_ / "config/banger/config.toml",
                                  "\ndefault_imgae_name = \"x\"\n", 0600));
    const std::string said = start();
    EXPECT_NE(said.find("config.toml:2"), std::string::npos) << said;
    EXPECT_NE(said.find("default_image_name"), std::string::npos) << said;
    EXPECT_EQ(daemon_->wait({})->code, 1);
}

TEST_F(Bangerd, ADamagedDatabaseIsRefusedAndLeftAlone) {
    ASSERT_TRUE(ensure_folder(folder_ / "state/banger", 0700));
    const std::string path = folder_ / "state/banger/banger.db";
    ASSERT_TRUE(write_file_atomic(path, std::string(8192, 'x'), 0600));
    EXPECT_NE(start(), "ready\n");
    EXPECT_EQ(read_file(path, ByteCount::kib(64)).value_or(""), std::string(8192, 'x'));
}

TEST_F(Bangerd, BadInputIsRefusedAtTheEdge) {
    ASSERT_EQ(start(), "ready\n");
    Connection daemon = connect();
    const auto refusal = [&](CreateVm create) {
        const Result<CreateVmReply> made =
            daemon.call<CreateVmReply>("io.banger.Vm.Create", create);
        EXPECT_FALSE(made);
        return made ? Error() : made.error();
    };
    CreateVm create = wanted("sandbox");
    create.request.name = "../../etc";
    EXPECT_EQ(refusal(create).code, Errc::invalid_argument);
    create = wanted("sandbox");
    create.request.vcpus = 0;
    EXPECT_EQ(refusal(create).code, Errc::invalid_argument);
    create = wanted("sandbox");
    create.request.memory = ~std::uint64_t{0};
    EXPECT_EQ(refusal(create).code, Errc::invalid_argument);
    create = wanted("sandbox");
    create.request.authorized_keys = {"ssh-ed25519 AAAA\ncommand=\"x\" ssh-ed25519 BBBB"};
    EXPECT_EQ(refusal(create).code, Errc::invalid_argument);
    create = wanted("sandbox");
    create.request.image = "fake:small,fail";
    EXPECT_FALSE(refusal(create).remedy.empty());
    for (const char* lie : {"fake:small,lie", "fake:small,short"}) {
        create.request.image = lie;
        EXPECT_EQ(refusal(create).code, Errc::corrupt) << lie;
    }
    create.request.image = "fake:small,fail-fetch";
    EXPECT_FALSE(refusal(create).message.empty());
    EXPECT_TRUE(machines(daemon).empty());
    EXPECT_EQ(leftovers(), "");
    const Result<ListImagesReply> images =
        daemon.call<ListImagesReply>("io.banger.Image.List", NoParameters{});
    ASSERT_TRUE(images);
    EXPECT_TRUE(images->images.empty());
    EXPECT_EQ(*list_folder(folder_ / "state/banger/images"), std::vector<std::string>{});
}

TEST_F(Bangerd, AnImageInUseIsNotDeletedAndSaysByWhom) {
    ASSERT_EQ(start(), "ready\n");
    Connection daemon = connect();
    CreateVm create = wanted("sandbox");
    create.start = false;
    ASSERT_TRUE(daemon.call<CreateVmReply>("io.banger.Vm.Create", create));
    const Result<DeleteImageReply> refused =
        daemon.call<DeleteImageReply>("io.banger.Image.Delete", NamedArtifact{"fake-small"});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::in_use);
    EXPECT_NE(refused.error().text().find("sandbox"), std::string::npos) << refused.error().text();
    ASSERT_TRUE(daemon.call<DeleteVmReply>("io.banger.Vm.Delete", DeleteVm{"sandbox", true}));
    EXPECT_TRUE(
        daemon.call<DeleteImageReply>("io.banger.Image.Delete", NamedArtifact{"fake-small"}));
    EXPECT_EQ(*list_folder(folder_ / "state/banger/images"), std::vector<std::string>{});
}

/// A source in Python among the owner's plugins, and an image of its. However often it crashes, it
/// keeps nobody from the other source.
TEST_F(Bangerd, AThirdPartysImageIsPulledAndItsCrashesAreNobodysTrouble) {
    const std::string plugins = folder_ / "home/.local/lib/banger/plugins";
    ASSERT_TRUE(ensure_folder(plugins, 0755));
    const auto put = [&](const std::string& name, const std::string& text) {
        ASSERT_TRUE(write_file_atomic(plugins + "/" + name, text, 0755));
    };
    for (const char* name : {"image-py", "image-py.toml"})
        put(name, *read_file(std::string(PYTHON_IMAGE_SOURCE "/") + name, ByteCount::kib(64)));
    ASSERT_TRUE(ensure_folder(folder_ / "images/tree/etc", 0755));
    ASSERT_TRUE(write_file_atomic(folder_ / "images/tree/etc/hostname", "py\n", 0644));
    Command tar;
    tar.program = *find_program("tar");
    tar.arguments = {"-C", folder_ / "images/tree", "-cf", folder_ / "images/small.tar", "."};
    ASSERT_TRUE(run_command(tar, 30s, ByteCount::kib(64), {})->status.is_success());
    std::string text = all_fake;
    text.replace(text.find("[\"fake\"]"), 8, "[\"image-py\", \"fake\"]");
    ASSERT_TRUE(write_file_atomic(
        folder_ / "config/banger/config.toml",
        text + "[plugin.image-py]\nfolder = \"" + folder_ / "images" + "\"\n", 0600));
    ASSERT_EQ(start(), "ready\n");
    Connection daemon = connect();
    const auto pull = [&](const char* reference) {
        return daemon.call<PullImageReply>("io.banger.Image.Pull",
                                           PullArtifact{reference, {}, false}, {.timeout = 60s});
    };
    const Result<PullImageReply> made = pull("py:small");
    ASSERT_TRUE(made) << made.error().text();
    const auto status = [&] {
        const Result<PluginsReply> all =
            daemon.call<PluginsReply>("io.banger.System.Plugins", NoParameters{}, {.timeout = 60s});
        for (const PluginInfo& plugin : all ? all->plugins : std::vector<PluginInfo>{})
            if (plugin.name == "image-py") return plugin.status + " in " + plugin.runs_in;
        return std::string("not there");
    };
    EXPECT_EQ(status(), "loaded in banger-plugin-host");

    daemon_->terminate(10s);
    put("image-py", "#!/bin/sh\nkill -SEGV $$\n");
    ASSERT_EQ(start(), "ready\n");
    daemon = connect();
    for (int i = 0; i < 4; ++i) {
        const Result<PullImageReply> pulled = pull("py:other");
        ASSERT_FALSE(pulled);
        EXPECT_THAT(pulled.error().message, HasSubstr("the plugin image-py")) << "its own fault";
    }
    EXPECT_EQ(status(), "quarantined in banger-plugin-host");
    EXPECT_TRUE(pull("fake:large"));
}

TEST_F(Bangerd, TwoPullsOfOneImageDoTheWorkOnce) {
    ASSERT_EQ(start(), "ready\n");
    std::string ids[4];
    {
        std::vector<std::jthread> threads;
        for (std::string& id : ids)
            threads.emplace_back([&] {
                Connection daemon = connect();
                const Result<PullImageReply> pulled = daemon.call<PullImageReply>(
                    "io.banger.Image.Pull", PullArtifact{"fake:large", {}, false});
                EXPECT_TRUE(pulled) << pulled.error().text();
                if (pulled) id = pulled->image->id;
            });
    }
    for (const std::string& id : ids)
        EXPECT_EQ(id, ids[0]);
    EXPECT_EQ(list_folder(folder_ / "state/banger/images")->size(), 1u);
}

}  // namespace
}  // namespace banger
