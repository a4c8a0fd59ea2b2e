#include "core/rpc/packet_channel.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "core/base/file.hpp"

namespace banger::rpc {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

PacketChannel::Deadline soon() { return std::chrono::steady_clock::now() + 20s; }
PacketChannel::Deadline at_once() { return std::chrono::steady_clock::now() + 10ms; }

/// Sends without PacketChannel's own checks.
ssize_t send_raw(const PacketChannel& channel, std::string_view text, std::span<const int> fds) {
    std::string bytes(text);
    iovec part{bytes.data(), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(64 * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
    }
    return ::sendmsg(channel.socket().get(), &message, MSG_NOSIGNAL);
}

class PacketChannelTest : public testing::Test {
protected:
    void SetUp() override {
        Result<std::pair<PacketChannel, PacketChannel>> ends = PacketChannel::pair();
        ASSERT_TRUE(ends);
        ours_.emplace(std::move(ends->first));
        theirs_.emplace(std::move(ends->second));
        open_before_ = open_descriptors();
    }
    static std::size_t open_descriptors() { return list_folder("/proc/self/fd").value().size(); }

    std::optional<PacketChannel> ours_;
    std::optional<PacketChannel> theirs_;
    std::size_t open_before_ = 0;
};

TEST_F(PacketChannelTest, TextAndDescriptorsArriveTogether) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const int sent[] = {writer.get(), reader.get(), writer.get(), reader.get()};
    ASSERT_TRUE(ours_->send("{\"a\":1}", sent, soon()));
    ASSERT_TRUE(ours_->send("second", {}, soon()));
    const Result<Packet> packet = theirs_->receive(soon(), {});
    ASSERT_TRUE(packet) << packet.error().text();
    EXPECT_EQ(packet->text, "{\"a\":1}");
    ASSERT_EQ(packet->descriptors.size(), 4U);
    for (const UniqueFd& each : packet->descriptors)
        EXPECT_NE(::fcntl(each.get(), F_GETFD) & FD_CLOEXEC, 0);
    ASSERT_EQ(::write(packet->descriptors[0].get(), "x", 1), 1);
    char c = 0;
    EXPECT_EQ(::read(reader.get(), &c, 1), 1);
    const Result<Packet> second = theirs_->receive(soon(), {});
    ASSERT_TRUE(second);
    EXPECT_EQ(second->text, "second");
    EXPECT_TRUE(second->descriptors.empty());
}

TEST_F(PacketChannelTest, TheLargestPacketPasses) {
    const std::string text(max_packet_bytes, 'x');
    ASSERT_TRUE(ours_->send(text, {}, soon()));
    const Result<Packet> packet = theirs_->receive(soon(), {});
    ASSERT_TRUE(packet) << packet.error().text();
    EXPECT_EQ(packet->text, text);
}

TEST_F(PacketChannelTest, WhatIsOverTheLimitsIsNotSent) {
    const int five[] = {0, 0, 0, 0, 0};
    EXPECT_EQ(ours_->send("x", five, soon()).error().code, Errc::invalid_argument);
    EXPECT_EQ(ours_->send("", {}, soon()).error().code, Errc::invalid_argument);
    EXPECT_EQ(ours_->send(std::string(max_packet_bytes + 1, 'x'), {}, soon()).error().code,
              Errc::invalid_argument);
}

TEST_F(PacketChannelTest, TooManyDescriptorsAreRefusedAndClosed) {
    std::vector<int> fds(5, STDERR_FILENO);
    for (const std::size_t count : {5U, 6U, 40U}) {
        fds.resize(count, STDERR_FILENO);
        ASSERT_GT(send_raw(*ours_, "x", fds), 0);
        const Result<Packet> packet = theirs_->receive(soon(), {});
        ASSERT_FALSE(packet);
        EXPECT_EQ(packet.error().code, Errc::corrupt);
        EXPECT_THAT(packet.error().message, HasSubstr("more than 4 descriptors"));
        EXPECT_EQ(open_descriptors(), open_before_);
    }
}

TEST_F(PacketChannelTest, APacketThatIsTooLongIsRefusedAndItsDescriptorsClosed) {
    const int fds[] = {STDERR_FILENO, STDERR_FILENO};
    ASSERT_GT(send_raw(*ours_, std::string(max_packet_bytes + 1, 'x'), fds), 0);
    const Result<Packet> packet = theirs_->receive(soon(), {});
    ASSERT_FALSE(packet);
    EXPECT_EQ(packet.error().code, Errc::corrupt);
    EXPECT_THAT(packet.error().message, HasSubstr("longer than"));
    EXPECT_EQ(open_descriptors(), open_before_);
}

TEST_F(PacketChannelTest, OtherAncillaryDataIsRefused) {
    const int on = 1;
    ASSERT_EQ(::setsockopt(theirs_->socket().get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    const int fds[] = {STDERR_FILENO};
    ASSERT_GT(send_raw(*ours_, "x", fds), 0);
    const Result<Packet> packet = theirs_->receive(soon(), {});
    ASSERT_FALSE(packet);
    EXPECT_EQ(packet.error().code, Errc::corrupt);
    EXPECT_EQ(open_descriptors(), open_before_);
}

TEST_F(PacketChannelTest, AnEmptyPacketIsTheEnd) {
    const int fds[] = {STDERR_FILENO};
    ASSERT_EQ(send_raw(*ours_, "", fds), 0);
    EXPECT_EQ(theirs_->receive(soon(), {}).error().code, Errc::unavailable);
    EXPECT_EQ(open_descriptors(), open_before_);
}

TEST_F(PacketChannelTest, APeerThatHasGoneIsUnavailable) {
    ASSERT_TRUE(ours_->send("last", {}, soon()));
    ours_.reset();
    EXPECT_TRUE(theirs_->receive(soon(), {}));
    EXPECT_EQ(theirs_->receive(soon(), {}).error().code, Errc::unavailable);
    EXPECT_EQ(theirs_->send("x", {}, soon()).error().code, Errc::unavailable);
}

TEST_F(PacketChannelTest, WaitingEnds) {
    EXPECT_EQ(theirs_->receive(at_once(), {}).error().code, Errc::timed_out);
    Result<void> sent;
    while (sent)
        sent = ours_->send(std::string(max_packet_bytes, 'x'), {}, at_once());
    EXPECT_EQ(sent.error().code, Errc::timed_out);
}

TEST_F(PacketChannelTest, AStopTokenEndsTheWait) {
    std::stop_source source;
    std::thread stopper([&] { source.request_stop(); });
    const Result<Packet> packet = theirs_->receive(soon(), source.get_token());
    stopper.join();
    ASSERT_FALSE(packet);
    EXPECT_EQ(packet.error().code, Errc::cancelled);
}

}  // namespace
}  // namespace banger::rpc
