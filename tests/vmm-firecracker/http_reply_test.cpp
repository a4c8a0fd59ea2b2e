#include "plugins/vmm-firecracker/http_reply.hpp"

#include <gmock/gmock.h>

#include "banger/contract/subject.hpp"
#include "plugins/vmm-firecracker/api.hpp"

namespace banger::firecracker {
namespace {

using contract::failed_with;

Result<HttpReply> read(std::string_view text) {
    HttpReplyReader reader;
    const Result<bool> done = reader.feed(text);
    if (!done) return done.error();
    if (!*done) return Error(Errc::unreachable, "more is needed");
    return reader.reply();
}

TEST(HttpReply, WithAndWithoutContent) {
    EXPECT_EQ(*read("HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"),
              (HttpReply{204, ""}));
    EXPECT_EQ(*read("HTTP/1.1 200 OK\r\ncontent-LENGTH:  2 \r\n\r\n{}"), (HttpReply{200, "{}"}));
    EXPECT_EQ(*read("HTTP/1.1 400\r\n\r\n"), (HttpReply{400, ""}));
}

TEST(HttpReply, InPiecesItIsTheSame) {
    const std::string text = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"a\":\"b\\n\"}";
    HttpReplyReader reader;
    for (std::size_t i = 0; i + 1 < text.size(); ++i)
        ASSERT_FALSE(*reader.feed(text.substr(i, 1))) << i;
    ASSERT_TRUE(*reader.feed(text.substr(text.size() - 1)));
    EXPECT_EQ(reader.reply().body, "{\"a\":\"b\\n\"}");
}

TEST(HttpReply, AnythingElseIsCorrupt) {
    const std::string ok = "HTTP/1.1 200 OK\r\n";
    for (const std::string& text :
         std::vector<std::string>{"SSH-2.0-OpenSSH\r\n\r\n",
                                  "\r\n\r\n",
                                  "HTTP/2 200\r\n\r\n",
                                  "HTTP/1.1 20\r\n\r\n",
                                  "HTTP/1.1 2000 OK\r\n\r\n",
                                  "HTTP/1.1 100 Continue\r\n\r\n",
                                  "HTTP/1.1 -20 OK\r\n\r\n",
                                  ok + "no colon\r\n\r\n",
                                  ok + ": nothing\r\n\r\n",
                                  ok + "Content-Length: -1\r\n\r\n",
                                  ok + "Content-Length: 1x\r\n\r\n",
                                  ok + "Content-Length: \r\n\r\n",
                                  ok + "Content-Length: 99999999999999999999\r\n\r\n",
                                  ok + "Content-Length: 65537\r\n\r\n",
                                  ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
                                  ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                                  ok + "a: b\nc: d\r\n\r\n",
                                  ok + std::string("a: \0\r\n\r\n", 9),
                                  ok + "\r\nmore than announced",
                                  ok + "Content-Length: 1\r\n\r\nxy",
                                  "HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\nx",
                                  ok + "a: " + std::string(9000, 'x'),
                                  ok + "a: " + std::string(9000, 'x') + "\r\n\r\n"})
        EXPECT_TRUE(failed_with(read(text), Errc::corrupt)) << text.substr(0, 60);
}

TEST(Api, RequestsAreThese) {
    EXPECT_EQ(format_request("GET", "/", ""),
              "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n");
    EXPECT_EQ(format_request("PATCH", "/vm", R"({"state":"Paused"})"),
              "PATCH /vm HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
              "Content-Type: application/json\r\nContent-Length: 18\r\n\r\n{\"state\":\"Paused\"}");
}

TEST(Api, StatesAreReadStrictly) {
    EXPECT_EQ(parse_instance_info(R"({"id":"a","state":"Not started","app_name":"F"})")->state,
              InstanceState::not_started);
    EXPECT_EQ(parse_instance_info(R"({"state":"Running"})")->state, InstanceState::running);
    EXPECT_EQ(parse_instance_info(R"({"state":"Paused","vmm_version":"1.12.1"})")->state,
              InstanceState::paused);
    for (const std::string& text : std::vector<std::string>{
             "", "{}", "[]", "\"Running\"", R"({"state":1})", R"({"state":"running"})",
             R"({"state":"Running"}x)",
             R"({"state":"Running","a":)" + std::string(50, '[') + std::string(50, ']') + "}",
             std::string(60'000, '[')})
        EXPECT_TRUE(failed_with(parse_instance_info(text), Errc::corrupt)) << text.substr(0, 60);
}

TEST(Api, ARefusalsWordsArePrintableAndShort) {
    EXPECT_EQ(fault_message("{\"fault_message\":\"no\\nway\\u001b[2J\"}"), "no way [2J");
    EXPECT_EQ(fault_message("{\"fault_message\":\"" + std::string(5000, 'x') + "\"}").size(), 500u);
    for (const char* text : {"", "{}", "[1]", R"({"fault_message":1})", R"({"fault_message":""})"})
        EXPECT_EQ(fault_message(text), "it gave no reason") << text;
}

}  // namespace
}  // namespace banger::firecracker
