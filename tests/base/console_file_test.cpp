#include "core/base/console_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "banger/contract/subject.hpp"
#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

using contract::failed_with;
using contract::succeeded;

/// Numbered lines of 16 bytes.
std::string lines(std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
        std::string line = "line " + std::to_string(i);
        line.resize(15, '.');
        text += line + "\n";
    }
    return text;
}

off_t allocated(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_blocks * 512;
}

TEST(ConsoleFile, TrimmingKeepsTheEndAndTheLengthGoesOn) {
    const TempFolder folder;
    const std::string path = folder / "console";
    const std::string text = lines(64 << 10);  // 1 MiB
    ASSERT_TRUE(write_file_atomic(path, text, 0600));
    ASSERT_TRUE(succeeded(trim_to(path, ByteCount::kib(100))));
    EXPECT_LE(allocated(path), 168 << 10);
    const UniqueFd writer(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    ASSERT_TRUE(write_all(writer.get(), "the last line\n"));
    Result<UniqueFd> reader = open_bounded(path);
    ASSERT_TRUE(succeeded(reader));
    const Result<std::string> kept = read_all(reader->get(), ByteCount::mib(2));
    ASSERT_TRUE(succeeded(kept));
    EXPECT_THAT(*kept, testing::StartsWith("line "));
    EXPECT_THAT(*kept, testing::EndsWith("\nthe last line\n"));
    EXPECT_GE(kept->size(), 100u << 10);
    EXPECT_TRUE(text.ends_with(kept->substr(0, kept->size() - 14)));
}

TEST(ConsoleFile, AShortOneIsLeftAlone) {
    const TempFolder folder;
    const std::string path = folder / "console";
    EXPECT_TRUE(failed_with(open_bounded(path), Errc::not_found));
    EXPECT_TRUE(succeeded(trim_to(path, ByteCount::kib(4))));
    EXPECT_TRUE(succeeded(compact_to(path, ByteCount::kib(4))));
    EXPECT_FALSE(path_exists(path));
    for (const std::string text : {"", "no line end", "two\nlines\n"}) {
        ASSERT_TRUE(write_file_atomic(path, text, 0600));
        EXPECT_TRUE(succeeded(trim_to(path, ByteCount::kib(4))));
        EXPECT_TRUE(succeeded(compact_to(path, ByteCount::kib(4))));
        const Result<UniqueFd> reader = open_bounded(path);
        ASSERT_TRUE(succeeded(reader));
        EXPECT_EQ(read_all(reader->get(), ByteCount::kib(8)).value_or("error"), text);
    }
}

TEST(ConsoleFile, CompactingBeginsAnewWithTheEnd) {
    const TempFolder folder;
    const std::string path = folder / "console";
    ASSERT_TRUE(write_file_atomic(path, lines(64 << 10), 0600));
    ASSERT_TRUE(succeeded(trim_to(path, ByteCount::kib(256))));
    ASSERT_TRUE(succeeded(compact_to(path, ByteCount::bytes(1600))));
    const Result<std::string> kept = read_file(path, ByteCount::kib(4));
    ASSERT_TRUE(succeeded(kept));
    EXPECT_TRUE(lines(64 << 10).ends_with(*kept));
    EXPECT_GE(kept->size(), 1580u);
    EXPECT_LE(kept->size(), 1600u);
    EXPECT_THAT(*kept, testing::StartsWith("line "));
}

TEST(ConsoleFile, TheTailIsWholeLines) {
    const TempFolder folder;
    const std::string path = folder / "log";
    EXPECT_EQ(tail_of(path, 10), "");
    ASSERT_TRUE(write_file_atomic(path, "one\ntwo\nthree\n", 0600));
    EXPECT_EQ(tail_of(path, 100), "one\ntwo\nthree\n");
    EXPECT_EQ(tail_of(path, 10), "three\n");
    ASSERT_TRUE(write_file_atomic(path, std::string(100, 'x'), 0600));
    EXPECT_EQ(tail_of(path, 10), std::string(10, 'x'));
}

TEST(ConsoleFile, ALinkIsNotFollowed) {
    const TempFolder folder;
    ASSERT_TRUE(write_file_atomic(folder / "secret", lines(64 << 10), 0600));
    ASSERT_EQ(::symlink((folder / "secret").c_str(), (folder / "console").c_str()), 0);
    EXPECT_FALSE(open_bounded(folder / "console"));
    EXPECT_FALSE(trim_to(folder / "console", ByteCount::kib(4)));
    EXPECT_GE(allocated(folder / "secret"), 1 << 20);
}

TEST(ConsoleWatcher, EndsAtOnceWithFilesToWatch) {
    const TempFolder folder;
    ConsoleWatcher watcher;
    watcher.watch(folder / "one", ByteCount::kib(4));
    watcher.watch(folder / "two", ByteCount::kib(4));
    watcher.forget(folder / "one");
    watcher.forget(folder / "never watched");
}

}  // namespace
}  // namespace banger
