#include "core/base/daemon_mark.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

TEST(DaemonMark, IsReadBackFromTheLockWhileItsDaemonRuns) {
    const TempFolder folder;
    const std::string path = folder / "lock";
    EXPECT_FALSE(read_daemon_mark(path));
    const UniqueFd lock = *try_lock_file(path);
    EXPECT_FALSE(read_daemon_mark(path)) << "nothing is written yet";
    ASSERT_TRUE(write_daemon_mark(lock.get(), {{1, 12345678}, "/a/longer/path/than/the/next"}));
    const DaemonMark mark{*process_id_of(::getpid()), "/run/a b/bangerd.sock"};
    ASSERT_TRUE(write_daemon_mark(lock.get(), mark));
    EXPECT_EQ(read_daemon_mark(path), mark);
    ASSERT_TRUE(
        write_daemon_mark(lock.get(), {{mark.process.pid, mark.process.start_time + 1}, "/x"}));
    EXPECT_FALSE(read_daemon_mark(path)) << "its number is another's by now";
}

TEST(DaemonMark, NothingElseIsOne) {
    for (const char* text :
         {"", "\n", "12", "12 13", "12 13 ", "12 13 /a", "x 13 /a\n", "12 x /a\n", "12 13 a\n",
          "-1 13 /a\n", "0 13 /a\n", "12 13 /a\nb\n", "99999999999999999999 1 /a\n"})
        EXPECT_FALSE(parse_daemon_mark(text)) << text;
    EXPECT_TRUE(parse_daemon_mark("12 13 /a\n"));
}

}  // namespace
}  // namespace banger
