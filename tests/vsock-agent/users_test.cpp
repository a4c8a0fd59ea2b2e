#include "daemons/vsock-agent/users.hpp"

#include <gtest/gtest.h>

namespace banger::agent {
namespace {

constexpr std::string_view passwd =
    "root:x:0:0:root:/root:/bin/ash\n"
    "short:x:1\n"
    "web:x:33:33:www:/srv/www:/sbin/nologin\n"
    "1000:x:2000:2000::/odd:/bin/sh\n"
    "nohome:x:40:41:::\n";
constexpr std::string_view group =
    "root:x:0:\n"
    "web:x:33:\n"
    "disk:x:6:root,web\n"
    "log:x:7:web\n"
    "broken:x:x:web\n";

ImageUser user(std::string_view wanted) { return find_user(wanted, passwd, group).value(); }

TEST(ImageUsers, AreFoundByNameAndNumber) {
    EXPECT_EQ(user(""), (ImageUser{0, 0, {6}, "/root", "/bin/ash"}));
    EXPECT_EQ(user("web"), (ImageUser{33, 33, {6, 7}, "/srv/www", "/sbin/nologin"}));
    EXPECT_EQ(user("33"), user("web"));
    EXPECT_EQ(user("nohome").home, "/");
    EXPECT_EQ(user("1000").uid, 2000U) << "a name that is a number is a name first";
}

TEST(ImageUsers, AGroupThatIsAskedForIsTheOnlyOne) {
    EXPECT_EQ(user("web:log"), (ImageUser{33, 7, {}, "/srv/www", "/sbin/nologin"}));
    EXPECT_EQ(user("web:99").gid, 99U);
    EXPECT_EQ(user("5:6"), (ImageUser{5, 6, {}, "/", ""}));
    EXPECT_EQ(user("web:"), user("web"));
    EXPECT_EQ(user(":7").gid, 7U);
}

TEST(ImageUsers, NumbersAndRootNeedNoFile) {
    EXPECT_EQ(find_user("", "", "").value(), (ImageUser{0, 0, {}, "/root", ""}));
    EXPECT_EQ(find_user("root", "", "").value().home, "/root");
    EXPECT_EQ(find_user("65532:65532", "", "").value(), (ImageUser{65532, 65532, {}, "/", ""}));
}

TEST(ImageUsers, UnknownOnesAndNumbersThatAreNoneAreRefused) {
    for (const char* wanted : {"nobody", "web:nobody", "-1", "4294967295", "4294967296", "0x0"})
        EXPECT_EQ(find_user(wanted, passwd, group).error().code, Errc::not_found) << wanted;
}

}  // namespace
}  // namespace banger::agent
