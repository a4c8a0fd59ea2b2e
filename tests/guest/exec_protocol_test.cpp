#include "core/guest/exec_protocol.hpp"

#include <gtest/gtest.h>

#include "core/guest/agent_protocol.hpp"

namespace banger::guest {
namespace {

TEST(SessionFrames, AnyBytesGoThroughWithoutANul) {
    std::vector<std::string> payloads = {"", "text", std::string(1, '\0'), std::string(3, '\0')};
    for (const std::size_t size : {253, 254, 255, 508, 509, 1000, 32768})
        for (const char fill : {'\0', 'x', '\1', '\xff'})
            payloads.emplace_back(size, fill);
    std::string mixed;
    for (std::size_t at = 0; at < max_exec_data; ++at)
        mixed += static_cast<char>(at * at >> 3);
    payloads.push_back(mixed);
    for (const std::string& payload : payloads) {
        const std::string frame =
            encode_session_frame(0xff00000000000001, ExecKind::output, payload);
        ASSERT_EQ(frame.find('\0'), frame.size() - 1);
        ASSERT_LE(frame.size() - 1, max_frame);
        const std::string_view bare = std::string_view(frame).substr(0, frame.size() - 1);
        ASSERT_TRUE(is_session_frame(bare));
        const Result<SessionFrame> back = decode_session_frame(bare);
        ASSERT_TRUE(back) << payload.size();
        EXPECT_EQ(*back, (SessionFrame{0xff00000000000001, {ExecKind::output, payload}}));
    }
}

TEST(SessionFrames, WhatIsNoneIsCorrupt) {
    for (const std::string_view text : {"", "{}", "\1", "\1\1", "\1\5ab", "\1\2a", "\1\xff"})
        EXPECT_EQ(decode_session_frame(text).error().code, Errc::corrupt) << text;
    std::string odd = encode_session_frame(1, ExecKind::signal, "\x0f");
    odd.pop_back();
    odd.back() = '\1';
    EXPECT_TRUE(decode_session_frame(odd));
    odd[odd.size() - 2] = '\x7f';  // no such kind
    EXPECT_FALSE(decode_session_frame(odd));
}

TEST(ExecRequests, GoThroughWhole) {
    const ExecRequest request{.words = {"printf", "a b", "", "é"},
                              .environment = {"A=1", "B=x=y"},
                              .folder = "/srv",
                              .makes_folder = true,
                              .user = "1000:50",
                              .terminal = TerminalSize{50, 300},
                              .stream = ~std::uint64_t{0}};
    std::string frame = encode_exec(7, request).value();
    ASSERT_EQ(frame.back(), '\0');
    frame.pop_back();
    const AgentRequest seen = decode_request(frame).value();
    EXPECT_EQ(seen.id, 7U);
    EXPECT_EQ(seen.method, "Exec");
    EXPECT_EQ(decode_exec(seen.parameters).value(), request);
    EXPECT_EQ(decode_exec("{}").error().code, Errc::corrupt);
    EXPECT_EQ(decode_started(R"({"window": 4096, "new": 1})").value(), 4096U);
    EXPECT_EQ(decode_started(R"({"window": 99999999999})").error().code, Errc::corrupt);
}

TEST(ExecRequests, WhatCannotGoThroughIsRefusedHere) {
    ExecRequest request;
    request.words = {"sh", "-c", std::string("a\0b", 3)};
    EXPECT_EQ(encode_exec(1, request).error().code, Errc::invalid_argument);
    request.words = {"\xff"};
    EXPECT_EQ(encode_exec(1, request).error().code, Errc::invalid_argument);
    request.words = {std::string(max_frame, 'x')};
    EXPECT_EQ(encode_exec(1, request).error().code, Errc::invalid_argument);
}

}  // namespace
}  // namespace banger::guest
