#include <gmock/gmock.h>

#include "core/config/config.hpp"

namespace banger {
namespace {

using testing::HasSubstr;

Result<Config> parse(const std::string& text, const std::string& home = "/home/anna") {
    return parse_config({{"c.toml", text}}, {.home = home, .default_ssh_key = "/k"});
}

std::string entry(const std::string& host, const std::string& guest, const std::string& more = "") {
    return "[[file_sync]]\nhost = '" + host + "'\nguest = '" + guest + "'\n" + more + "\n";
}

TEST(FileSync, PathsAreMadeAbsoluteAndNormal) {
    const Config config = parse(entry("~/.ssh/config", "~/.ssh/config", "mode = '0644'") +
                                entry("/home/anna/dir//sub/", "/root/./a/../dir/"))
                              .value();
    ASSERT_EQ(config.file_sync.size(), 2u);
    EXPECT_EQ(config.file_sync[0], (FileSync{"/home/anna/.ssh/config", "/root/.ssh/config", 0644,
                                             Source{Source::Kind::file, "c.toml", 1}}));
    EXPECT_EQ(config.file_sync[1].host, "/home/anna/dir/sub");
    EXPECT_EQ(config.file_sync[1].guest, "/root/dir");
    EXPECT_EQ(config.file_sync[1].mode, std::nullopt);
}

struct Bad {
    const char* host;
    const char* guest;
    const char* more;
    const char* complaint;
};
class FileSyncRefuses : public testing::TestWithParam<Bad> {};

TEST_P(FileSyncRefuses, NamingTheEntry) {
    const auto& [host, guest, more, complaint] = GetParam();
    const Result<Config> config = parse(entry("~/good", "~/good") + entry(host, guest, more));
    ASSERT_FALSE(config);
    EXPECT_EQ(config.error().code, Errc::invalid_argument);
    EXPECT_THAT(config.error().message, HasSubstr("file_sync[1]"));
    EXPECT_THAT(config.error().message, HasSubstr(complaint));
    EXPECT_FALSE(config.error().remedy.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Entries, FileSyncRefuses,
    testing::Values(Bad{"/etc/shadow", "~/x", "", "is not inside /home/anna"},
                    Bad{"~/../bob/x", "~/x", "", "is not inside /home/anna"},
                    Bad{"/home/annabel/x", "~/x", "", "is not inside /home/anna"},
                    Bad{"/home/anna/../anna2/x", "~/x", "", "is not inside /home/anna"},
                    Bad{"~/", "~/x", "", "is not inside"}, Bad{"~", "~/x", "", "is not inside"},
                    Bad{"x", "~/x", "", "is not inside"}, Bad{"", "~/x", "", "is not inside"},
                    Bad{"~/x", "/etc/passwd", "", "is not inside /root"},
                    Bad{"~/x", "~/../etc/passwd", "", "is not inside /root"},
                    Bad{"~/x", "/root", "", "is not inside /root"},
                    Bad{"~/x", "/rootx/y", "", "is not inside /root"},
                    Bad{"~/x", "x", "", "is not inside /root"},
                    Bad{"~/x", "~/good", "", "writes \"/root/good\" again"},
                    Bad{"~/x", "~/x", "mode = '4755'", "file mode"},
                    Bad{"~/x", "~/x", "mode = '0888'", "file mode"},
                    Bad{"~/x", "~/x", "mode = '64'", "file mode"},
                    Bad{"~/x", "~/x", "mode = ''", "file mode"},
                    Bad{"~/x", "~/x", "mode = 644", "should be text"},
                    Bad{"~/x", "~/x", "owner = 'x'", "no key"}));

TEST(FileSync, BothPathsAreNeeded) {
    EXPECT_THAT(parse("[[file_sync]]\nhost = '~/x'").error().message,
                HasSubstr("`file_sync[0]` has no `guest`"));
    EXPECT_THAT(parse("[[file_sync]]\nguest = '~/x'").error().message,
                HasSubstr("`file_sync[0]` has no `host`"));
}

TEST(FileSync, IsAListOfTables) {
    EXPECT_THAT(parse("[file_sync]\nhost = '~/x'").error().message, HasSubstr("list of tables"));
    EXPECT_THAT(parse("file_sync = ['x']").error().message, HasSubstr("file_sync[0]"));
    EXPECT_THAT(parse("[[file_sync]]\nhost = \"~/a\\u0000/../../x\"").error().message,
                HasSubstr("control characters"));
}

}  // namespace
}  // namespace banger
