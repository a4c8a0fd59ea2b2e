#include "core/dns/authority.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/dns/dns_message.hpp"

namespace banger::dns {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr unsigned a = 1, ns = 2, soa = 6, txt = 16, aaaa = 28, axfr = 252, any = 255;
constexpr unsigned noerror = 0, formerr = 1, nxdomain = 3, notimp = 4, refused = 5, badvers = 16;

VmName name(std::string_view text) { return VmName::parse(text).value(); }

class AuthorityTest : public ::testing::Test {
protected:
    AuthorityTest() {
        (void)names_.publish({VmId::random(), name("sandbox"), Ipv4Address(0xac100005)});
        (void)names_.publish({VmId::random(), name("ns"), Ipv4Address(0xac100006)});
    }
    /// The short cut and the library have to say the same, whatever is asked.
    Bytes raw_answer(const Bytes& query, Transport transport = Transport::udp,
                     std::size_t room = max_answer) {
        Bytes out(room);
        out.resize(authority_.answer(query, transport, out));
        Bytes again(room);
        again.resize(authority_.answer_by_library(query, transport, again));
        EXPECT_EQ(out, again);
        return out;
    }
    Message ask(const Query& query, Transport transport = Transport::udp) {
        const Bytes bytes = raw_answer(query.bytes(), transport);
        EXPECT_FALSE(bytes.empty()) << "no answer";
        if (bytes.empty()) return {};
        Message message = read_message(bytes);
        EXPECT_EQ(message.id, query.id);
        return message;
    }
    void expect_negative(const Message& message, unsigned code) {
        EXPECT_EQ(message.code(), code);
        EXPECT_TRUE(message.is_authoritative());
        EXPECT_THAT(message.answers, IsEmpty());
        ASSERT_THAT(message.authority, SizeIs(1));
        EXPECT_EQ(message.authority[0].type, soa);
        EXPECT_EQ(message.authority[0].ttl, Authority::negative_ttl);
        const Bytes& data = message.authority[0].data;
        ASSERT_GE(data.size(), 20u);
        EXPECT_EQ(data.back(), Authority::negative_ttl) << "the last of an SOA: negative TTL";
    }

    NameTable names_;
    Authority authority_ = Authority::make("vm", names_).value();
};

TEST_F(AuthorityTest, AnAddress) {
    const Message message = ask({});
    EXPECT_EQ(message.code(), noerror);
    EXPECT_TRUE(message.is_authoritative());
    EXPECT_EQ(message.question, "sandbox.vm");
    ASSERT_THAT(message.answers, SizeIs(1));
    EXPECT_EQ(message.answers[0].name, "sandbox.vm");
    EXPECT_EQ(message.answers[0].type, a);
    EXPECT_GE(message.answers[0].ttl, 1u);
    EXPECT_LE(message.answers[0].ttl, 5u);
    EXPECT_THAT(message.answers[0].data, ElementsAre(172, 16, 0, 5));
    EXPECT_EQ(message.edns(), nullptr);
    EXPECT_EQ(message.flags & 0x0100U, 0x0100U) << "RD comes back";
}

TEST_F(AuthorityTest, TheCaseOfTheQuestionIsKept) {
    const Message message = ask({.name = "SanDboX.vM", .flags = 0});
    EXPECT_EQ(message.question, "SanDboX.vM");
    ASSERT_THAT(message.answers, SizeIs(1));
    EXPECT_EQ(message.answers[0].name, "SanDboX.vM");
    EXPECT_EQ(message.flags & 0x0100U, 0u);
    const Message missing = ask({.name = "GONE.vM"});
    expect_negative(missing, nxdomain);
    EXPECT_EQ(missing.authority[0].name, "vM");
}

TEST_F(AuthorityTest, OtherTypesOfAMachineAreNoData) {
    for (const unsigned type : {aaaa, txt, ns, soa, 65U, 0U, 41U, 65535U})
        expect_negative(ask({.type = type}), noerror);
    EXPECT_THAT(ask({.type = any}).answers, SizeIs(1));
}

TEST_F(AuthorityTest, OtherNamesInTheZoneDoNotExist) {
    for (const char* other : {"gone.vm", "a.sandbox.vm", "1234.sandbox.vm", "sandbox.sandbox.vm",
                              "172.16.0.5.vm", "vm.vm", "*.vm", "_http._tcp.sandbox.vm"})
        expect_negative(ask({.name = other}), nxdomain);
    expect_negative(ask({.name = "gone.vm", .type = aaaa}), nxdomain);
    expect_negative(ask({.name = "gone.vm", .type = any}), nxdomain);
}

TEST_F(AuthorityTest, TheZoneItself) {
    const Message origin = ask({.name = "vm", .type = soa});
    ASSERT_THAT(origin.answers, SizeIs(1));
    EXPECT_EQ(origin.answers[0].type, soa);
    EXPECT_TRUE(origin.is_authoritative());
    const Message servers = ask({.name = "vm", .type = ns});
    ASSERT_THAT(servers.answers, SizeIs(1));
    EXPECT_EQ(servers.answers[0].type, ns);
    expect_negative(ask({.name = "vm", .type = a}), noerror);
    expect_negative(ask({.name = "vm", .type = aaaa}), noerror);
}

TEST_F(AuthorityTest, EverythingElseIsRefused) {
    const auto expect_refused = [&](const Message& message) {
        EXPECT_EQ(message.code(), refused) << message.question;
        EXPECT_FALSE(message.is_authoritative());
        EXPECT_THAT(message.answers, IsEmpty());
        EXPECT_THAT(message.authority, IsEmpty());
    };
    for (const char* outside : {"example.com", "sandbox", "vm.example.com", "xvm", "sandbox.vmx",
                                "5.0.16.172.in-addr.arpa", "", "sandbox.xvm"})
        expect_refused(ask({.name = outside}));
    for (const unsigned klass : {3U, 4U, 254U, 255U})
        expect_refused(ask({.klass = klass}));
    expect_refused(ask({.name = "version.bind", .type = txt, .klass = 3}));
    expect_refused(ask({.name = "vm", .type = axfr}, Transport::tcp));
    expect_refused(ask({.name = "vm", .type = 251}));
}

/// A label may hold any byte: the text of a zone inside one is not the zone.
TEST_F(AuthorityTest, BytesInLabelsAreNotSyntax) {
    Bytes query = Query{.name = ""}.bytes();
    const auto with_name = [&](Bytes wire) {
        Bytes bytes(query.begin(), query.begin() + 12);
        bytes.insert(bytes.end(), wire.begin(), wire.end());
        put16(bytes, a);
        put16(bytes, 1);
        return read_message(raw_answer(bytes));
    };
    // One label "sandbox\2vm" below the root; one label "sandbox.vm" below vm; a NUL in a label.
    EXPECT_EQ(with_name({10, 's', 'a', 'n', 'd', 'b', 'o', 'x', 2, 'v', 'm', 0}).code(), refused);
    EXPECT_EQ(
        with_name({10, 's', 'a', 'n', 'd', 'b', 'o', 'x', '.', 'v', 'm', 2, 'v', 'm', 0}).code(),
        nxdomain);
    EXPECT_EQ(with_name({8, 's', 'a', 'n', 'd', 'b', 'o', 'x', 0, 2, 'v', 'm', 0}).code(),
              nxdomain);
}

TEST_F(AuthorityTest, WhatIsNoQueryGetsNoAnswer) {
    const Bytes good = Query{.edns_size = 1232}.bytes();
    for (std::size_t size = 0; size < good.size(); ++size)
        EXPECT_THAT(raw_answer(Bytes(good.begin(), good.begin() + static_cast<long>(size))),
                    IsEmpty())
            << size;
    EXPECT_THAT(raw_answer(Query{.flags = 0x8180}.bytes()), IsEmpty()) << "a response";
    EXPECT_THAT(raw_answer(Bytes(max_query + 1, 0)), IsEmpty());
}

TEST_F(AuthorityTest, CompressionThatLoops) {
    for (const Bytes& name : {Bytes{0xc0, 12}, Bytes{0xc0, 14, 0xc0, 12}, Bytes{1, 'a', 0xc0, 12},
                              Bytes{0xc0, 0xff}, Bytes{0xff, 0xff}, Bytes{0x40, 'a', 0}}) {
        Bytes query = Query{}.bytes();
        query.resize(12);
        query.insert(query.end(), name.begin(), name.end());
        put16(query, a);
        put16(query, 1);
        EXPECT_THAT(raw_answer(query), IsEmpty());
    }
}

TEST_F(AuthorityTest, NotExactlyOneQuestion) {
    for (const unsigned questions : {0U, 2U, 3U}) {
        const Message message = ask({.questions = questions});
        EXPECT_EQ(message.code(), formerr);
        EXPECT_THAT(message.answers, IsEmpty());
    }
}

TEST_F(AuthorityTest, OtherOpcodes) {
    for (const unsigned opcode : {1U, 2U, 4U, 5U, 6U, 15U}) {
        const Message message = ask({.flags = opcode << 11U});
        EXPECT_EQ(message.code(), notimp);
        EXPECT_EQ(message.flags >> 11U & 0xfU, opcode);
        EXPECT_THAT(message.answers, IsEmpty());
    }
}

TEST_F(AuthorityTest, Edns) {
    const Message message = ask({.edns_size = 4096, .wants_dnssec = true});
    EXPECT_EQ(message.code(), noerror);
    ASSERT_NE(message.edns(), nullptr);
    EXPECT_EQ(message.edns()->klass, max_query) << "what we take ourselves";
    EXPECT_EQ(message.edns()->ttl, 0x8000u) << "version 0, DO as asked";
    EXPECT_EQ(message.edns()->name, "");
    EXPECT_THAT(message.answers, SizeIs(1));
    EXPECT_NE(ask({.edns_size = 0}).edns(), nullptr) << "a size under 512 counts as 512";
    EXPECT_EQ(ask({.edns_size = 0}).code(), noerror);
    EXPECT_EQ(ask({.edns_size = 1232, .edns_version = 1}).code(), badvers);
    EXPECT_THAT(ask({.edns_size = 1232, .edns_version = 1}).answers, IsEmpty());
    EXPECT_EQ(ask({.edns_size = 1232, .edns_count = 2}).code(), formerr);
}

TEST_F(AuthorityTest, WhatDoesNotFitIsTruncated) {
    const Query query{.name = "gone.vm"};
    const std::size_t whole = raw_answer(query.bytes()).size();
    const Bytes cut = raw_answer(query.bytes(), Transport::tcp, whole - 1);
    const Message message = read_message(cut);
    EXPECT_TRUE(message.is_truncated());
    EXPECT_EQ(message.question, "gone.vm");
    EXPECT_THAT(message.authority, IsEmpty());
    EXPECT_THAT(raw_answer(query.bytes(), Transport::tcp, 20), IsEmpty());
}

/// The largest answer there is fits what every resolver takes.
TEST_F(AuthorityTest, LongestZoneAndName) {
    std::string zone = std::string(63, 'z') + "." + std::string(63, 'y') + "." +
                       std::string(63, 'x') + ".vmvmvmvm";
    ASSERT_EQ(zone.size(), 200u);
    Authority authority = Authority::make(zone, names_).value();
    Bytes out(max_answer);
    const Bytes query =
        Query{.name = std::string(52, 'g') + "." + zone, .edns_size = 0, .wants_dnssec = true}
            .bytes();
    out.resize(authority.answer(query, Transport::udp, out));
    const Message message = read_message(out);
    EXPECT_EQ(message.code(), nxdomain);
    EXPECT_FALSE(message.is_truncated());
    EXPECT_THAT(message.authority, SizeIs(1));
}

TEST_F(AuthorityTest, Zones) {
    for (const char* bad : {"", ".", "vm.", ".vm", "v..m", "VM", "v m", "v\n"})
        EXPECT_EQ(Authority::make(bad, names_).error().code, Errc::invalid_argument) << bad;
    EXPECT_FALSE(Authority::make(std::string(64, 'a'), names_));
    EXPECT_FALSE(Authority::make(std::string(63, 'a') + "." + std::string(63, 'a') + "." +
                                     std::string(63, 'a') + "." + std::string(63, 'a'),
                                 names_));
    EXPECT_TRUE(Authority::make("banger.test", names_));
}

TEST_F(AuthorityTest, TheShortCutAgreesWithTheLibrary) {
    for (const char* asked : {"sandbox.vm", "SANDBOX.VM", "gone.vm", "vm", "a.sandbox.vm", "x.org"})
        for (const unsigned type : {a, aaaa, txt, any})
            for (const unsigned flags : {0U, 0x0100U, 0x0130U, 0x0200U, 0x0400U})
                for (const std::optional<unsigned> size :
                     {std::optional<unsigned>(), std::optional(0U), std::optional(4096U)})
                    for (const bool wants_dnssec : {false, true})
                        EXPECT_FALSE(raw_answer(Query{.name = asked,
                                                      .type = type,
                                                      .flags = flags,
                                                      .edns_size = size,
                                                      .wants_dnssec = wants_dnssec}
                                                    .bytes())
                                         .empty());
}

/// Whatever arrives: no crash (the sanitizers see to that), and an answer is a message.
TEST_F(AuthorityTest, TenThousandDamagedQueries) {
    std::minstd_rand random(4711);  // NOLINT: the same every time
    const Bytes good = Query{.edns_size = 1232}.bytes();
    int answered = 0;
    for (int i = 0; i < 10'000; ++i) {
        Bytes bytes = good;
        for (unsigned flips = 1 + random() % 4; flips > 0; --flips)
            bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
        const Bytes out = raw_answer(bytes);
        if (out.empty()) continue;
        ++answered;
        ASSERT_GE(out.size(), 12u);
        EXPECT_EQ(out[0], bytes[0]);
        EXPECT_EQ(out[1], bytes[1]);
        EXPECT_NE(out[2] & 0x80, 0);
    }
    EXPECT_GT(answered, 1000);
    EXPECT_LT(answered, 10'000);
}

}  // namespace
}  // namespace banger::dns
