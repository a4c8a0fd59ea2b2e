#include "core/guest/agent_protocol.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace banger::guest {
namespace {

using ::testing::ElementsAre;

std::string without_nul(std::string frame) {
    EXPECT_FALSE(frame.empty());
    EXPECT_EQ(frame.back(), '\0');
    frame.pop_back();
    EXPECT_EQ(frame.find('\0'), std::string::npos);
    return frame;
}

std::string parameters_of(const std::string& frame, std::uint64_t id) {
    const Result<AgentReply> reply = decode_reply(without_nul(frame));
    EXPECT_TRUE(reply);
    EXPECT_EQ(reply->id, id);
    EXPECT_FALSE(reply->error);
    return reply->parameters;
}

TEST(AgentProtocol, RequestsComeBack) {
    EXPECT_EQ(encode_request(7, "Health", Readiness::ready),
              std::string(R"({"id":7,"method":"Health","parameters":{"wait":"ready"}})") + '\0');
    const Result<AgentRequest> health =
        decode_request(without_nul(encode_request(~std::uint64_t{0}, "Health", Readiness::booted)));
    ASSERT_TRUE(health);
    EXPECT_EQ(health->id, ~std::uint64_t{0});
    EXPECT_EQ(health->wait, Readiness::booted);
    EXPECT_EQ(decode_request(without_nul(encode_request(1, "Sync")))->method, "Sync");
}

TEST(AgentProtocol, RefusesOddRequests) {
    for (const char* text :
         {"", "1", "[]", "{}", R"({"id":1,"method":"Sync"})",
          R"({"id":-1,"method":"Sync","parameters":{}})", R"({"id":1,"method":1,"parameters":{}})",
          R"({"id":1,"method":"Sync","parameters":[]})",
          R"({"id":1,"method":"Sync","parameters":{"x":1}})",
          R"({"id":1,"method":"Sync","parameters":{},"x":1})",
          R"({"id":1,"method":"Health","parameters":{}})",
          R"({"id":1,"method":"Health","parameters":{"wait":"forever"}})"})
        EXPECT_FALSE(decode_request(text)) << text;
}

TEST(AgentProtocol, RepliesComeBack) {
    const GuestHealth health{
        .booted = true,
        .ready = false,
        .failure = "no disk",
        .boot_id = "b",
        .uptime_ms = 1234,
        .agent_version = "0.1",
        .probes = {{"network", true, ""}, {"sshd-listening", false, "not yet"}}};
    EXPECT_EQ(*decode_health(parameters_of(encode_reply(1, health), 1)), health);

    const std::vector<GuestPort> ports{{PortProtocol::tcp, "0.0.0.0", 22, "sshd", 185},
                                       {PortProtocol::udp, "::", 53, "", 0}};
    EXPECT_EQ(*decode_ports(parameters_of(encode_reply(2, ports), 2)), ports);

    const GuestStats stats{.cpus = 2,
                           .cpu_busy_ms = 10,
                           .cpu_idle_ms = 20,
                           .load_1 = 0.5,
                           .load_5 = 0.25,
                           .load_15 = 0,
                           .memory_total_bytes = 1,
                           .memory_available_bytes = 2,
                           .root = {3, 4},
                           .work = {5, 6}};
    EXPECT_EQ(*decode_stats(parameters_of(encode_reply(3, stats), 3)), stats);
    EXPECT_EQ(parameters_of(encode_reply(4), 4), "{}");
}

TEST(AgentProtocol, TheLargestPortListFitsAFrame) {
    const std::vector<GuestPort> ports(
        1000, {PortProtocol::tcp, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535,
               std::string(15, 'x'), 4194304});
    const std::string frame = encode_reply(1, ports);
    EXPECT_LE(frame.size(), max_frame);
    EXPECT_EQ(decode_ports(parameters_of(frame, 1))->size(), max_ports);
}

TEST(AgentProtocol, ErrorsComeBackMarkedAsTheGuests) {
    const Result<AgentReply> reply =
        decode_reply(without_nul(encode_error(9, {Errc::busy, "too\x1b[31m many"})));
    ASSERT_TRUE(reply && reply->error);
    EXPECT_EQ(reply->error->code, Errc::busy);
    EXPECT_EQ(reply->error->message, "the guest agent says: too?[31m many");
}

TEST(AgentProtocol, HostileRepliesAreErrors) {
    const std::string deep = R"({"id":1,"parameters":)" + std::string(100'000, '[');
    for (const std::string& text :
         {std::string("\xff\xfe"), std::string("{\"id\":"), std::string("{}"), deep,
          std::string(R"({"id":1.5,"parameters":{}})"), std::string(R"({"id":1,"parameters":[]})"),
          std::string(R"({"id":1,"error":"x"})"), std::string(R"({"id":1})")})
        EXPECT_FALSE(decode_reply(text)) << text.substr(0, 60);

    EXPECT_FALSE(decode_health("{}"));
    EXPECT_FALSE(decode_health(R"({"booted":1})"));
    EXPECT_FALSE(decode_ports(
        R"({"ports":[{"protocol":"sctp","address":"","port":1,"process":"","pid":1}]})"));
    EXPECT_FALSE(decode_ports(
        R"({"ports":[{"protocol":"tcp","address":"","port":65536,"process":"","pid":1}]})"));
    std::string many = R"({"ports":[)";
    for (std::size_t at = 0; at <= max_ports; ++at)
        many += at == 0 ? "{}" : ",{}";
    EXPECT_FALSE(decode_ports(many + "]}"));
    EXPECT_FALSE(decode_stats(R"({"cpus":70000})"));
}

TEST(AgentProtocol, UnknownFieldsOfANewerAgentAreIgnored) {
    EXPECT_TRUE(decode_reply(R"({"id":1,"parameters":{},"newer":1})"));
}

TEST(FrameReader, CutsAtNulsHoweverTheBytesArrive) {
    FrameReader reader;
    std::vector<std::string> frames;
    for (const char c : std::string("\0\0one\0two\0th", 12)) {
        reader.append({&c, 1});
        while (std::optional<std::string> frame = reader.next())
            frames.push_back(*frame);
    }
    EXPECT_THAT(frames, ElementsAre("one", "two"));
    reader.clear();
    reader.append(std::string_view("ree\0", 4));
    EXPECT_EQ(reader.next(), "ree");
}

TEST(FrameReader, SkipsAFrameThatIsTooLong) {
    FrameReader reader;
    for (int chunk = 0; chunk < 100; ++chunk) {
        reader.append(std::string(max_frame, 'x'));
        EXPECT_FALSE(reader.next());
    }
    reader.append(std::string_view("tail\0good\0", 10));
    EXPECT_EQ(reader.next(), "good");
    EXPECT_GE(reader.skipped(), 100 * max_frame);
    reader.append(std::string(max_frame + 1, 'y') + '\0' + std::string(max_frame, 'z') + '\0');
    EXPECT_EQ(reader.next(), std::string(max_frame, 'z'));
}

TEST(Sanitised, KeepsTextAndNothingElse) {
    EXPECT_EQ(sanitised("plain Größe 日本"), "plain Größe 日本");
    EXPECT_EQ(sanitised("a\nb\tc\x1b[2J\x7f"), "a?b?c?[2J?");
    EXPECT_EQ(sanitised("\xff\xc3x\xc3"), "??x?");
    EXPECT_EQ(sanitised("\xc0\xaf\xed\xa0\x80"), "?????");
    EXPECT_EQ(sanitised("\xc2\x9b"
                        "31m"),
              "?31m");                              // C1 control sequence introducer
    EXPECT_EQ(sanitised("a\xe2\x80\xaez"), "a?z");  // right-to-left override
    EXPECT_EQ(sanitised("\xe2\x80\x9cquoted\xe2\x80\x9d"), "\xe2\x80\x9cquoted\xe2\x80\x9d");
    EXPECT_EQ(sanitised("ééé", 5), "éé");
    EXPECT_EQ(sanitised(std::string(1000, 'x'), 10).size(), 10U);
}

}  // namespace
}  // namespace banger::guest
