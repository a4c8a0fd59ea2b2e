#include "core/rpc/message.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/rpc/upgrade.hpp"

namespace banger::rpc {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

Json object(std::string_view text) { return Json::parse(text).value(); }

TEST(Message, CallsComeBackAsTheyWere) {
    for (const CallMessage& call :
         {CallMessage{"io.banger.Vm.List", object("{}"), false, false},
          CallMessage{"io.banger.Vm.Show", object(R"({"vm":"a"})"), true, false},
          CallMessage{"a.B", object("{}"), false, true}}) {
        const Result<std::string> text = write_message(call);
        ASSERT_TRUE(text);
        const Result<CallMessage> again = read_call(*text);
        ASSERT_TRUE(again) << again.error().text();
        EXPECT_EQ(*again, call);
    }
    EXPECT_EQ(write_message(CallMessage{"a.B", object("{}"), true, false}).value(),
              R"({"method":"a.B","parameters":{},"more":true})");
}

TEST(Message, AnUpgradeIsForWhoExpectsOne) {
    const std::string text = write_upgrade("a.B", object(R"({"c":1})")).value();
    const Result<AnyCall> any = read_any_call(text);
    ASSERT_TRUE(any) << any.error().text();
    EXPECT_TRUE(any->is_upgrade);
    EXPECT_EQ(any->call, (CallMessage{"a.B", object(R"({"c":1})"), false, false}));
    EXPECT_EQ(read_call(text).error().code, Errc::corrupt);
    EXPECT_FALSE(read_any_call(R"({"method":"a.B"})")->is_upgrade);
}

TEST(Message, RepliesComeBackAsTheyWere) {
    for (const ReplyMessage& reply :
         {ReplyMessage{object("{}"), false, ""}, ReplyMessage{object(R"({"a":[1]})"), true, ""},
          ReplyMessage{object(R"({"a":1})"), false, "a.b.Failed"}}) {
        const Result<ReplyMessage> again = read_reply(write_message(reply).value());
        ASSERT_TRUE(again) << again.error().text();
        EXPECT_EQ(*again, reply);
    }
}

TEST(Message, AReplyOfANewerServerIsRead) {
    const Result<ReplyMessage> reply = read_reply(R"({"parameters":null,"error":null,"new":1})");
    ASSERT_TRUE(reply) << reply.error().text();
    EXPECT_EQ(*reply, (ReplyMessage{object("{}"), false, ""}));
}

TEST(Message, AReplyThatIsNoneIsRefused) {
    for (const std::string_view text : {"", "[]", R"({"parameters":1})", R"({"error":5})",
                                        R"({"error":""})", R"({"continues":"yes"})"}) {
        const Result<ReplyMessage> reply = read_reply(text);
        ASSERT_FALSE(reply) << text;
        EXPECT_EQ(reply.error().code, Errc::corrupt);
    }
}

TEST(Message, OneThatIsTooLargeIsNotWritten) {
    Json::Object big;
    big.push_back({"a", Json(std::string(max_message_bytes, 'x'))});
    const Result<std::string> text = write_message(ReplyMessage{Json(std::move(big)), false, ""});
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().code, Errc::no_space);
}

TEST(Message, ErrorsComeBackAsTheyWere) {
    for (int i = 0; i <= static_cast<int>(Errc::internal); ++i) {
        const Error error(static_cast<Errc>(i), "it failed", "Do this.");
        EXPECT_EQ(error_of(failed_reply("io.banger.Vm", error)), error);
    }
}

TEST(Message, ACodeOfANewerDaemonKeepsItsSentence) {
    const Error error = error_of(
        {object(R"({"code":"tired","message":"m","remedy":"r"})"), false, "io.banger.Vm.Failed"});
    EXPECT_EQ(error, Error(Errc::internal, "m", "r"));
}

TEST(Message, AForeignErrorIsNamed) {
    for (const std::string_view parameters : {"{}", R"({"code":5})"}) {
        const Error error = error_of({object(parameters), false, "com.example.Failed"});
        EXPECT_EQ(error.code, Errc::internal);
        EXPECT_THAT(error.message, HasSubstr("com.example.Failed"));
    }
    EXPECT_EQ(error_of(service_error("InvalidParameter", "parameter", "vm")).code,
              Errc::invalid_argument);
    EXPECT_THAT(error_of(service_error("MethodNotFound", "method", "Fly")).message,
                HasSubstr("\"Fly\""));
}

TEST(Splitter, CutsAtEveryByte) {
    const std::string stream = "one\0\0three\0four"s;
    for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
        MessageSplitter splitter;
        std::vector<std::string> messages;
        for (const std::string& part : {stream.substr(0, cut), stream.substr(cut)}) {
            ASSERT_TRUE(splitter.add(part));
            while (std::optional<std::string> message = splitter.next())
                messages.push_back(*message);
        }
        EXPECT_THAT(messages, testing::ElementsAre("one", "", "three"));
        EXPECT_EQ(splitter.pending(), 4U);
        EXPECT_TRUE(splitter.is_inside());
        ASSERT_TRUE(splitter.add("\0"s));
        EXPECT_FALSE(splitter.is_inside());
        EXPECT_EQ(splitter.next(), "four");
        EXPECT_EQ(splitter.next(), std::nullopt);
        EXPECT_EQ(splitter.pending(), 0U);
    }
}

TEST(Splitter, ALongMessageIsRefusedAsSoonAsItIs) {
    MessageSplitter splitter(4);
    EXPECT_TRUE(splitter.add("1234"));
    EXPECT_FALSE(splitter.add("5"));
    MessageSplitter exact(4);
    EXPECT_TRUE(exact.add("1234\0"s));
    EXPECT_EQ(exact.next(), "1234");
    MessageSplitter second(4);
    ASSERT_TRUE(
        second.add("12\0"
                   "12345"s));
    EXPECT_EQ(second.next(), "12");
    EXPECT_FALSE(second.add("6"));
}

TEST(Splitter, ManyMessagesCostNoSquare) {
    MessageSplitter splitter;
    std::string many;
    for (int i = 0; i < 200'000; ++i)
        many += "x\0"s;
    ASSERT_TRUE(splitter.add(many));
    int count = 0;
    while (splitter.next())
        ++count;
    EXPECT_EQ(count, 200'000);
}

}  // namespace
}  // namespace banger::rpc
