#include "core/guest/identity.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace banger::guest {
namespace {

using ::testing::HasSubstr;

GuestIdentity full_identity() {
    return {.vm = *VmId::parse("0123456789ab"),
            .name = *VmName::parse("sandbox"),
            .machine_id = "00112233445546778899aabbccddeeff",
            .network = GuestNetwork{*MacAddress::parse("02:1a:2b:3c:4d:5e"),
                                    *Ipv4Prefix::parse("10.0.2.15/24"),
                                    *Ipv4Address::parse("10.0.2.2"),
                                    {*Ipv4Address::parse("10.0.2.3")}},
            .authorized_keys = {"ssh-ed25519 AAAA owner"},
            .ssh_host_key = SshHostKey{"private\n", "ssh-ed25519 BBBB sandbox"},
            .files = {{"/root/.netrc", 0600, 0, 0, std::string("\0binary\n", 8)},
                      {"/etc/motd", 0644, 1, 2, ""},
                      {"/root/.ssh", 0700, 0, 0, "", true}},
            .git = GitIdentity{"Ann \"A\" Other", "ann@example.org"},
            .grow_disks = true};
}

GuestIdentity small_identity() {
    return {.vm = *VmId::parse("0123456789ab"),
            .name = *VmName::parse("a"),
            .machine_id = "00112233445546778899aabbccddeeff",
            .network = std::nullopt,
            .authorized_keys = {},
            .ssh_host_key = std::nullopt,
            .files = {},
            .git = std::nullopt,
            .grow_disks = false};
}

Result<GuestIdentity> decode(const std::vector<ArchiveMember>& members) {
    std::map<std::string, std::string, std::less<>> by_path;
    for (const ArchiveMember& member : members)
        by_path[member.path] = member.content;
    return decode_identity(by_path.at(std::string(identity_path)),
                           [&](std::string_view path) -> Result<std::string> {
                               const auto found = by_path.find(path);
                               if (found == by_path.end()) return Error(Errc::not_found, "none");
                               return found->second;
                           });
}

Result<GuestIdentity> decode_text(std::string_view text) {
    return decode_identity(text,
                           [](std::string_view) -> Result<std::string> { return std::string(); });
}

/// The small one as text, with one replacement.
std::string small_text_with(const std::string& what, const std::string& instead) {
    std::string text = encode_identity(small_identity())->front().content;
    const std::size_t at = text.find(what);
    EXPECT_NE(at, std::string::npos) << text;
    return text.replace(at, what.size(), instead);
}

TEST(GuestIdentity, ComesBackAsItWas) {
    for (const GuestIdentity& identity : {full_identity(), small_identity()}) {
        const Result<std::vector<ArchiveMember>> members = encode_identity(identity);
        ASSERT_TRUE(members);
        const Result<GuestIdentity> decoded = decode(*members);
        ASSERT_TRUE(decoded) << decoded.error().text();
        EXPECT_EQ(*decoded, identity);
    }
}

TEST(GuestIdentity, HasThisSpelling) {
    const Result<std::vector<ArchiveMember>> members = encode_identity(full_identity());
    ASSERT_TRUE(members);
    ASSERT_EQ(members->size(), 3U);
    EXPECT_EQ(
        (*members)[0].content,
        R"({"authorized_keys":["ssh-ed25519 AAAA owner"],"files":[{"gid":0,"member":"banger/files/0",)"
        R"("mode":384,"path":"/root/.netrc","uid":0},{"gid":2,"member":"banger/files/1","mode":420,)"
        R"("path":"/etc/motd","uid":1},{"gid":0,"mode":448,"path":"/root/.ssh","uid":0}],"git":{"email":"ann@example.org","name":"Ann \"A\" Other"},)"
        R"("grow_disks":true,"machine_id":"00112233445546778899aabbccddeeff","name":"sandbox",)"
        R"("network":{"address":"10.0.2.15/24","gateway":"10.0.2.2","mac":"02:1a:2b:3c:4d:5e",)"
        R"("name_servers":["10.0.2.3"]},"ssh_host_key":{"private_key":"private\n",)"
        R"("public_key":"ssh-ed25519 BBBB sandbox"},"vm":"0123456789ab"})");
    EXPECT_EQ((*members)[1].path, "banger/files/0");
    EXPECT_EQ((*members)[1].content, full_identity().files[0].content);
}

TEST(GuestIdentity, RefusesWhatDoesNotBelongIntoAMachine) {
    const auto error_of = [](auto change) {
        GuestIdentity identity = full_identity();
        change(identity);
        const Result<std::vector<ArchiveMember>> members = encode_identity(identity);
        return members ? Errc::internal : members.error().code;
    };
    for (const char* path : {"", "/", "etc/motd", "/a/../b", "/a//b", "/a/./b", "/a/", "/.."})
        EXPECT_EQ(error_of([&](GuestIdentity& i) { i.files[0].path = path; }),
                  Errc::invalid_argument)
            << path;
    EXPECT_EQ(error_of([](GuestIdentity& i) { i.files[0].path = std::string("/a\0b", 4); }),
              Errc::invalid_argument);
    EXPECT_EQ(error_of([](GuestIdentity& i) { i.files[2].content = "x"; }), Errc::invalid_argument);
    EXPECT_EQ(error_of([](GuestIdentity& i) { i.files[0].mode = 010000; }), Errc::invalid_argument);
    EXPECT_EQ(error_of([](GuestIdentity& i) { i.files[0].content.resize(max_files_bytes + 1); }),
              Errc::no_space);
    EXPECT_EQ(error_of([](GuestIdentity& i) { i.authorized_keys = {"a\nb"}; }),
              Errc::invalid_argument);
    EXPECT_EQ(error_of([](GuestIdentity& i) { i.authorized_keys = {""}; }), Errc::invalid_argument);
    EXPECT_EQ(error_of([](GuestIdentity& i) { i.machine_id = "uninitialized"; }),
              Errc::invalid_argument);
    EXPECT_EQ(error_of([](GuestIdentity& i) { i.git->name = "a\n[core]"; }),
              Errc::invalid_argument);
    EXPECT_EQ(error_of([](GuestIdentity& i) {
                  i.network->name_servers.resize(4, *Ipv4Address::parse("1.1.1.1"));
              }),
              Errc::invalid_argument);
}

TEST(GuestIdentity, DecodesStrictly) {
    EXPECT_TRUE(decode_text(small_text_with("\"a\"", "\"b\"")));
    const std::vector<std::string> wrong{
        "",
        "null",
        "[]",
        "{",
        small_text_with("\"a\"", "1"),
        small_text_with("\"a\"", "\"A_B\""),
        small_text_with("0123456789ab", "../../etc"),
        small_text_with("\"grow_disks\":false", "\"grow_disks\":0"),
        small_text_with("\"grow_disks\":false", "\"grow\":false"),
        small_text_with("\"grow_disks\":false", "\"grow_disks\":false,\"extra\":1"),
        small_text_with("\"authorized_keys\":[]", "\"authorized_keys\":[1]"),
        small_text_with("\"authorized_keys\":[]", "\"authorized_keys\":[[[[[[[[]]]]]]]]"),
        small_text_with("\"files\":[]", R"("files":[{"path":"/a","mode":420,"uid":0,"gid":0,)"
                                        R"("member":"banger/files/../vm.json"}])"),
        small_text_with("\"files\":[]", R"("files":[{"path":"/a","mode":-1,"uid":0,"gid":0,)"
                                        R"("member":"banger/files/0"}])"),
        small_text_with("\"files\":[]", R"("files":[{"path":"/../a","mode":420,"uid":0,"gid":0,)"
                                        R"("member":"banger/files/0"}])"),
    };
    for (const std::string& text : wrong)
        EXPECT_FALSE(decode_text(text)) << text;
}

TEST(GuestIdentity, MissesAMember) {
    std::vector<ArchiveMember> members = *encode_identity(full_identity());
    members.pop_back();
    EXPECT_FALSE(decode(members));
}

TEST(GuestIdentity, MachineIdsAreRandomAndWellFormed) {
    const std::string one = new_machine_id();
    EXPECT_THAT(one, ::testing::MatchesRegex("[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}"));
    EXPECT_NE(one, new_machine_id());
}

}  // namespace
}  // namespace banger::guest
