// Every call that bangerd-root serves, with every field of it made hostile in turn: through the
// decoder and the policy, as from the socket.

#include <gmock/gmock.h>
#include <sys/mman.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/remote/methods.hpp"
#include "core/rpc/json.hpp"
#include "core/rpc/message.hpp"
#include "daemons/bangerd-root/policy.hpp"
#include "tests/bangerd-root/yes_plugin.hpp"
#include "tests/remote/served.hpp"

namespace banger::root {
namespace {

using rpc::Json;
using rpc::JsonMember;
using rpc::PacketChannel;

constexpr uid_t owner = 1000;

struct GoodCall {
    std::string method;
    std::string parameters;
    std::size_t files = 0;
};

const std::string vm = R"("0123456789ab")";
const std::string volume =
    R"({"vm":)" + vm + R"(,"role":"root","path":"/dev/x","format":"raw","size":1048576})";
const std::string record = R"({"vm":)" + vm + R"(,"name":"a","address":"10.0.0.2"})";
const std::string forward = R"({"host_address":"127.0.0.1","host_port":80,"guest_port":80})";

const std::string link =
    R"({"vm":)" + vm + R"(,"kind":"tap","device":"bgr-0","mac":"02:00:00:00:00:01",)" +
    R"("address":"10.0.0.2/24","gateway":"10.0.0.1","name_server":"10.0.0.1","nat":false,)" +
    R"("forwards":[)" + forward + "]}";
const std::string process =
    R"({"vm":)" + vm + R"(,"process":{"pid":4711,"start_time":815},"backend_state":""})";

const GoodCall good_calls[] = {
    {"network.attach", R"({"request":{"vm":)" + vm +
                           R"(,"name":"a","mac":"02:00:00:00:00:01","address":"10.0.0.2",)" +
                           R"("nat":true,"owner_uid":1000,"forwards":[)" + forward + "]}}"},
    {"network.detach", R"({"vm":)" + vm + "}"},
    {"network.recover", R"({"remembered":[)" + link + "]}"},
    {"network.checks", "{}"},
    {"dns.route", R"({"zone":{"zone":"vm","server":"127.0.0.1","port":42069}})"},
    {"dns.unroute", "{}"},
    {"dns.publish", R"({"record":)" + record + "}"},
    {"dns.withdraw", R"({"vm":)" + vm + "}"},
    {"dns.recover", R"({"remembered":[)" + record + "]}"},
    {"dns.checks", "{}"},
    {"storage.create",
     R"({"request":{"vm":)" + vm +
         R"(,"role":"root","size":1048576,"formats":["raw"],"owner_uid":1000}})",
     1},
    {"storage.activate", R"({"volume":)" + volume + "}", 1},
    {"storage.deactivate", R"({"vm":)" + vm + "}"},
    {"storage.resize", R"({"volume":)" + volume + R"(,"size":2097152})"},
    {"storage.usage", R"({"volume":)" + volume + "}"},
    {"storage.remove", R"({"vm":)" + vm + "}"},
    {"storage.recover", R"({"remembered":[)" + volume + "]}"},
    {"storage.checks", "{}"},
    {"storage.clone", R"({"source":)" + volume + R"(,"target":)" + vm + "}"},
    {"vm-backend.capabilities", "{}"},
    {"vm-backend.start",
     R"({"spec":{"vm":)" + vm +
         R"(,"name":"a","vcpus":2,"memory":268435456,"command_line":"console=ttyS0 quiet",)" +
         R"("disks":[{"path":"/dev/banger/x","format":"raw","read_only":false,"serial":"root"},)" +
         R"({"path":"","format":"raw","read_only":true,"serial":"modules"}],"link":)" + link +
         R"(,"console_limit":4194304}})",
     3},
    {"vm-backend.kill", R"({"vm":)" + process + "}"},
    {"vm-backend.remove", R"({"vm":)" + vm + "}"},
    {"vm-backend.console", R"({"vm":)" + vm + "}"},
    {"vm-backend.connect_agent", R"({"vm":)" + process + "}"},
    {"vm-backend.recover", R"({"remembered":[)" + process + "]}"},
    {"vm-backend.checks", "{}"},
    {"vm-backend.pause", R"({"vm":)" + process + "}"},
    {"vm-backend.resume", R"({"vm":)" + process + "}"},
};

const std::vector<Json>& hostile_texts() {
    static const std::vector<Json> all = [] {
        std::vector<Json> texts;
        for (const std::string& text :
             {std::string("-"), std::string("-rf"), std::string("a\nb"), std::string("a b"),
              std::string("%n"), std::string("\x7f"), std::string("\x1b[2J"), std::string("\u00e4"),
              std::string("$(id)"), std::string("a;b"), std::string("\"'`"), std::string("\\"),
              std::string(std::size_t{64} * 1024, 'a')})
            texts.emplace_back(text);
        texts.emplace_back(std::int64_t{7});
        texts.emplace_back(Json::List{Json("a")});
        return texts;
    }();
    return all;
}

const std::vector<Json>& hostile_numbers() {
    static const std::vector<Json> all = [] {
        std::vector<Json> numbers;
        numbers.emplace_back(std::int64_t{-1});
        numbers.emplace_back(INT64_MIN);
        numbers.emplace_back(INT64_MAX);
        numbers.emplace_back(UINT64_MAX);
        for (const double number : {1.5, 1e300, -0.5, 18446744073709551616.0})
            numbers.emplace_back(number);
        numbers.emplace_back("1");
        numbers.emplace_back(true);
        numbers.emplace_back();
        return numbers;
    }();
    return all;
}

/// Calls `with` for the value with one hostile thing in it, for each place and each thing.
void spoil(const Json& value, const std::function<void(Json)>& with) {
    if (value.if_text() != nullptr)
        for (const Json& text : hostile_texts())
            with(text);
    if (value.if_integer() != nullptr)
        for (const Json& number : hostile_numbers())
            with(number);
    if (value.if_bool() != nullptr)
        for (const char* word : {"true", "0"})
            with(Json(word));
    if (const Json::List* list = value.if_list()) {
        for (std::size_t i = 0; i < list->size(); ++i)
            spoil((*list)[i], [&](Json changed) {
                Json::List copy = *list;
                copy[i] = std::move(changed);
                with(Json(std::move(copy)));
            });
        with(Json(Json::Object{}));
    }
    if (const Json::Object* object = value.if_object()) {
        for (std::size_t i = 0; i < object->size(); ++i)
            spoil((*object)[i].value, [&](Json changed) {
                Json::Object copy = *object;
                copy[i].value = std::move(changed);
                with(Json(std::move(copy)));
            });
        Json::Object more = *object;
        more.push_back({"path", Json("/etc/shadow")});
        // "path" twice is refused as well, but not by what is tested here.
        if (value.find("path") != nullptr) more.back().name = "paths";
        with(Json(std::move(more)));
        with(Json(Json::List{}));
    }
}

class EveryCall : public testing::Test {
protected:
    void SetUp() override {
        served_.serve({{PluginName::parse("p").value(), policy_->roles(), {}}});
        channel_.emplace(served_.connect()().value());
    }
    /// The error, or nothing after a success.
    std::optional<Error> ask(const GoodCall& call, const std::string& parameters) {
        const auto soon = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        std::vector<int> files;
        for (std::size_t i = 0; i < call.files; ++i)
            files.push_back(file_.get());
        const std::string text =
            R"({"method":"p/)" + call.method + R"(","parameters":)" + parameters + "}";
        const Result<void> sent = channel_->send(text, files, soon);
        if (!sent) return sent.error();
        const Result<rpc::Packet> packet = channel_->receive(soon, {});
        if (!packet) return packet.error();
        const Result<rpc::ReplyMessage> reply = rpc::read_reply(packet->text);
        if (!reply) return reply.error();
        return reply->error.empty() ? std::nullopt : std::optional(rpc::error_of(*reply));
    }

    YesPlugin plugin_;
    std::unique_ptr<Policy> policy_ = Policy::make(plugin_.roles(), owner, {}).value();
    remote::Served served_;
    std::optional<PacketChannel> channel_;
    UniqueFd file_{::memfd_create("base", MFD_CLOEXEC)};
};

TEST_F(EveryCall, IsListedHere) {
    std::set<std::string> served;
    std::apply(
        [&](const auto&... entry) {
            for (const std::string_view name : {entry.name...})
                if (!name.starts_with("image-source.") && name != "vm-backend.save" &&
                    name != "vm-backend.restore")
                    served.emplace(name);
        },
        remote::methods);
    std::set<std::string> listed;
    for (const GoodCall& call : good_calls)
        listed.insert(call.method);
    EXPECT_EQ(listed, served);
}

TEST_F(EveryCall, IsServedWhenItIsGood) {
    for (const GoodCall& call : good_calls) {
        const std::optional<Error> error = ask(call, call.parameters);
        EXPECT_FALSE(error) << call.method << ": " << error->text();
    }
}

TEST_F(EveryCall, IsRefusedWithAnyFieldMadeHostile) {
    std::size_t asked = 0;
    for (const GoodCall& call : good_calls)
        spoil(Json::parse(call.parameters).value(), [&](const Json& parameters) {
            const std::string text = parameters.text();
            // Two words are what a kernel's command line is made of.
            if (text.find(R"("command_line":"a b")") != std::string::npos) return;
            const std::optional<Error> error = ask(call, text);
            ASSERT_TRUE(error) << call.method << " took " << text.substr(0, 400);
            EXPECT_THAT(error->code, testing::AnyOf(Errc::invalid_argument, Errc::corrupt,
                                                    Errc::permission_denied))
                << call.method << ' ' << text.substr(0, 400) << ": " << error->text();
            if (error->code == Errc::corrupt) channel_.emplace(served_.connect()().value());
            ++asked;
        });
    EXPECT_GT(asked, 500U);
}

}  // namespace
}  // namespace banger::root
