#include "plugins/vmm-qemu/qmp.hpp"

#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "banger/contract/subject.hpp"
#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::qemu {
namespace {

using namespace std::chrono_literals;
using contract::failed_with;
using contract::succeeded;

TEST(ParseQmp, TheFourKinds) {
    const auto kind = [](const char* line) { return parse_qmp(line)->kind; };
    EXPECT_EQ(kind(R"({"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}})"),
              QmpMessage::Kind::greeting);
    EXPECT_EQ(kind(R"({"return": {}})"), QmpMessage::Kind::reply);
    EXPECT_EQ(parse_qmp(R"({"return": [1]})")->text, "[1]");
    const Result<QmpMessage> event =
        parse_qmp(R"({"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"})");
    EXPECT_EQ(event->kind, QmpMessage::Kind::event);
    EXPECT_EQ(event->name, "RESUME");
    const Result<QmpMessage> failure =
        parse_qmp(R"({"error": {"class": "GenericError", "desc": "no"}})");
    EXPECT_EQ(failure->kind, QmpMessage::Kind::failure);
    EXPECT_EQ(failure->text, "no");
}

TEST(ParseQmp, HostileLinesAreCorrupt) {
    for (const std::string& line : std::vector<std::string>{
             "",
             " ",
             "null",
             "[]",
             "1",
             "\"x\"",
             "{",
             "}",
             "{}",
             R"({"return")",
             R"({"event": 1})",
             R"({"QMP": 1})",
             R"({"error": "x"})",
             R"({"event": ""})",
             "\xff\xfe",
             "{\"a\":1}{\"b\":2}",
             std::string(1, '\0'),
             R"({"return": 1e99999})",
             "{\"return\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}",
             "{\"return\": " + std::string(20, '[') + std::string(20, ']') + "}",
             "{\"return\": \"" + std::string(70'000, 'x') + "\"}"})
        EXPECT_TRUE(failed_with(parse_qmp(line), Errc::corrupt)) << line.substr(0, 60);
    // Brackets inside a string are no nesting; bytes that are no UTF-8 do not get out.
    EXPECT_TRUE(succeeded(parse_qmp(R"({"return": "[[[[[[[[[[[[[[[[[[[[[[[[\"[[["})")));
}

TEST(Answers, AreReadStrictly) {
    EXPECT_TRUE(*is_guest_running(R"({"status":"running","singlestep":false,"running":true})"));
    EXPECT_FALSE(*is_guest_running(R"({"status":"paused","running":false})"));
    for (const char* text : {"", "{}", "[]", R"({"running":"yes"})"})
        EXPECT_TRUE(failed_with(is_guest_running(text), Errc::corrupt)) << text;
    const char* const devices =
        R"([{"label":"agent","filename":"disconnected:unix:/a,server=on"},
            {"label":"qmp","filename":"unix:/b,server=on"}])";
    EXPECT_FALSE(*is_chardev_connected(devices, "agent"));
    EXPECT_TRUE(*is_chardev_connected(devices, "qmp"));
    for (const char* text : {"", "{}", "[]", "[1]", R"([{"label":1}])"})
        EXPECT_TRUE(failed_with(is_chardev_connected(text, "agent"), Errc::corrupt)) << text;
}

/// Something that listens where QEMU should, says `words` and does `then`.
class FalseQemu {
public:
    FalseQemu(std::string words, std::function<void(int)> then) {
        Result<UniqueFd> listener = listen_unix(path);
        EXPECT_TRUE(succeeded(listener));
        listener_ = *std::move(listener);
        thread_ = std::jthread([this, words, then] {
            const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            ::send(client.get(), words.data(), words.size(), MSG_NOSIGNAL);
            if (then) then(client.get());
        });
    }
    TempFolder folder_;
    std::string path = folder_ / "qmp";

private:
    UniqueFd listener_;
    std::jthread thread_;
};

/// Two requests may come in one piece.
void read_lines(int fd, int wanted) {
    char c = 0;
    while (wanted > 0 && ::recv(fd, &c, 1, 0) == 1)
        if (c == '\n') --wanted;
    EXPECT_EQ(wanted, 0);
}

void read_until_closed(int fd) {
    char buffer[256];
    while (::recv(fd, buffer, sizeof buffer, 0) > 0) {
    }
}

constexpr char greeting[] = "{\"QMP\": {}}\r\n";

TEST(Qmp, NobodyThereIsNotFound) {
    const TempFolder folder;
    EXPECT_TRUE(failed_with(Qmp::connect(folder / "qmp", 1s, {}), Errc::not_found));
    ASSERT_TRUE(listen_unix(folder / "qmp"));  // and closed again: a file without a listener
    EXPECT_TRUE(failed_with(Qmp::connect(folder / "qmp", 1s, {}), Errc::not_found));
    EXPECT_TRUE(
        failed_with(Qmp::connect("/" + std::string(200, 'x'), 1s, {}), Errc::invalid_argument));
}

TEST(Qmp, SilenceIsTimedOutAndCanBeCancelled) {
    FalseQemu silent("", read_until_closed);
    EXPECT_TRUE(failed_with(Qmp::connect(silent.path, 10ms, {}), Errc::timed_out));
    FalseQemu again("", read_until_closed);
    EXPECT_TRUE(
        failed_with(Qmp::connect(again.path, 60s, contract::already_stopped()), Errc::cancelled));
}

TEST(Qmp, WordsThatAreNoQmpAreCorrupt) {
    for (const std::string& words : std::vector<std::string>{
             "SSH-2.0-OpenSSH\r\n", "{\"return\": {}}\r\n", "\r\n",
             std::string(max_qmp_line + 5000, 'x'), std::string(greeting) + greeting}) {
        FalseQemu other(words, read_until_closed);
        EXPECT_TRUE(failed_with(Qmp::connect(other.path, 30s, {}), Errc::corrupt))
            << words.substr(0, 30);
    }
}

TEST(Qmp, EventsWithoutEndAreCorrupt) {
    std::string words = greeting;
    for (int i = 0; i < 1001; ++i)
        words += "{\"event\": \"X\"}\r\n";
    FalseQemu chatty(words, read_until_closed);
    EXPECT_TRUE(failed_with(Qmp::connect(chatty.path, 30s, {}), Errc::corrupt));
}

TEST(Qmp, AnAnswerInPiecesAmongEventsIsFound) {
    FalseQemu slow(std::string(greeting) + "{\"return\": {}}\r\n", [](int fd) {
        read_lines(fd, 2);  // qmp_capabilities, the command
        for (const std::string piece :
             {"{\"event\": \"STOP\"}\r\n{\"ret", "urn\": {\"a\"", ": 1}}\r\n"})
            EXPECT_GT(::send(fd, piece.data(), piece.size(), MSG_NOSIGNAL), 0);
        read_until_closed(fd);
    });
    Result<Qmp> qmp = Qmp::connect(slow.path, 30s, {});
    ASSERT_TRUE(succeeded(qmp));
    const Result<std::string> answer = qmp->execute("stop", {});
    ASSERT_TRUE(succeeded(answer));
    EXPECT_EQ(*answer, "{\"a\":1}");
}

TEST(Qmp, ARefusalCarriesQemusWordsAndAnEndIsSeen) {
    FalseQemu refusing(std::string(greeting) + "{\"return\": {}}\r\n", [](int fd) {
        read_lines(fd, 2);
        const std::string_view words = "{\"error\": {\"class\": \"E\", \"desc\": \"not now\"}}\r\n";
        EXPECT_GT(::send(fd, words.data(), words.size(), MSG_NOSIGNAL), 0);
    });
    Result<Qmp> qmp = Qmp::connect(refusing.path, 30s, {});
    ASSERT_TRUE(succeeded(qmp));
    const Result<std::string> answer = qmp->execute("cont", {});
    EXPECT_TRUE(failed_with(answer, Errc::wrong_state));
    EXPECT_THAT(answer.error().message, testing::HasSubstr("not now"));
    EXPECT_TRUE(*qmp->wait_for_close({}));
    EXPECT_TRUE(failed_with(qmp->execute("cont", {}), Errc::unreachable));
}

}  // namespace
}  // namespace banger::qemu
