#include "core/rpc/server.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <mutex>
#include <thread>

#include "core/base/child.hpp"
#include "core/client/connection.hpp"
#include "core/rpc/idl.hpp"
#include "core/rpc/listener.hpp"
#include "core/rpc/role_fields.hpp"

namespace banger::rpc {

using namespace std::chrono_literals;
using client::Connection;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

// The worked example of server.hpp, and what the tests need besides.
constexpr std::string_view clock_text = R"(
# Tells the time, and waits.
interface io.banger.Clock

type Progress (stage: string, done: int, total: int, unit: (none, bytes, items))

# Seconds since 1970 UTC.
method Now() -> (seconds: int)

# Returns when it is told to, or cancelled. With "more", says that it waits.
method Wait(label: string) -> (progress: ?Progress, waited: ?string)

method Echo(text: string) -> (text: string)

method Fail(code: string) -> ()

method Throw() -> ()

# Replies of that many bytes, until the caller goes.
method Flood(bytes: int) -> (text: string)

# With "upgrade" the connection then gives back every byte. "refuse" is refused all the same.
method Mirror(text: string) -> (text: string)

method NotYet() -> ()

error Failed (code: string, message: string, remedy: string)
)";

struct NowReply {
    std::int64_t seconds = 0;
};
struct WaitFor {
    std::string label;
};
struct WaitReply {
    std::optional<Progress> progress;
    std::optional<std::string> waited;
};
struct Text {
    std::string text;
};
struct FailWith {
    Errc code = Errc::internal;
};
struct FloodOf {
    std::uint32_t bytes = 0;
};

}  // namespace

template <>
struct Fields<NowReply> {
    static constexpr auto list = fields(field("seconds", &NowReply::seconds));
};
template <>
struct Fields<WaitFor> {
    static constexpr auto list = fields(field("label", &WaitFor::label));
};
template <>
struct Fields<WaitReply> {
    static constexpr auto list =
        fields(field("progress", &WaitReply::progress), field("waited", &WaitReply::waited));
};
template <>
struct Fields<Text> {
    static constexpr auto list = fields(field("text", &Text::text));
};
template <>
struct Fields<FailWith> {
    static constexpr auto list = fields(field("code", &FailWith::code));
};
template <>
struct Fields<FloodOf> {
    static constexpr auto list = fields(field("bytes", &FloodOf::bytes));
};

namespace {

/// What a test waits on: counts by name, under a lock, with a generous bound that only a bug
/// reaches.
class Events {
public:
    void add(const std::string& name) {
        const std::lock_guard lock(mutex_);
        ++counts_[name];
        changed_.notify_all();
    }
    bool wait(const std::string& name, int count = 1) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, 20s, [&] { return counts_[name] >= count; });
    }

    int count(const std::string& name) {
        const std::lock_guard lock(mutex_);
        return counts_[name];
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::string, int> counts_;
};

/// A Wait ends when it is released or stopped.
Result<WaitReply> wait_until_stopped(Events& events, const WaitFor& in, Reporter<WaitReply>& call) {
    call.report({"waiting for " + in.label, 1, 2, Progress::Unit::items});
    std::promise<void> stopped;
    const std::stop_callback on_stop(call.stop(), [&] { stopped.set_value(); });
    events.add("begun " + in.label);
    if (in.label == "nothing") return WaitReply{{}, in.label};
    if (stopped.get_future().wait_for(20s) != std::future_status::ready)
        return Error(Errc::internal, "the test never stopped this");
    events.add("stopped " + in.label);
    if (in.label == "undo") {
        call.report({"undoing", 0, 0, Progress::Unit::none});
        if (!events.wait("undone")) return Error(Errc::internal, "the test never let this end");
    }
    return Error(Errc::cancelled, "stopped as asked");
}

Interface clock_interface(Events& events, std::chrono::milliseconds deadline) {
    Interface clock("io.banger.Clock", clock_text);
    clock.method<Nothing, NowReply>(
        "Now", [](const Nothing&) -> Result<NowReply> { return NowReply{1'000}; });
    clock.job<WaitFor, WaitReply>(
        "Wait", {.deadline = deadline},
        [&events](const WaitFor& in, Reporter<WaitReply>& call) -> Result<WaitReply> {
            return wait_until_stopped(events, in, call);
        });
    clock.method<Text, Text>("Echo", [&events](const Text& in) -> Result<Text> {
        events.add("echo " + in.text.substr(0, 20));
        return in;
    });
    clock.job<FailWith, Nothing>("Fail", {},
                                 [](const FailWith& in, Reporter<Nothing>&) -> Result<Nothing> {
                                     return Error(in.code, "it does not work", "Do without.");
                                 });
    clock.method<Nothing, Nothing>("Throw", [](const Nothing&) -> Result<Nothing> {
        throw std::runtime_error("out of cheese");
    });
    clock.job<FloodOf, Text>(
        "Flood", {}, [&events](const FloodOf& in, Reporter<Text>& call) -> Result<Text> {
            while (true) {
                if (const Result<void> sent = call.send({std::string(in.bytes, 'x')}); !sent) {
                    events.add("flood ended");
                    return sent.error();
                }
                events.add("flood");
            }
        });
    clock.job<Text, Text>("Mirror", {},
                          [&events](const Text& in, Reporter<Text>& call) -> Result<Text> {
                              if (!call.wants_upgrade())
                                  return Error(Errc::invalid_argument, "not so");
                              call.upgrade([&events](UniqueFd peer) {
                                  events.add("given away");
                                  std::thread([peer = std::move(peer)] {
                                      ::fcntl(peer.get(), F_SETFL, 0);
                                      char byte = 0;
                                      while (::recv(peer.get(), &byte, 1, 0) == 1)
                                          if (::send(peer.get(), &byte, 1, MSG_NOSIGNAL) != 1)
                                              return;
                                  }).detach();
                              });
                              if (in.text == "refuse") return Error(Errc::busy, "not now");
                              return in;
                          });
    return clock;
}

class ServerTest : public testing::Test {
protected:
    void SetUp() override { start({}, 0ms); }
    void TearDown() override { stop(); }

    void start(const ServerLimits& limits, std::chrono::milliseconds deadline,
               std::function<Result<void>(const PeerCredentials&)> may_connect = {}) {
        stop();
        io_ = std::make_unique<boost::asio::io_context>();
        ServerHooks hooks;
        hooks.may_connect = std::move(may_connect);
        hooks.on_dropped = [this](const Error& error) {
            {
                const std::lock_guard lock(mutex_);
                dropped_ = error;
            }
            events_.add("dropped");
        };
        hooks.on_activity = [this] {
            const Activity now = server_ ? server_->activity() : Activity{};
            if (now == Activity{}) events_.add("idle");
            events_.add("connections " + std::to_string(now.connections));
        };
        server_ = std::make_unique<Server>(
            *io_, ServiceInfo{"banger", "test", "1", "https://banger.example"}, limits,
            std::move(hooks));
        ASSERT_TRUE(server_->add(clock_interface(events_, deadline)));
        thread_ = std::thread([this] {
            const auto guard = boost::asio::make_work_guard(*io_);
            io_->run();
        });
    }
    void stop() {
        if (!thread_.joinable()) return;
        on_io([this] { server_.reset(); });
        io_->stop();
        thread_.join();
    }
    void on_io(const std::function<void()>& work) {
        std::promise<void> done;
        boost::asio::post(*io_, [&] {
            work();
            done.set_value();
        });
        done.get_future().wait();
    }
    /// Our end of a new connection.
    UniqueFd connect() {
        int ends[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        on_io([&] { served_ = server_->serve(UniqueFd(ends[0])); });
        return UniqueFd(ends[1]);
    }
    Connection client() { return Connection(connect()); }

    static void write(const UniqueFd& fd, std::string_view text) {
        ASSERT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(text.size()));
    }
    /// A message without its NUL; "" at the end.
    static std::string read(const UniqueFd& fd) {
        std::string text;
        char c = 0;
        while (::recv(fd.get(), &c, 1, 0) == 1 && c != '\0')
            text += c;
        return text;
    }
    static std::string call_text(std::string_view method, std::string_view parameters = "{}") {
        return R"({"method":"io.banger.Clock.)" + std::string(method) + R"(","parameters":)" +
               std::string(parameters) + "}" + '\0';
    }
    static std::string upgrade_text(const std::string& text) {
        return R"({"method":"io.banger.Clock.Mirror","parameters":{"text":")" + text +
               R"("},"upgrade":true})" + '\0';
    }
    std::string dropped_message() {
        const std::lock_guard lock(mutex_);
        return dropped_.message;
    }

    Events events_;
    Result<void> served_;

private:
    std::mutex mutex_;
    Error dropped_;
    std::unique_ptr<boost::asio::io_context> io_;

protected:
    std::unique_ptr<Server> server_;

private:
    std::thread thread_;
};

// ---- another protocol ----

TEST_F(ServerTest, AnUpgradedConnectionIsTheJobsAfterItsReply) {
    using namespace std::string_literals;
    const UniqueFd fd = connect();
    write(fd, upgrade_text("hello"));
    EXPECT_EQ(read(fd), R"({"parameters":{"text":"hello"}})");
    EXPECT_TRUE(events_.wait("idle")) << "the server forgets it";
    write(fd, "{\"no\": message}\0"s);
    EXPECT_EQ(read(fd), "{\"no\": message}");
}

TEST_F(ServerTest, ARefusedUpgradeLeavesTheConnectionAsItWas) {
    const UniqueFd fd = connect();
    write(fd, upgrade_text("refuse"));
    EXPECT_THAT(read(fd), HasSubstr("busy"));
    write(fd, call_text("Mirror", R"({"text":"x"})"));
    EXPECT_THAT(read(fd), HasSubstr("not so"));
    write(fd, call_text("Now"));
    EXPECT_EQ(read(fd), R"({"parameters":{"seconds":1000}})");
    // One that is no job cannot take it either.
    write(fd, R"({"method":"io.banger.Clock.Now","upgrade":true})" + std::string(1, '\0'));
    EXPECT_EQ(read(fd), R"({"parameters":{"seconds":1000}})");
    write(fd, call_text("Now"));
    EXPECT_EQ(read(fd), R"({"parameters":{"seconds":1000}})");
    EXPECT_EQ(events_.count("given away"), 0);
}

TEST_F(ServerTest, WhoSaysMoreBesideAnUpgradeIsDropped) {
    using namespace std::string_literals;
    for (const std::string& text :
         {upgrade_text("a") + "early bytes"s, call_text("Now") + upgrade_text("a") + "{"s}) {
        const UniqueFd fd = connect();
        write(fd, text);
        while (!read(fd).empty()) {
        }
    }
    EXPECT_TRUE(events_.wait("dropped", 2));
    EXPECT_EQ(events_.count("given away"), 0);
}

TEST_F(ServerTest, WhoGoesDuringAnUpgradeIsFoundGoneByWhoeverTookIt) {
    {
        const UniqueFd fd = connect();
        write(fd, upgrade_text("a"));
    }
    EXPECT_TRUE(events_.wait("idle"));
}

// ---- calls ----

TEST_F(ServerTest, TextAndTableAgreeButForTheOneThatIsNotYet) {
    Events events;
    EXPECT_THAT(disagreements(clock_interface(events, 0ms)), ElementsAre("NotYet has no handler"));
}

TEST_F(ServerTest, AQuickMethodAnswers) {
    const Result<NowReply> reply = client().call<NowReply>("io.banger.Clock.Now", Nothing{});
    ASSERT_TRUE(reply) << reply.error().text();
    EXPECT_EQ(reply->seconds, 1'000);
}

TEST_F(ServerTest, AnErrorComesBackAsItWas) {
    for (const Errc code : {Errc::not_found, Errc::in_use, Errc::no_space, Errc::internal}) {
        const Result<Nothing> reply =
            client().call<Nothing>("io.banger.Clock.Fail", FailWith{code});
        ASSERT_FALSE(reply);
        EXPECT_EQ(reply.error(), Error(code, "it does not work", "Do without."));
    }
}

TEST_F(ServerTest, AnErrorHasItsNameOnTheWire) {
    const UniqueFd fd = connect();
    write(fd, call_text("Fail", R"({"code":"in_use"})"));
    EXPECT_EQ(read(fd), R"({"error":"io.banger.Clock.Failed","parameters":{"code":"in_use",)"
                        R"("message":"it does not work","remedy":"Do without."}})");
}

TEST_F(ServerTest, AThrowingHandlerIsAnInternalError) {
    const Result<Nothing> reply = client().call<Nothing>("io.banger.Clock.Throw", Nothing{});
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code, Errc::internal);
    EXPECT_THAT(reply.error().message, HasSubstr("out of cheese"));
}

TEST_F(ServerTest, StandardErrors) {
    const UniqueFd fd = connect();
    const auto ask = [&](const std::string& text) {
        write(fd, text);
        return read(fd);
    };
    EXPECT_EQ(
        ask(call_text("Nonsense")),
        R"({"error":"org.varlink.service.MethodNotFound","parameters":{"method":"Nonsense"}})");
    EXPECT_EQ(ask(call_text("NotYet")), R"({"error":"org.varlink.service.MethodNotImplemented",)"
                                        R"("parameters":{"method":"NotYet"}})");
    using namespace std::string_literals;
    EXPECT_EQ(ask("{\"method\":\"io.banger.Other.Now\"}\0"s),
              R"({"error":"org.varlink.service.InterfaceNotFound",)"
              R"("parameters":{"interface":"io.banger.Other"}})");
    EXPECT_THAT(
        ask(call_text("Echo", R"({"text":5})")),
        HasSubstr(R"("org.varlink.service.InvalidParameter","parameters":{"parameter":"text",)"));
    EXPECT_THAT(ask(call_text("Echo", R"({"text":"a","more":1})")),
                HasSubstr(R"("parameters":{"parameter":"more","message":"parameters.more: )"));
    EXPECT_THAT(ask(call_text("Now", "null")), HasSubstr("1000"));
}

TEST_F(ServerTest, StandardErrorsAreErrorsOfOurs) {
    Connection connection = client();
    EXPECT_EQ(connection.call<Nothing>("io.banger.Clock.Nonsense", Nothing{}).error().code,
              Errc::unsupported);
    EXPECT_EQ(connection.call<Nothing>("io.banger.Other.Now", Nothing{}).error().code,
              Errc::unsupported);
    const Error misfit = connection.call<Text>("io.banger.Clock.Echo", WaitFor{"x"}).error();
    EXPECT_EQ(misfit.code, Errc::invalid_argument);
    EXPECT_EQ(misfit.message, "parameters.text: it is missing");
    EXPECT_TRUE(connection.is_open());
}

TEST_F(ServerTest, AReplyThatDoesNotFitIsCorrupt) {
    const Result<NowReply> reply = client().call<NowReply>("io.banger.Clock.Echo", Text{"now"});
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code, Errc::corrupt);
}

TEST_F(ServerTest, DescribesItself) {
    const UniqueFd fd = connect();
    using namespace std::string_literals;
    write(fd, "{\"method\":\"org.varlink.service.GetInfo\"}\0"s);
    EXPECT_EQ(read(fd), R"({"parameters":{"vendor":"banger","product":"test","version":"1",)"
                        R"("url":"https://banger.example",)"
                        R"("interfaces":["org.varlink.service","io.banger.Clock"]}})");
    for (const std::string name : {"org.varlink.service", "io.banger.Clock"}) {
        write(fd, R"({"method":"org.varlink.service.GetInterfaceDescription","parameters":)"
                  R"({"interface":")" +
                      name + "\"}}" + '\0');
        const Result<Json> reply = Json::parse(read(fd));
        ASSERT_TRUE(reply);
        const Json* description = reply->find("parameters")->find("description");
        ASSERT_NE(description, nullptr);
        const Result<Idl> idl = Idl::parse(*description->if_text());
        ASSERT_TRUE(idl) << idl.error().text();
        EXPECT_EQ(idl->name, name);
    }
    write(fd, R"({"method":"org.varlink.service.GetInterfaceDescription","parameters":)"
              R"({"interface":"io.banger.Other"}})" +
                  "\0"s);
    EXPECT_THAT(read(fd), HasSubstr("org.varlink.service.InterfaceNotFound"));
    write(fd, "{\"method\":\"org.varlink.service.GetInterfaceDescription\"}\0"s);
    EXPECT_THAT(read(fd), HasSubstr("org.varlink.service.InvalidParameter"));
    write(fd, "{\"method\":\"org.varlink.service.Nonsense\"}\0"s);
    EXPECT_THAT(read(fd), HasSubstr("org.varlink.service.MethodNotFound"));
}

TEST_F(ServerTest, OnewayHasNoReply) {
    const UniqueFd fd = connect();
    using namespace std::string_literals;
    for (const std::string_view method : {"Echo", "Nonsense", "Throw"})
        write(fd, R"({"method":"io.banger.Clock.)" + std::string(method) +
                      R"(","parameters":{"text":"one"},"oneway":true})" + "\0"s);
    write(fd, R"({"method":"io.banger.Clock.Wait","parameters":{"label":"nothing"},"oneway":true})"
              "\0"s);
    write(fd, call_text("Now"));
    EXPECT_EQ(read(fd), R"({"parameters":{"seconds":1000}})");
    EXPECT_TRUE(events_.wait("echo one"));
    EXPECT_TRUE(events_.wait("begun nothing"));
}

TEST_F(ServerTest, ProgressComesOnlyWhenAskedFor) {
    Connection connection = client();
    std::vector<Progress> seen;
    const Result<WaitReply> with = connection.call<WaitReply>(
        "io.banger.Clock.Wait", WaitFor{"nothing"},
        {.on_progress = [&](const Progress& each) { seen.push_back(each); }});
    ASSERT_TRUE(with) << with.error().text();
    EXPECT_EQ(with->waited, "nothing");
    EXPECT_THAT(seen, ElementsAre(Progress{"waiting for nothing", 1, 2, Progress::Unit::items}));

    const Result<WaitReply> without =
        connection.call<WaitReply>("io.banger.Clock.Wait", WaitFor{"nothing"});
    ASSERT_TRUE(without) << without.error().text();
    EXPECT_EQ(seen.size(), 1U);
}

TEST_F(ServerTest, PipelinedRequestsAreAnsweredInOrder) {
    const UniqueFd fd = connect();
    std::string all;
    for (int i = 0; i < 20; ++i) {
        all += call_text("Wait", R"({"label":"nothing"})");
        all += call_text("Echo", R"({"text":")" + std::to_string(i) + "\"}");
    }
    write(fd, all);
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(read(fd), R"({"parameters":{"waited":"nothing"}})");
        EXPECT_EQ(read(fd), R"({"parameters":{"text":")" + std::to_string(i) + "\"}}");
    }
}

TEST_F(ServerTest, AMessageMayComeByteByByte) {
    const UniqueFd fd = connect();
    for (const char c : call_text("Echo", R"({"text":"slowly"})"))
        write(fd, {&c, 1});
    EXPECT_EQ(read(fd), R"({"parameters":{"text":"slowly"}})");
}

// ---- cancelling ----

TEST_F(ServerTest, ClosingStopsTheJob) {
    {
        const UniqueFd fd = connect();
        write(fd, call_text("Wait", R"({"label":"close"})"));
        ASSERT_TRUE(events_.wait("begun close"));
    }
    EXPECT_TRUE(events_.wait("stopped close"));
    EXPECT_TRUE(events_.wait("idle"));
}

TEST_F(ServerTest, ClosingTheSendingHalfStopsTheJobToo) {
    const UniqueFd fd = connect();
    write(fd, call_text("Wait", R"({"label":"half"})"));
    ASSERT_TRUE(events_.wait("begun half"));
    ASSERT_EQ(::shutdown(fd.get(), SHUT_WR), 0);
    EXPECT_TRUE(events_.wait("stopped half"));
    // Whoever waits for the answer knows by it that everything is undone.
    EXPECT_NE(read(fd).find(R"("code":"cancelled")"), std::string::npos);
    EXPECT_EQ(read(fd), "");
}

TEST_F(ServerTest, ProgressAfterHalfACloseIsNotTheLastWord) {
    const UniqueFd fd = connect();
    std::string call = call_text("Wait", R"({"label":"undo"})");
    call.insert(1, R"("more":true,)");
    write(fd, call);
    EXPECT_NE(read(fd).find("waiting for undo"), std::string::npos);
    ASSERT_EQ(::shutdown(fd.get(), SHUT_WR), 0);
    EXPECT_NE(read(fd).find("undoing"), std::string::npos);
    events_.add("undone");
    EXPECT_NE(read(fd).find(R"("code":"cancelled")"), std::string::npos);
    EXPECT_EQ(read(fd), "");
}

TEST_F(ServerTest, WhatIsAnsweredAlreadyStillComesAfterHalfAClose) {
    const UniqueFd fd = connect();
    write(fd, call_text("Now"));
    ASSERT_EQ(::shutdown(fd.get(), SHUT_WR), 0);
    EXPECT_EQ(read(fd), R"({"parameters":{"seconds":1000}})");
    EXPECT_EQ(read(fd), "");
}

TEST_F(ServerTest, ClosingDropsTheRequestsBehindTheJob) {
    {
        const UniqueFd fd = connect();
        write(fd, call_text("Wait", R"({"label":"first"})") +
                      call_text("Echo", R"({"text":"second"})"));
        ASSERT_TRUE(events_.wait("begun first"));
    }
    ASSERT_TRUE(events_.wait("stopped first"));
    ASSERT_TRUE(events_.wait("idle"));
    // What another connection asks now comes after anything the first could have caused.
    ASSERT_TRUE(client().call<Text>("io.banger.Clock.Echo", Text{"third"}));
    EXPECT_TRUE(events_.wait("echo third"));
    EXPECT_EQ(events_.count("echo second"), 0);
}

TEST_F(ServerTest, AStopTokenEndsTheCallAndTheJob) {
    Connection connection = client();
    std::stop_source source;
    std::thread stopper([&] {
        events_.wait("begun token");
        source.request_stop();
    });
    const Result<WaitReply> reply = connection.call<WaitReply>(
        "io.banger.Clock.Wait", WaitFor{"token"}, {.stop = source.get_token()});
    stopper.join();
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code, Errc::cancelled);
    EXPECT_FALSE(connection.is_open());
    EXPECT_TRUE(events_.wait("stopped token"));
}

TEST_F(ServerTest, AReadableDescriptorEndsTheCall) {
    Connection connection = client();
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    const UniqueFd writer(ends[1]);
    std::thread stopper([&] {
        events_.wait("begun descriptor");
        EXPECT_EQ(::write(writer.get(), "!", 1), 1);
    });
    const Result<WaitReply> reply = connection.call<WaitReply>(
        "io.banger.Clock.Wait", WaitFor{"descriptor"}, {.stop_fd = reader.get()});
    stopper.join();
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code, Errc::cancelled);
    EXPECT_TRUE(events_.wait("stopped descriptor"));
}

TEST_F(ServerTest, TheClientsTimeoutEndsTheJob) {
    const Result<WaitReply> reply =
        client().call<WaitReply>("io.banger.Clock.Wait", WaitFor{"timeout"}, {.timeout = 20ms});
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code, Errc::timed_out);
}

TEST_F(ServerTest, ADeadlineStopsTheJobAndSaysSo) {
    start({}, 20ms);
    const Result<WaitReply> reply =
        client().call<WaitReply>("io.banger.Clock.Wait", WaitFor{"deadline"});
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code, Errc::timed_out);
    EXPECT_EQ(reply.error().message, "Wait took longer than 1 s");
    EXPECT_TRUE(events_.wait("stopped deadline"));
}

TEST_F(ServerTest, StopJobsStopsThemAll) {
    const UniqueFd one = connect();
    const UniqueFd two = connect();
    write(one, call_text("Wait", R"({"label":"one"})"));
    write(two, call_text("Wait", R"({"label":"two"})"));
    ASSERT_TRUE(events_.wait("begun one"));
    ASSERT_TRUE(events_.wait("begun two"));
    on_io([&] { server_->stop_jobs(); });
    EXPECT_THAT(read(one), HasSubstr("cancelled"));
    EXPECT_THAT(read(two), HasSubstr("cancelled"));
}

TEST_F(ServerTest, TheDestructorEndsJobsAndConnections) {
    const UniqueFd fd = connect();
    write(fd, call_text("Wait", R"({"label":"end"})"));
    ASSERT_TRUE(events_.wait("begun end"));
    stop();
    EXPECT_TRUE(events_.wait("stopped end"));
    EXPECT_EQ(read(fd), "");
}

// ---- draining ----

TEST_F(ServerTest, DrainEndsIdleConnectionsAndWaitsForJobs) {
    const UniqueFd idle = connect();
    const UniqueFd working = connect();
    write(working, call_text("Wait", R"({"label":"drain"})"));
    ASSERT_TRUE(events_.wait("begun drain"));
    on_io([&] { server_->drain([&] { events_.add("drained"); }); });
    EXPECT_EQ(read(idle), "");
    on_io([&] { EXPECT_EQ(server_->activity(), (Activity{1, 1})); });
    on_io([&] { server_->stop_jobs(); });
    EXPECT_THAT(read(working), HasSubstr("cancelled"));
    EXPECT_EQ(read(working), "");
    EXPECT_TRUE(events_.wait("drained"));
    on_io([&] { EXPECT_EQ(server_->activity(), Activity{}); });
}

TEST_F(ServerTest, DrainOfAnIdleServerIsDoneAtOnce) {
    on_io([&] { server_->drain([&] { events_.add("drained"); }); });
    EXPECT_TRUE(events_.wait("drained"));
}

// ---- hostile and unlucky peers ----

TEST_F(ServerTest, WhatIsNoMessageEndsTheConnection) {
    using namespace std::string_literals;
    const std::string deep(100'000, '[');
    for (const std::string& text :
         {""s, "{"s, "null"s, "[]"s, "\xff\xfe"s, R"({"method":5})"s, R"({"method":"Now"})"s,
          R"({"method":".Now"})"s, R"({"method":"io.banger.Clock."})"s,
          R"({"method":"io.banger.Clock.Now","parameters":[]})"s,
          R"({"method":"io.banger.Clock.Now","method":"io.banger.Clock.Now"})"s,
          R"({"method":"io.banger.Clock.Now","more":1})"s,
          R"({"method":"io.banger.Clock.Now","more":true,"oneway":true})"s,
          R"({"method":"io.banger.Clock.Now","upgrade":1})"s,
          R"({"method":"io.banger.Clock.Now","upgrade":true,"more":true})"s,
          R"({"method":"io.banger.Clock.Now","upgrade":true,"oneway":true})"s,
          R"({"method":"io.banger.Clock.Now","extra":true})"s, deep}) {
        start({}, 0ms);
        const UniqueFd fd = connect();
        write(fd, text + '\0');
        EXPECT_EQ(read(fd), "") << text.substr(0, 80);
    }
    EXPECT_TRUE(events_.wait("dropped", 18));
    // And the server is none the worse.
    EXPECT_TRUE(client().call<NowReply>("io.banger.Clock.Now", Nothing{}));
}

TEST_F(ServerTest, AMessageOverTheLimitEndsTheConnection) {
    const UniqueFd fd = connect();
    const std::string chunk(64 << 10, 'x');
    // Written until the server has had enough; a blocking send ends with an error then.
    std::size_t sent = 0;
    while (sent < 4 * max_message_bytes) {
        const ssize_t count = ::send(fd.get(), chunk.data(), chunk.size(), MSG_NOSIGNAL);
        if (count < 0) break;
        sent += static_cast<std::size_t>(count);
    }
    EXPECT_LT(sent, 2 * max_message_bytes);
    ASSERT_TRUE(events_.wait("dropped"));
    EXPECT_THAT(dropped_message(), HasSubstr("longer than 1048576 bytes"));
}

TEST_F(ServerTest, TheLargestMessagePasses) {
    const std::string text(max_message_bytes - 100, 'x');
    const Result<Text> reply = client().call<Text>("io.banger.Clock.Echo", Text{text});
    ASSERT_TRUE(reply) << reply.error().text();
    EXPECT_EQ(reply->text, text);
}

TEST_F(ServerTest, ARequestThatIsTooLargeIsNotSent) {
    Connection connection = client();
    const Result<Text> reply =
        connection.call<Text>("io.banger.Clock.Echo", Text{std::string(max_message_bytes, 'x')});
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code, Errc::no_space);
    EXPECT_TRUE(connection.call<NowReply>("io.banger.Clock.Now", Nothing{}));
}

TEST_F(ServerTest, HalfAMessageIsNotWaitedForForEver) {
    start({.patience = 50ms}, 0ms);
    const UniqueFd fd = connect();
    write(fd, R"({"method":"io.banger)");
    EXPECT_EQ(read(fd), "");
    ASSERT_TRUE(events_.wait("dropped"));
    EXPECT_THAT(dropped_message(), HasSubstr("half a message"));
}

TEST_F(ServerTest, AnIdleConnectionIsKept) {
    start({.patience = 20ms}, 0ms);
    const UniqueFd idle = connect();
    const UniqueFd half = connect();
    write(half, "{");
    EXPECT_EQ(read(half), "");  // longer than patience
    write(idle, call_text("Now"));
    EXPECT_THAT(read(idle), HasSubstr("1000"));
}

TEST_F(ServerTest, WhoDoesNotReadIsDropped) {
    start({.patience = 50ms}, 0ms);
    const UniqueFd fd = connect();
    write(fd, R"({"method":"io.banger.Clock.Flood","parameters":{"bytes":10000},"more":true})" +
                  std::string(1, '\0'));
    EXPECT_TRUE(events_.wait("flood ended"));
    EXPECT_TRUE(events_.wait("dropped"));
    EXPECT_THAT(dropped_message(), HasSubstr("does not read"));
    EXPECT_TRUE(events_.wait("idle"));
}

TEST_F(ServerTest, WhoReadsSlowlyIsServed) {
    const UniqueFd fd = connect();
    write(fd, R"({"method":"io.banger.Clock.Flood","parameters":{"bytes":10000},"more":true})" +
                  std::string(1, '\0'));
    // Far more than fits between the two: the job waits for the reader meanwhile.
    for (int i = 0; i < 200; ++i)
        ASSERT_EQ(read(fd).size(), 10'000 + 43U);
}

TEST_F(ServerTest, ItemsGoToTheCallerUntilItHasEnough) {
    Connection connection = client();
    int count = 0;
    const Result<void> all = connection.stream<Text>("io.banger.Clock.Flood", FloodOf{5},
                                                     [&](const Text& item) -> Result<void> {
                                                         EXPECT_EQ(item.text, "xxxxx");
                                                         if (++count < 100) return {};
                                                         return Error(Errc::cancelled, "enough");
                                                     });
    ASSERT_FALSE(all);
    EXPECT_EQ(all.error().message, "enough");
    EXPECT_FALSE(connection.is_open());
    EXPECT_TRUE(events_.wait("flood ended"));
}

TEST_F(ServerTest, WhoSendsWithoutReadingIsDropped) {
    const UniqueFd fd = connect();
    write(fd, call_text("Wait", R"({"label":"busy"})"));
    ASSERT_TRUE(events_.wait("begun busy"));
    const std::string many = [] {
        std::string text;
        while (text.size() < (64U << 10))
            text += call_text("Now");
        return text;
    }();
    for (int i = 0; i < 100; ++i)
        if (::send(fd.get(), many.data(), many.size(), MSG_NOSIGNAL) < 0) break;
    EXPECT_TRUE(events_.wait("stopped busy"));
    ASSERT_TRUE(events_.wait("dropped"));
    EXPECT_THAT(dropped_message(), HasSubstr("faster than it reads"));
}

TEST_F(ServerTest, TooManyConnectionsOfOneUserAreRefused) {
    start({.connections_per_uid = 2}, 0ms);
    const UniqueFd one = connect();
    UniqueFd two = connect();
    EXPECT_TRUE(served_);
    const UniqueFd three = connect();
    ASSERT_FALSE(served_);
    EXPECT_EQ(served_.error().code, Errc::busy);
    EXPECT_EQ(read(three), "");
    two.reset();
    // Once with the first, and again when the second has gone.
    ASSERT_TRUE(events_.wait("connections 1", 2));
    const UniqueFd four = connect();
    EXPECT_TRUE(served_);
}

TEST_F(ServerTest, TooManyJobsAreBusy) {
    start({.running_jobs = 1, .waiting_jobs = 1}, 0ms);
    const UniqueFd running = connect();
    write(running, call_text("Wait", R"({"label":"running"})"));
    ASSERT_TRUE(events_.wait("begun running"));
    const UniqueFd waiting = connect();
    write(waiting, call_text("Wait", R"({"label":"waiting"})"));
    // Answered by the I/O thread, so the request before it has been taken.
    EXPECT_TRUE(client().call<NowReply>("io.banger.Clock.Now", Nothing{}));
    const Result<WaitReply> refused =
        client().call<WaitReply>("io.banger.Clock.Wait", WaitFor{"refused"});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::busy);
}

TEST_F(ServerTest, ThePolicyDecides) {
    start({}, 0ms, [](const PeerCredentials& peer) -> Result<void> {
        EXPECT_EQ(peer.uid, ::geteuid());
        EXPECT_EQ(peer.pid, ::getpid());
        return Error(Errc::permission_denied, "not today");
    });
    const UniqueFd fd = connect();
    ASSERT_FALSE(served_);
    EXPECT_EQ(served_.error().code, Errc::permission_denied);
    EXPECT_EQ(read(fd), "");
}

TEST_F(ServerTest, DescriptorsThatAreSentAreClosed) {
    const UniqueFd fd = connect();
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    std::string text = call_text("Now");
    iovec part{text.data(), text.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int number = writer.get();
    std::memcpy(CMSG_DATA(header), &number, sizeof number);
    ASSERT_GT(::sendmsg(fd.get(), &message, 0), 0);
    EXPECT_THAT(read(fd), HasSubstr("1000"));
    writer.reset();
    char c = 0;
    EXPECT_EQ(::read(reader.get(), &c, 1), 0) << "the server kept the other end";
}

// ---- many, and over a path ----

class PathTest : public ServerTest {
protected:
    void SetUp() override {
        ServerTest::SetUp();
        char name[] = "/tmp/banger-rpc-XXXXXX";
        ASSERT_NE(::mkdtemp(name), nullptr);
        folder_ = name;
        path_ = folder_ + "/socket";
        Result<UniqueFd> listener = listen_at(path_);
        ASSERT_TRUE(listener) << listener.error().text();
        on_io([&] { ASSERT_TRUE(server_->listen(std::move(*listener))); });
    }
    void TearDown() override {
        ServerTest::TearDown();
        ::unlink(path_.c_str());
        ::rmdir(folder_.c_str());
    }
    std::string folder_;
    std::string path_;
};

TEST_F(PathTest, FiftyClientsAtOnce) {
    std::atomic<int> right = 0;
    std::vector<std::thread> clients;
    clients.reserve(50);
    for (int i = 0; i < 50; ++i)
        clients.emplace_back([&, i] {
            Result<Connection> connection = Connection::connect(path_, 20s);
            if (!connection) return;
            for (int n = 0; n < 20; ++n) {
                const std::string text = std::to_string(i * 1000 + n);
                const Result<Text> echo =
                    connection->call<Text>("io.banger.Clock.Echo", Text{text});
                const Result<WaitReply> waited =
                    connection->call<WaitReply>("io.banger.Clock.Wait", WaitFor{"nothing"});
                if (echo && echo->text == text && waited) ++right;
            }
        });
    for (std::thread& each : clients)
        each.join();
    EXPECT_EQ(right, 50 * 20);
    EXPECT_TRUE(events_.wait("idle"));
}

TEST_F(PathTest, ClientsOverTheLimitWaitTheirTurn) {
    ServerTest::stop();
    start({.connections = 1}, 0ms);
    on_io([&] { ASSERT_TRUE(server_->listen(listen_at(path_).value())); });
    Result<Connection> first = Connection::connect(path_, 20s);
    ASSERT_TRUE(first);
    ASSERT_TRUE(first->call<NowReply>("io.banger.Clock.Now", Nothing{}));
    Result<Connection> second = Connection::connect(path_, 20s);
    ASSERT_TRUE(second);
    EXPECT_EQ(
        second->call<NowReply>("io.banger.Clock.Now", Nothing{}, {.timeout = 20ms}).error().code,
        Errc::timed_out);
    Result<Connection> third = Connection::connect(path_, 20s);
    ASSERT_TRUE(third);
    first->close();
    EXPECT_TRUE(third->call<NowReply>("io.banger.Clock.Now", Nothing{}));
}

/// The python that has the varlink package: BANGER_VARLINK_PYTHON, else the one on PATH.
Result<std::string> find_python() {
    if (const char* named = std::getenv("BANGER_VARLINK_PYTHON")) return std::string(named);
    return find_program("python3");
}

TEST_F(PathTest, AClientThatNobodyHereWroteCallsIt) {
    constexpr int package_is_missing = 77;
    const Result<std::string> python = find_python();
    if (!python) GTEST_SKIP() << "there is no python3: " << python.error().text();
    Command command;
    command.program = *python;
    command.arguments = {BANGER_FOREIGN_CLIENT, path_};
    command.environment = minimal_environment();
    const Result<CommandOutput> output = run_command(command, 30s, ByteCount::mib(1), {});
    ASSERT_TRUE(output) << output.error().text();
    if (output->status.code == package_is_missing)
        GTEST_SKIP() << *python
                     << " has no package varlink: `pip install varlink` in a venv and set "
                     << "BANGER_VARLINK_PYTHON to its python";
    EXPECT_TRUE(output->status.is_success()) << output->status.text() << "\n"
                                             << output->standard_error;
    EXPECT_EQ(output->standard_output, "all calls answered as expected\n");
    EXPECT_TRUE(events_.wait("echo one way"));
}

TEST_F(PathTest, NobodyThereIsUnavailable) {
    stop();
    const Result<Connection> refused = Connection::connect(path_, 1s);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unavailable);
    const Result<Connection> missing = Connection::connect(path_ + "x", 1s);
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, Errc::unavailable);
    EXPECT_EQ(Connection::connect(std::string(200, 'x'), 1s).error().code, Errc::invalid_argument);
}

TEST_F(PathTest, ADaemonThatDoesNotAcceptIsTimedOut) {
    stop();
    ::unlink(path_.c_str());
    const Result<UniqueFd> listener = listen_at(path_);
    ASSERT_TRUE(listener);
    ASSERT_EQ(::listen(listener->get(), 0), 0);
    std::vector<Connection> queued;
    std::optional<Error> error;
    while (!error && queued.size() < 10) {
        Result<Connection> next = Connection::connect(path_, 20ms);
        if (next)
            queued.push_back(std::move(*next));
        else
            error = next.error();
    }
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code, Errc::timed_out);
}

TEST_F(PathTest, ALostConnectionIsUnavailable) {
    Result<Connection> connection = Connection::connect(path_, 20s);
    ASSERT_TRUE(connection);
    std::thread stopper([&] {
        events_.wait("begun lost");
        stop();
    });
    const Result<WaitReply> reply =
        connection->call<WaitReply>("io.banger.Clock.Wait", WaitFor{"lost"});
    stopper.join();
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().code, Errc::unavailable);
    EXPECT_FALSE(connection->is_open());
    EXPECT_EQ(connection->call<NowReply>("io.banger.Clock.Now", Nothing{}).error().code,
              Errc::unavailable);
}

}  // namespace

}  // namespace banger::rpc
