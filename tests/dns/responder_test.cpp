#include "core/dns/responder.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <thread>

#include "banger/unique_fd.hpp"
#include "core/dns/authority.hpp"
#include "core/dns/probe.hpp"
#include "tests/dns/dns_message.hpp"

namespace banger::dns {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr Ipv4Address loopback(0x7f000001);

class ResponderTest : public ::testing::Test {
protected:
    ResponderTest() {
        (void)names_.publish(
            {VmId::random(), VmName::parse("sandbox").value(), Ipv4Address(0xac100005)});
    }
    ~ResponderTest() override {
        boost::asio::post(io_, [&] {
            responder_.reset();
            io_.stop();
        });
        if (thread_.joinable()) thread_.join();
    }
    void start(ResponderLimits limits = {}) {
        Result<std::unique_ptr<Responder>> responder =
            Responder::open(io_, {"vm", loopback, 0}, names_, limits);
        ASSERT_TRUE(responder) << responder.error().text();
        responder_ = std::move(*responder);
        where_ = responder_->where();
        ASSERT_NE(where_.port, 0);
        thread_ = std::thread([&] {
            const auto work = boost::asio::make_work_guard(io_);
            io_.run();
        });
    }
    ResponderCounts counts() {
        std::promise<ResponderCounts> result;
        boost::asio::post(io_, [&] { result.set_value(responder_->counts()); });
        return result.get_future().get();
    }
    /// Connected to the responder; a read that would take long fails.
    UniqueFd connect(int type) {
        UniqueFd socket(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
        const timeval patience{20, 0};
        ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        sockaddr_in server{};
        server.sin_family = AF_INET;
        server.sin_port = htons(where_.port);
        server.sin_addr.s_addr = htonl(where_.server.bits());
        EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&server), sizeof server), 0);
        return socket;
    }
    static void send(const UniqueFd& socket, const Bytes& bytes) {
        EXPECT_EQ(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(bytes.size()));
    }
    static Bytes framed(const Bytes& message) {
        Bytes bytes;
        put16(bytes, static_cast<unsigned>(message.size()));
        bytes.insert(bytes.end(), message.begin(), message.end());
        return bytes;
    }
    static Bytes receive(const UniqueFd& socket, std::size_t size, int flags) {
        Bytes bytes(size);
        const ssize_t got = ::recv(socket.get(), bytes.data(), size, flags);
        bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
        return bytes;
    }
    static Message receive_framed(const UniqueFd& socket) {
        const Bytes length = receive(socket, 2, MSG_WAITALL);
        if (length.size() != 2) {
            ADD_FAILURE() << "the connection ended";
            return {};
        }
        return read_message(receive(socket, std::size_t{length[0]} << 8U | length[1], MSG_WAITALL));
    }
    static bool is_closed(const UniqueFd& socket) {
        char byte = 0;
        const ssize_t got = ::recv(socket.get(), &byte, 1, 0);
        return got == 0 || (got < 0 && errno == ECONNRESET);
    }

    NameTable names_;
    boost::asio::io_context io_{1};
    std::unique_ptr<Responder> responder_;
    DnsZone where_;
    std::thread thread_;
};

TEST_F(ResponderTest, Datagrams) {
    start();
    const UniqueFd socket = connect(SOCK_DGRAM);
    for (unsigned id = 1; id <= 200; ++id) {
        send(socket, Query{.id = id}.bytes());
        const Message message = read_message(receive(socket, 2000, 0));
        EXPECT_EQ(message.id, id);
        EXPECT_THAT(message.answers, SizeIs(1));
    }
    EXPECT_EQ(counts().answered, 200u);
}

TEST_F(ResponderTest, HostileDatagramsAreDroppedAndTheNextIsAnswered) {
    start();
    const UniqueFd socket = connect(SOCK_DGRAM);
    send(socket, {});
    send(socket, {1, 2, 3});
    send(socket, Bytes(60'000, 0xff));
    send(socket, Query{.flags = 0x8000}.bytes());
    send(socket, Query{.id = 77}.bytes());
    EXPECT_EQ(read_message(receive(socket, 2000, 0)).id, 77u) << "the first answer is the last's";
    EXPECT_EQ(counts().dropped, 4u);
}

TEST_F(ResponderTest, ANameThatComesAndGoes) {
    start();
    const UniqueFd socket = connect(SOCK_DGRAM);
    const DnsRecord record{VmId::random(), VmName::parse("late").value(), Ipv4Address(5)};
    const auto code = [&] {
        send(socket, Query{.name = "late.vm"}.bytes());
        return read_message(receive(socket, 2000, 0)).code();
    };
    EXPECT_EQ(code(), 3u);
    ASSERT_TRUE(names_.publish(record));
    EXPECT_EQ(code(), 0u);
    names_.withdraw(record.vm);
    EXPECT_EQ(code(), 3u);
}

TEST_F(ResponderTest, ManyQueriesOnOneConnection) {
    start();
    const UniqueFd socket = connect(SOCK_STREAM);
    Bytes all;
    for (unsigned id = 1; id <= 300; ++id) {
        const Bytes one = framed(Query{.id = id}.bytes());
        all.insert(all.end(), one.begin(), one.end());
    }
    std::thread writer([&] { send(socket, all); });
    for (unsigned id = 1; id <= 300; ++id)
        ASSERT_EQ(receive_framed(socket).id, id) << "in order";
    writer.join();
}

TEST_F(ResponderTest, OneByteAtATimeAndAHalfClose) {
    start();
    const UniqueFd socket = connect(SOCK_STREAM);
    for (const std::uint8_t byte : framed(Query{}.bytes()))
        send(socket, {byte});
    ::shutdown(socket.get(), SHUT_WR);
    EXPECT_THAT(receive_framed(socket).answers, SizeIs(1));
    EXPECT_TRUE(is_closed(socket));
}

TEST_F(ResponderTest, WhatIsNoQueryEndsTheConnection) {
    start();
    for (const Bytes& bytes : {Bytes{0, 0}, Bytes{0xff, 0xff}, framed({1, 2, 3}),
                               framed(Query{.flags = 0x8000}.bytes())}) {
        const UniqueFd socket = connect(SOCK_STREAM);
        send(socket, bytes);
        EXPECT_TRUE(is_closed(socket));
    }
    EXPECT_EQ(counts().connections, 0u);
}

TEST_F(ResponderTest, AConnectionThatDawdlesIsClosed) {
    start({.connections = 4, .patience = 50ms});
    const UniqueFd silent = connect(SOCK_STREAM);
    const UniqueFd half = connect(SOCK_STREAM);
    send(half, {0, 30, 1, 2});
    EXPECT_TRUE(is_closed(silent));
    EXPECT_TRUE(is_closed(half));
}

TEST_F(ResponderTest, ANewConnectionTakesThePlaceOfTheOldest) {
    start({.connections = 2, .patience = 60s});
    const UniqueFd first = connect(SOCK_STREAM);
    const UniqueFd second = connect(SOCK_STREAM);
    const UniqueFd third = connect(SOCK_STREAM);
    EXPECT_TRUE(is_closed(first));
    for (const UniqueFd* socket : {&second, &third}) {
        send(*socket, framed(Query{}.bytes()));
        EXPECT_THAT(receive_framed(*socket).answers, SizeIs(1));
    }
    EXPECT_EQ(counts().connections, 2u);
}

TEST_F(ResponderTest, APortThatIsTaken) {
    start();
    NameTable names;
    boost::asio::io_context io;
    const auto second = Responder::open(io, where_, names);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Errc::in_use);
    EXPECT_THAT(second.error().message, HasSubstr("port " + std::to_string(where_.port)));
    EXPECT_THAT(second.error().remedy, HasSubstr("dns_port"));
}

TEST_F(ResponderTest, ARestartGetsItsPortBackAtOnce) {
    start();
    {
        const UniqueFd socket = connect(SOCK_STREAM);
        send(socket, framed(Query{}.bytes()));
        receive_framed(socket);
        std::promise<void> closed;
        boost::asio::post(io_, [&] {
            responder_.reset();  // closes first: the connection lingers on our side
            closed.set_value();
        });
        closed.get_future().wait();
        EXPECT_TRUE(is_closed(socket));
    }
    boost::asio::io_context io;
    const auto again = Responder::open(io, where_, names_);
    EXPECT_TRUE(again) << again.error().text();
}

TEST_F(ResponderTest, OnlyLoopback) {
    for (const std::uint32_t address : {0U, 0x08080808U, 0x0a000001U}) {
        const auto other = Responder::open(io_, {"vm", Ipv4Address(address), 0}, names_);
        ASSERT_FALSE(other);
        EXPECT_EQ(other.error().code, Errc::invalid_argument);
    }
}

TEST_F(ResponderTest, TheProbeAsksTheResponderAndLeavesNothing) {
    start();
    const std::vector<Check> rows = check_resolution(where_, names_, false, {});
    ASSERT_THAT(rows, SizeIs(2));
    EXPECT_EQ(rows[0].status, CheckStatus::pass) << rows[0].detail;
    EXPECT_EQ(rows[1].status, CheckStatus::warn) << "nothing leads this host's resolver here";
    EXPECT_FALSE(rows[1].remedy.empty());
    EXPECT_EQ(names_.size(), 1u);
}

TEST_F(ResponderTest, TheProbeFindsThatNobodyAnswers) {
    start();
    std::promise<void> closed;
    boost::asio::post(io_, [&] {
        responder_.reset();
        closed.set_value();
    });
    closed.get_future().wait();
    const std::vector<Check> rows = check_resolution(where_, names_, true, {});
    ASSERT_THAT(rows, SizeIs(2));
    EXPECT_EQ(rows[0].status, CheckStatus::fail);
}

}  // namespace
}  // namespace banger::dns
