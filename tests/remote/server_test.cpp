// The role server against peers that are wrong, hostile, slow or gone, and the client against
// servers that go away. Over socket pairs, in this process.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>
#include <random>
#include <semaphore>
#include <thread>

#include "banger/contract/subject.hpp"
#include "core/remote/proxies.hpp"
#include "core/rpc/message.hpp"
#include "fake_plugin.hpp"
#include "tests/remote/nothing_plugin.hpp"
#include "tests/remote/served.hpp"
#include "tests/support/plain_host.hpp"

namespace banger::remote {
namespace {

using contract::all_at_once;
using contract::failed_with;
using contract::has_remedy;
using contract::never;
using contract::QuietCall;
using contract::succeeded;
using rpc::Json;
using rpc::PacketChannel;
using testing::HasSubstr;

const PluginName plugin_name = PluginName::parse("p").value();

std::chrono::steady_clock::time_point soon() {
    return std::chrono::steady_clock::now() + std::chrono::seconds(20);
}

/// What the server says to one packet: {} when it closes without a word.
Result<rpc::ReplyMessage> ask(PacketChannel& channel, std::string_view text,
                              const std::vector<int>& descriptors = {}) {
    BANGER_TRY(channel.send(text, descriptors, soon()));
    const rpc::Packet packet = BANGER_TRY(channel.receive(soon(), {}));
    return rpc::read_reply(packet.text);
}

Error error_of(const Result<rpc::ReplyMessage>& reply) {
    if (!reply) return reply.error();
    if (reply->error.empty()) return {Errc::internal, "it succeeded", ""};
    return rpc::error_of(*reply);
}

bool is_closed(PacketChannel& channel) {
    const Result<rpc::Packet> packet = channel.receive(soon(), {});
    return !packet && packet.error().code == Errc::unavailable;
}

/// A call as text.
std::string call(const std::string& method, const std::string& parameters) {
    return R"({"method":"p/)" + method + R"(","parameters":)" + parameters + "}";
}

constexpr const char* vm = R"("0123456789ab")";
std::string attach_parameters() {
    return std::string(R"({"request":{"vm":)") + vm +
           R"(,"name":"a","mac":"02:00:00:00:00:01","address":"10.99.0.7","nat":false,"owner_uid":0,"forwards":[]}})";
}
std::string create_parameters(const std::string& size = "1048576") {
    return std::string(R"({"request":{"vm":)") + vm + R"(,"role":"root","size":)" + size +
           R"(,"formats":["raw"],"owner_uid":0}})";
}

class ServerTest : public testing::Test {
protected:
    void SetUp() override { start({}); }
    void start(ServerLimits limits) {
        served_.serve({{plugin_name, plugin_.roles(), {}}}, limits);
        channel_.emplace(connect());
    }
    PacketChannel connect() { return served_.connect()().value(); }
    Error refused(const std::string& text, const std::vector<int>& descriptors = {}) {
        return error_of(ask(*channel_, text, descriptors));
    }
    /// The server still serves, on this connection or a new one.
    void expect_alive() {
        PacketChannel fresh = connect();
        EXPECT_EQ(error_of(ask(fresh, call("network.detach", R"({"vm":"0123456789ab"})"))).code,
                  Errc::wrong_state);
    }

    NothingPlugin plugin_;
    Served served_;
    std::optional<PacketChannel> channel_;
};

TEST_F(ServerTest, a_good_call_arrives) {
    EXPECT_EQ(refused(call("network.attach", attach_parameters())).code, Errc::wrong_state);
    EXPECT_EQ(refused(call("dns.unroute", "{}")).message, "nothing is done here");
    EXPECT_EQ(plugin_.calls, 2U);
}

TEST_F(ServerTest, what_is_no_call_is_answered_and_the_connection_closed) {
    std::string deep;
    for (int i = 0; i < 1000; ++i)
        deep += R"({"a":)";
    const std::string texts[] = {
        "x",
        "[]",
        "{}",
        "{\"method\":\"p/dns.unroute\"",
        R"({"method":"p/dns.unroute","parameters":[]})",
        R"({"method":"p/dns.unroute","parameters":{},"method":"p/dns.unroute"})",
        R"({"method":"p/dns.unroute","parameters":{},"more":true})",
        R"({"method":"p/dns.unroute","parameters":{},"oneway":true})",
        R"({"method":"p/dns.unroute","parameters":{},"extra":1})",
        R"({"method":5})",
        R"({"method":"nodot"})",
        "{\"method\":\"p/dns.unroute\",\"parameters\":{\"a\":\"\xff\xfe\"}}",
        "{\"method\":\"p/dns.unroute\",\"parameters\":{\"a\":\"\\u0000\"}}",
        std::string("{\"method\":\"p/dns.unroute\0\"}", 26),
        R"({"method":"p/dns.unroute","parameters":)" + deep,
        R"({"method":"p/dns.unroute","parameters":{"a":)" + std::string(50000, '['),
    };
    for (const std::string& text : texts) {
        PacketChannel channel = connect();
        EXPECT_EQ(error_of(ask(channel, text)).code, Errc::corrupt) << text.substr(0, 100);
        EXPECT_TRUE(is_closed(channel)) << text.substr(0, 100);
    }
    EXPECT_EQ(plugin_.calls, 0U);
    expect_alive();
}

TEST_F(ServerTest, unknown_methods_are_refused) {
    for (const char* method : {"network.steal", "network.addressing", "Network.attach",
                               "dns.attach", "network.attach.x"})
        EXPECT_EQ(refused(call(method, attach_parameters())).code, Errc::unsupported) << method;
    EXPECT_EQ(refused(R"({"method":"q/network.detach","parameters":{"vm":"0123456789ab"}})").code,
              Errc::unsupported);
    EXPECT_EQ(refused(R"({"method":"banger.describe","parameters":{"x":1}})").code,
              Errc::unsupported);
    EXPECT_EQ(plugin_.calls, 0U);
}

TEST_F(ServerTest, parameters_are_all_known_and_in_range) {
    const std::pair<const char*, std::string> calls[] = {
        {"network.detach", "{}"},
        {"network.detach", R"({"vm":null})"},
        {"network.detach", R"({"vm":7})"},
        {"network.detach", R"({"vm":"0123456789ab","more":1})"},
        {"network.detach", R"({"vm":"../etc/passwd"})"},
        {"network.detach", R"({"vm":"0123456789AB"})"},
        {"network.detach", R"({"vm":"0123456789ab\n"})"},
        {"dns.unroute", R"({"vm":"0123456789ab"})"},
        {"network.attach", R"({"request":{}})"},
        {"network.recover", R"({"remembered":{}})"},
        {"network.recover", R"({"remembered":[7]})"},
        {"storage.remove", R"({"vm":["0123456789ab"]})"},
        {"storage.resize", R"({"volume":{},"size":1})"},
    };
    for (const auto& [method, parameters] : calls)
        EXPECT_EQ(refused(call(method, parameters)).code, Errc::invalid_argument) << parameters;

    const auto with = [](const std::string& from, const std::string& to) {
        std::string text = attach_parameters();
        text.replace(text.find(from), from.size(), to);
        return text;
    };
    for (const std::string& parameters :
         {with("\"owner_uid\":0", "\"owner_uid\":-1"), with("\"owner_uid\":0", "\"owner_uid\":1.0"),
          with("\"owner_uid\":0", "\"owner_uid\":4294967296"),
          with("\"owner_uid\":0", "\"owner_uid\":1e300"),
          with("\"owner_uid\":0", "\"owner_uid\":\"0\""),
          with("\"owner_uid\":0", "\"owner_uid\":0,\"path\":\"/etc\""),
          with("\"nat\":false", "\"nat\":0"), with("\"name\":\"a\"", "\"name\":\"-a\""),
          with("\"name\":\"a\"", "\"name\":\"" + std::string(65000, 'a') + "\""),
          with("\"name\":\"a\"", "\"name\":\"%n\""), with("\"name\":\"a\"", "\"name\":\"ä\""),
          with("[]", R"([{"host_address":"127.0.0.1","host_port":65536,"guest_port":1}])")})
        EXPECT_EQ(refused(call("network.attach", parameters)).code, Errc::invalid_argument)
            << parameters.substr(0, 300);

    const UniqueFd base(::memfd_create("base", MFD_CLOEXEC));
    for (const char* size : {"-1", "9223372036854775808", "18446744073709551616", "1.5", "\"1\""})
        EXPECT_EQ(refused(call("storage.create", create_parameters(size)), {base.get()}).code,
                  Errc::invalid_argument)
            << size;
    EXPECT_EQ(plugin_.calls, 0U);
    expect_alive();
}

TEST_F(ServerTest, descriptors_are_of_the_right_number_and_kind) {
    const UniqueFd good(::memfd_create("base", MFD_CLOEXEC));
    const UniqueFd folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const UniqueFd place(::open("/etc/passwd", O_PATH | O_CLOEXEC));
    const UniqueFd device(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    const TempFolder temporary;
    const UniqueFd write_only(
        ::open((temporary / "w").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const UniqueFd read_only(::open((temporary / "w").c_str(), O_RDONLY | O_CLOEXEC));
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd pipe_out(ends[0]);
    const UniqueFd pipe_in(ends[1]);
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const UniqueFd socket(ends[0]);
    const UniqueFd other_socket(ends[1]);

    const std::string create = call("storage.create", create_parameters());
    EXPECT_EQ(refused(create, {good.get()}).code, Errc::wrong_state) << "this one is let through";
    for (const UniqueFd* fd : {&folder, &place, &device, &write_only, &pipe_out, &pipe_in, &socket})
        EXPECT_EQ(refused(create, {fd->get()}).code, Errc::invalid_argument);
    EXPECT_EQ(refused(create).code, Errc::invalid_argument);
    EXPECT_EQ(refused(create, {good.get(), good.get()}).code, Errc::invalid_argument);
    EXPECT_EQ(refused(call("network.attach", attach_parameters()), {good.get()}).code,
              Errc::invalid_argument);

    const std::string save = call(
        "vm-backend.save",
        R"({"vm":{"vm":"0123456789ab","process":{"pid":1,"start_time":1},"backend_state":""}})");
    EXPECT_EQ(refused(save, {write_only.get()}).code, Errc::wrong_state);
    EXPECT_EQ(refused(save, {pipe_in.get()}).code, Errc::wrong_state);
    for (const UniqueFd* fd : {&folder, &place, &pipe_out, &socket, &read_only})
        EXPECT_EQ(refused(save, {fd->get()}).code, Errc::invalid_argument);

    const std::string activate = call(
        "storage.activate",
        R"({"volume":{"vm":"0123456789ab","role":"root","path":"/x","format":"raw","size":1}})");
    EXPECT_EQ(refused(activate).code, Errc::wrong_state) << "its descriptor may be missing";
    EXPECT_EQ(refused(activate, {good.get()}).code, Errc::wrong_state);
    EXPECT_EQ(refused(activate, {folder.get()}).code, Errc::invalid_argument);
    EXPECT_EQ(plugin_.calls, 5U);
}

TEST_F(ServerTest, a_packet_over_the_limit_ends_the_connection) {
    const std::string text(rpc::max_packet_bytes + 1, ' ');
    const int size = 1 << 20;
    ASSERT_EQ(::setsockopt(channel_->socket().get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    ASSERT_EQ(::send(channel_->socket().get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    const Result<rpc::Packet> reply = channel_->receive(soon(), {});
    ASSERT_TRUE(succeeded(reply));
    EXPECT_THAT(reply->text, HasSubstr("longer than"));
    EXPECT_TRUE(is_closed(*channel_));
    expect_alive();
}

TEST_F(ServerTest, more_descriptors_than_a_packet_may_have_end_the_connection) {
    constexpr std::size_t count = rpc::max_packet_descriptors + 1;
    const UniqueFd fd(::memfd_create("base", MFD_CLOEXEC));
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * count)> control{};
    std::string text = call("storage.create", create_parameters());
    iovec part{text.data(), text.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    for (std::size_t i = 0; i < count; ++i) {
        const int number = fd.get();
        std::memcpy(CMSG_DATA(header) + i * sizeof(int), &number, sizeof number);
    }
    ASSERT_GT(::sendmsg(channel_->socket().get(), &message, MSG_NOSIGNAL), 0);
    const Result<rpc::Packet> reply = channel_->receive(soon(), {});
    ASSERT_TRUE(succeeded(reply));
    EXPECT_THAT(reply->text, HasSubstr("descriptors"));
    EXPECT_TRUE(is_closed(*channel_));
    EXPECT_EQ(plugin_.calls, 0U);
    expect_alive();
}

TEST_F(ServerTest, connections_are_limited) {
    start({.connections = 2});
    PacketChannel second = connect();
    PacketChannel third = connect();
    const Result<rpc::Packet> reply = third.receive(soon(), {});
    ASSERT_TRUE(succeeded(reply));
    EXPECT_EQ(rpc::error_of(rpc::read_reply(reply->text).value()).code, Errc::busy);
    EXPECT_TRUE(is_closed(third));
    EXPECT_EQ(error_of(ask(second, call("dns.unroute", "{}"))).code, Errc::wrong_state);
}

TEST_F(ServerTest, a_peer_that_does_not_read_loses_its_connection) {
    start({.send = std::chrono::milliseconds(50)});
    // More calls than answers fit into the channel; the peer sends until the server hangs up.
    const std::string text = call("dns.unroute", "{}");
    Result<void> sent;
    while (sent)
        sent = channel_->send(text, {}, soon());
    EXPECT_EQ(sent.error().code, Errc::unavailable);
    expect_alive();
}

TEST_F(ServerTest, ten_thousand_mutated_messages_do_no_harm) {
    std::mt19937 random(20261123);  // NOLINT: the same messages in every run
    const auto any = [&](std::size_t below) { return std::size_t{random()} % below; };
    const std::string seeds[] = {
        call("network.attach", attach_parameters()),
        call("storage.create", create_parameters()),
        call("network.detach", R"({"vm":"0123456789ab"})"),
        call("dns.route", R"({"zone":{"zone":"vm","server":"127.0.0.1","port":42069}})"),
        call("storage.recover", R"({"remembered":[]})"),
        R"({"method":"banger.describe"})",
    };
    const std::string pieces[] = {"{",
                                  "}",
                                  "[",
                                  "]",
                                  "\"",
                                  ",",
                                  ":",
                                  "null",
                                  "-1",
                                  "1e99",
                                  "\\u0000",
                                  "\xff",
                                  "18446744073709551615",
                                  "\"vm\"",
                                  "true",
                                  "\n",
                                  "p/",
                                  "."};
    const UniqueFd fd(::memfd_create("base", MFD_CLOEXEC));
    std::size_t sent = 0;
    std::size_t answers = 0;
    for (int i = 0; i < 10000; ++i) {
        std::string text = seeds[any(std::size(seeds))];
        for (std::size_t changes = any(4); changes > 0 && !text.empty(); --changes) {
            const std::size_t at = any(text.size());
            switch (any(4)) {
                case 0:
                    text[at] = static_cast<char>(any(256));
                    break;
                case 1:
                    text.insert(at, pieces[any(std::size(pieces))]);
                    break;
                case 2:
                    text.erase(at, any(20));
                    break;
                default:
                    text += text.substr(at);
            }
        }
        if (text.empty()) continue;
        ++sent;
        std::vector<int> descriptors(any(3), fd.get());
        const Result<rpc::ReplyMessage> reply = ask(*channel_, text, descriptors);
        if (reply) ++answers;
        // Closed after a packet that was no call.
        const bool is_open = reply && error_of(reply).code != Errc::corrupt;
        if (!is_open) channel_.emplace(connect());
    }
    EXPECT_EQ(answers, sent) << "each gets a word of explanation";
    EXPECT_GT(plugin_.calls, 100U) << "some are still good";
    expect_alive();
}

// ---- calls that take long ----

/// The fakes behind the server, whose calls hang when told to.
class HangingTest : public testing::Test {
protected:
    void SetUp() override { start({}); }
    void start(ServerLimits limits) {
        served_.serve({{plugin_name, plugin_->roles(), {}}}, limits);
        remote_.reset();
        open(limits);
    }
    void open(const ServerLimits&) {
        remote_ = RemotePlugin::open(Client::open(served_.connect(), {}).value(), plugin_name.str())
                      .value();
    }
    Network& network() { return *remote_->roles().network; }
    static LinkRequest request() {
        const VmId id = VmId::random();
        return {id,
                VmName::parse("a").value(),
                MacAddress::of(id),
                Ipv4Address::parse("10.99.0.7").value(),
                false,
                0,
                {}};
    }

    PlainHost host_;
    std::unique_ptr<FakePlugin> plugin_ = FakePlugin::make(host_).value();
    Served served_;
    std::unique_ptr<RemotePlugin> remote_;
};

TEST_F(HangingTest, a_call_over_its_deadline_is_undone_and_timed_out) {
    start({.call = std::chrono::milliseconds(30)});
    plugin_->failpoints().hang("network.attach");
    const LinkRequest asked = request();
    EXPECT_TRUE(failed_with(network().attach(asked, never()), Errc::timed_out));
    EXPECT_TRUE(succeeded(network().attach(asked, never()))) << "nothing was left of it";
}

TEST_F(HangingTest, a_stuck_call_lets_its_caller_go_and_others_through) {
    start({.calls = 2,
           .call = std::chrono::milliseconds(20),
           .grace = std::chrono::milliseconds(20)});
    class Stuck final : public Network {
    public:
        [[nodiscard]] Addressing addressing() const override { return {}; }
        Result<NetworkLink> attach(const LinkRequest&, std::stop_token) override {
            let_go.acquire();
            return Error(Errc::cancelled, "late", "None.");
        }
        Result<void> detach(const VmId&) override { return ok(); }
        Result<std::vector<VmId>> recover(std::span<const NetworkLink>) override {
            return std::vector<VmId>{};
        }
        std::vector<Check> checks(std::stop_token) override { return {}; }
        std::counting_semaphore<8> let_go{0};
    } stuck;
    served_.serve({{plugin_name, Roles{.network = &stuck}, {}}},
                  {.calls = 2,
                   .call = std::chrono::milliseconds(20),
                   .grace = std::chrono::milliseconds(20)});
    open({});
    const Result<NetworkLink> link = network().attach(request(), never());
    EXPECT_TRUE(failed_with(link, Errc::timed_out));
    EXPECT_TRUE(has_remedy(link));
    EXPECT_EQ(served_.server().calls_in_flight(), 1U);
    EXPECT_TRUE(served_.server().is_healthy(std::chrono::hours(1)));
    EXPECT_FALSE(served_.server().is_healthy(std::chrono::milliseconds(0)));
    EXPECT_TRUE(succeeded(network().detach(VmId::random())));
    EXPECT_TRUE(failed_with(network().attach(request(), never()), Errc::timed_out));
    EXPECT_TRUE(failed_with(network().detach(VmId::random()), Errc::busy))
        << "both places are taken";
    EXPECT_FALSE(served_.server().drain(std::chrono::milliseconds(1)));
    stuck.let_go.release(8);
    EXPECT_TRUE(served_.server().drain(std::chrono::seconds(20)));
}

TEST_F(HangingTest, a_peer_that_goes_away_cancels_its_call) {
    plugin_->failpoints().hang("network.attach");
    {
        PacketChannel channel = served_.connect()().value();
        ASSERT_TRUE(
            succeeded(channel.send(call("network.attach", attach_parameters()), {}, soon())));
        plugin_->failpoints().await_hang();
    }
    EXPECT_TRUE(served_.server().drain(std::chrono::seconds(20)));
    EXPECT_THAT(list_folder(host_.run_folder() + "/net").value(), testing::IsEmpty());
}

TEST_F(HangingTest, progress_crosses_and_the_end_of_the_server_cancels) {
    class Reporting final : public Call {
    public:
        [[nodiscard]] std::stop_token stop() const override { return {}; }
        void report(const Progress& progress) override { said.push_back(progress); }
        std::vector<Progress> said;
    } watched;
    ImageSource& source = *remote_->roles().image_source;
    const Result<Resolution> image =
        source.resolve({ArtifactKind::image, "fake:small", "amd64"}, watched);
    ASSERT_TRUE(succeeded(image));
    const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
    ASSERT_TRUE(succeeded(source.fetch(std::get<ArtifactManifest>(*image), 0, 0, sink, watched)));
    EXPECT_FALSE(watched.said.empty());

    plugin_->failpoints().hang("network.attach");
    std::jthread ends([this] {
        plugin_->failpoints().await_hang();
        served_.end();
    });
    const Result<NetworkLink> link = network().attach(request(), never());
    EXPECT_TRUE(failed_with(link, Errc::cancelled)) << "the server waits for what it stopped";
}

// ---- the client, and servers that go away ----

TEST_F(HangingTest, idle_connections_survive_a_restart_unnoticed) {
    all_at_once(8,
                [this](std::size_t) { EXPECT_TRUE(succeeded(network().detach(VmId::random()))); });
    served_.serve({{plugin_name, plugin_->roles(), {}}});
    // Not even a call that may not be repeated notices: it was never sent.
    EXPECT_TRUE(succeeded(network().attach(request(), never())));
    EXPECT_TRUE(succeeded(network().detach(VmId::random())));
}

TEST_F(HangingTest, many_more_callers_than_connections_take_turns) {
    std::atomic<int> made = 0;
    all_at_once(40, [&](std::size_t) {
        const LinkRequest asked = request();
        for (int i = 0; i < 5; ++i) {
            EXPECT_TRUE(succeeded(network().attach(asked, never())));
            EXPECT_TRUE(succeeded(network().detach(asked.vm)));
            ++made;
        }
    });
    EXPECT_EQ(made, 200);
    EXPECT_LE(served_.server().connections(), ClientLimits().connections);
}

/// A server of one connection each: what it does with a call is the test's.
class ScriptedServer {
public:
    using Script = std::function<void(PacketChannel& channel, const rpc::Packet& packet)>;
    explicit ScriptedServer(Script script) : script_(std::move(script)) {}
    Connect connect() {
        return [this]() -> Result<PacketChannel> {
            auto ends = BANGER_TRY(PacketChannel::pair());
            const std::lock_guard lock(mutex_);
            threads_.emplace_back([this, near = std::move(ends.first)]() mutable {
                PacketChannel channel = std::move(near);
                while (Result<rpc::Packet> packet = channel.receive(soon(), {})) {
                    if (packet->text.find("banger.describe") == std::string::npos) {
                        ++calls;
                        script_(channel, *packet);
                        return;
                    }
                    ASSERT_TRUE(channel.send(
                        R"({"parameters":{"result":{"version":"1","plugins":[{"name":"p",)"
                        R"("roles":["network"],"addressing":{},"cloning":false,"pausing":false,)"
                        R"("snapshots":false,"settings":{}}]}}})",
                        {}, soon()));
                }
            });
            return std::move(ends.second);
        };
    }
    std::atomic<int> calls = 0;

private:
    Script script_;
    std::mutex mutex_;
    std::vector<std::jthread> threads_;
};

TEST(ClientTest, a_call_whose_server_died_is_repeated_only_when_that_does_no_harm) {
    ScriptedServer dies([](PacketChannel&, const rpc::Packet&) {});
    const auto remote = RemotePlugin::open(Client::open(dies.connect(), {}).value(), "p").value();
    Network& network = *remote->roles().network;
    const VmId id = VmId::random();
    const Result<NetworkLink> link = network.attach(
        {id, VmName::parse("a").value(), MacAddress::of(id), {}, false, 0, {}}, never());
    EXPECT_TRUE(failed_with(link, Errc::unavailable));
    EXPECT_TRUE(has_remedy(link));
    EXPECT_EQ(dies.calls, 1);
    EXPECT_TRUE(failed_with(network.detach(id), Errc::unavailable));
    EXPECT_EQ(dies.calls, 3);
    const std::vector<Check> rows = network.checks(never());
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0].status, CheckStatus::fail);
    EXPECT_FALSE(rows[0].remedy.empty());
}

TEST(ClientTest, answers_that_make_no_sense_are_errors) {
    // Literals: the server may still look at one while the next is chosen.
    std::atomic<const char*> answer = "";
    ScriptedServer server([&](PacketChannel& channel, const rpc::Packet&) {
        static_cast<void>(channel.send(answer.load(), {}, soon()));
    });
    const auto remote = RemotePlugin::open(Client::open(server.connect(), {}).value(), "p").value();
    const std::pair<const char*, Errc> answers[] = {
        {"x", Errc::corrupt},
        {R"({"parameters":{}})", Errc::corrupt},
        {R"({"parameters":{"result":7}})", Errc::corrupt},
        {R"({"parameters":{"result":["../x"]}})", Errc::corrupt},
        {R"({"error":"else.Wrong"})", Errc::internal},
    };
    for (const auto& [text, code] : answers) {
        answer = text;
        EXPECT_TRUE(failed_with(remote->roles().network->recover({}), code)) << text;
    }
}

TEST(ClientTest, nobody_there_is_a_sentence_with_a_remedy) {
    const TempFolder folder;
    const Result<std::shared_ptr<Client>> client = Client::open(connect_to(folder / "none"), {});
    EXPECT_TRUE(failed_with(client, Errc::unavailable));
    EXPECT_TRUE(has_remedy(client));
    ScriptedServer server([](PacketChannel&, const rpc::Packet&) {});
    EXPECT_TRUE(failed_with(RemotePlugin::open(Client::open(server.connect(), {}).value(), "q"),
                            Errc::not_found));
}

/// Opens what the far end may not: read-only disks come as descriptors, and a path of one is never
/// the caller's.
TEST(ClientTest, read_only_disks_travel_as_descriptors) {
    class Reading final : public VmBackend {
    public:
        Result<BackendCapabilities> capabilities() override { return BackendCapabilities{}; }
        Result<VmProcess> start(const MachineSpec& spec, std::stop_token) override {
            kernel = read_all(spec.kernel_fd, ByteCount::kib(1)).value();
            for (const Disk& disk : spec.disks) {
                paths.push_back(disk.path);
                if (disk.read_only) disks += *read_file_behind(disk.path);
            }
            return VmProcess{spec.vm, {1, 2}, ""};
        }
        Result<void> kill(const VmProcess&) override { return ok(); }
        Result<void> remove(const VmId&) override { return ok(); }
        Result<UniqueFd> console(const VmId&) override { return UniqueFd(); }
        Result<UniqueFd> connect_agent(const VmProcess&) override { return UniqueFd(); }
        Result<std::vector<VmId>> recover(std::span<const VmProcess>) override {
            return std::vector<VmId>{};
        }
        VmPausing* pausing() override { return nullptr; }
        VmSnapshots* snapshots() override { return nullptr; }
        std::vector<Check> checks(std::stop_token) override { return {}; }

        std::string kernel;
        std::string disks;
        std::vector<std::string> paths;

    private:
        /// A link, which open_read() does not follow.
        static Result<std::string> read_file_behind(const std::string& path) {
            const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
            return read_all(file.get(), ByteCount::kib(1));
        }
    } backend;
    TempFolder folder;
    for (const char* name : {"kernel", "initramfs", "modules", "more"})
        ASSERT_TRUE(write_file_atomic(folder / name, name, 0400));
    Served served;
    served.serve({{plugin_name, Roles{.vm_backend = &backend}, {}}});
    const auto remote = RemotePlugin::open(Client::open(served.connect(), {}).value(), "p").value();
    const UniqueFd kernel = open_read(folder / "kernel").value();
    const UniqueFd initramfs = open_read(folder / "initramfs").value();
    const VmId machine = VmId::random();
    MachineSpec spec{.vm = machine,
                     .name = VmName::parse("a").value(),
                     .vcpus = 1,
                     .memory = ByteCount::mib(1),
                     .kernel_fd = kernel.get(),
                     .initramfs_fd = initramfs.get(),
                     .command_line = "",
                     .disks = {{folder / "modules", DiskFormat::raw, true, "modules"},
                               {"/dev/root", DiskFormat::raw, false, "root"},
                               {folder / "more", DiskFormat::raw, true, "more"}},
                     .link = {machine,
                              LinkKind::tap,
                              "t",
                              MacAddress::of(machine),
                              Ipv4Prefix::parse("10.0.0.2/24").value(),
                              {},
                              {},
                              false,
                              {}}};
    ASSERT_TRUE(succeeded(remote->roles().vm_backend->start(spec, never())));
    EXPECT_EQ(backend.kernel, "kernel");
    EXPECT_EQ(backend.disks, "modulesmore");
    ASSERT_EQ(backend.paths.size(), 3U);
    EXPECT_TRUE(backend.paths[0].starts_with("/proc/self/fd/"));
    EXPECT_EQ(backend.paths[1], "/dev/root");

    backend.paths.clear();
    spec.disks[0].path = folder / "missing";
    const Result<VmProcess> missing = remote->roles().vm_backend->start(spec, never());
    EXPECT_TRUE(failed_with(missing, Errc::not_found));
    EXPECT_TRUE(has_remedy(missing));
    spec.disks[0].path = folder.path();
    EXPECT_TRUE(
        failed_with(remote->roles().vm_backend->start(spec, never()), Errc::invalid_argument));
    spec.disks[0].path = folder / "modules";
    spec.kernel_fd = -1;
    EXPECT_TRUE(
        failed_with(remote->roles().vm_backend->start(spec, never()), Errc::invalid_argument));
    EXPECT_TRUE(backend.paths.empty());
}

TEST(ClientTest, a_missing_descriptor_and_a_stopped_call_are_not_even_sent) {
    NothingPlugin plugin;
    Served served;
    served.serve({{plugin_name, plugin.roles(), {}}});
    const auto remote = RemotePlugin::open(Client::open(served.connect(), {}).value(), "p").value();
    const Result<Volume> volume = remote->roles().storage->create(
        {VmId::random(), VolumeRole::root, -1, ByteCount::mib(1), {DiskFormat::raw}, 0}, never());
    EXPECT_TRUE(failed_with(volume, Errc::invalid_argument));
    EXPECT_TRUE(
        failed_with(remote->roles().dns->route({"vm", Ipv4Address::parse("127.0.0.1").value(), 1},
                                               contract::already_stopped()),
                    Errc::cancelled));
    EXPECT_EQ(plugin.calls, 0U);
}

}  // namespace
}  // namespace banger::remote
