#include "daemons/bangerd-root/configuration.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include "banger/contract/subject.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::root {
namespace {

using contract::failed_with;
using contract::succeeded;

constexpr const char* good = R"({"owner_uid":1000,"owner_gid":1000,"plugins":[
    {"name":"net-bridge","settings":{"bridge_name":"banger0","nat":true,"mtu":1500,"dns":["1.1.1.1"]}},
    {"name":"storage-dm","settings":{}}]})";

TEST(ConfigurationTest, says_who_and_which_plugins) {
    const Result<Configuration> read = parse_configuration(good);
    ASSERT_TRUE(succeeded(read));
    EXPECT_EQ(read->owner_uid, 1000U);
    ASSERT_EQ(read->plugins.size(), 2U);
    EXPECT_EQ(read->plugins[0].name.str(), "net-bridge");
    EXPECT_EQ(std::get<std::string>(read->plugins[0].settings.at("bridge_name")), "banger0");
    EXPECT_EQ(std::get<std::int64_t>(read->plugins[0].settings.at("mtu")), 1500);
}

TEST(ConfigurationTest, is_strict) {
    for (const char* text : {
             "",
             "[]",
             "{}",
             R"({"owner_uid":1000,"owner_gid":1000})",
             R"({"owner_uid":-1,"owner_gid":1000,"plugins":[]})",
             R"({"owner_uid":4294967296,"owner_gid":1000,"plugins":[]})",
             R"({"owner_uid":"1000","owner_gid":1000,"plugins":[]})",
             R"({"owner_uid":1000,"owner_gid":1000,"plugins":[],"more":1})",
             R"({"owner_uid":1000,"owner_uid":0,"owner_gid":1000,"plugins":[]})",
             R"({"owner_uid":1000,"owner_gid":1000,"plugins":[{"name":"a"}]})",
             R"({"owner_uid":1000,"owner_gid":1000,"plugins":[{"name":"../a","settings":{}}]})",
             R"({"owner_uid":1000,"owner_gid":1000,"plugins":[{"name":"a","settings":{"b":{}}}]})",
             R"({"owner_uid":1000,"owner_gid":1000,"plugins":[{"name":"a","settings":{"b":1.5}}]})",
             R"({"owner_uid":1000,"owner_gid":1000,"plugins":[]} x)",
         })
        EXPECT_FALSE(parse_configuration(text)) << text;
}

TEST(ConfigurationTest, is_believed_only_when_nobody_else_can_write_it) {
    const TempFolder folder;
    const std::string path = folder / "helper.json";
    EXPECT_TRUE(failed_with(read_configuration(path, ::geteuid()), Errc::unavailable));
    ASSERT_TRUE(write_file_atomic(path, good, 0644));
    EXPECT_TRUE(succeeded(read_configuration(path, ::geteuid())));
    ASSERT_EQ(::chmod(path.c_str(), 0664), 0);
    EXPECT_TRUE(failed_with(read_configuration(path, ::geteuid()), Errc::unavailable));
    ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
    ASSERT_EQ(::chmod(folder.path().c_str(), 0777), 0);
    EXPECT_TRUE(failed_with(read_configuration(path, ::geteuid()), Errc::unavailable));
    ASSERT_EQ(::chmod(folder.path().c_str(), 0700), 0);
    const std::string link = folder / "link.json";
    ASSERT_EQ(::symlink(path.c_str(), link.c_str()), 0);
    EXPECT_TRUE(failed_with(read_configuration(link, ::geteuid()), Errc::unavailable));
    const std::string fifo = folder / "fifo.json";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    EXPECT_TRUE(failed_with(read_configuration(fifo, ::geteuid()), Errc::unavailable));
    ASSERT_TRUE(write_file_atomic(folder / "large.json", std::string(100000, ' '), 0600));
    EXPECT_FALSE(read_configuration(folder / "large.json", ::geteuid()));
    if (::geteuid() != 0) return;
    ASSERT_EQ(::chown(path.c_str(), 12345, 0), 0);
    EXPECT_TRUE(failed_with(read_configuration(path, 0), Errc::unavailable));
}

}  // namespace
}  // namespace banger::root
