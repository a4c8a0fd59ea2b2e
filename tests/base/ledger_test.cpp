#include "core/base/ledger.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class LedgerTest : public testing::Test {
protected:
    [[nodiscard]] Ledger open() const { return Ledger::open(path()).value(); }
    [[nodiscard]] std::string path() const { return folder_ / "ledger"; }
    [[nodiscard]] std::string path(const std::string& name) const { return path() + "/" + name; }
    const TempFolder folder_;
};

using Entry = Ledger::Entry;

TEST_F(LedgerTest, KeepsWhatWasWrittenUntilItIsErased) {
    Ledger ledger = open();
    ASSERT_TRUE(ledger.write("tap-b", "two"));
    ASSERT_TRUE(ledger.write("tap-a", "one"));
    ASSERT_TRUE(ledger.write("tap-a", std::string("1\0\n", 3)));
    EXPECT_THAT(ledger.entries()->entries,
                ElementsAre(Entry{"tap-a", std::string("1\0\n", 3)}, Entry{"tap-b", "two"}));
    EXPECT_EQ(*open().read("tap-b"), "two") << "another one on the same folder sees it";
    EXPECT_TRUE(ledger.erase("tap-a"));
    EXPECT_TRUE(ledger.erase("tap-a")) << "already gone is success";
    EXPECT_EQ(ledger.read("tap-a").error().code, Errc::not_found);
    EXPECT_THAT(ledger.entries()->entries, ElementsAre(Entry{"tap-b", "two"}));
    EXPECT_THAT(ledger.entries()->damaged, IsEmpty());
}

TEST_F(LedgerTest, FolderAndEntriesAreOursAlone) {
    const mode_t before = ::umask(0);
    Ledger ledger = open();
    ASSERT_TRUE(ledger.write("key", "text"));
    ::umask(before);
    struct stat status {};
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700u);
    ASSERT_EQ(::stat(path("key").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(LedgerTest, AFolderThatOthersMayWriteOrThatIsALinkIsRefused) {
    ASSERT_EQ(::mkdir(path().c_str(), 0700), 0);
    ASSERT_EQ(::symlink("ledger", (folder_ / "link").c_str()), 0);
    EXPECT_FALSE(Ledger::open(folder_ / "link"));
    ASSERT_EQ(::chmod(path().c_str(), 0770), 0);
    EXPECT_EQ(Ledger::open(path()).error().code, Errc::permission_denied);
}

TEST_F(LedgerTest, KeysAreStrict) {
    Ledger ledger = open();
    const std::vector<std::string> bad{"",          ".",
                                       "..",        "a/b",
                                       "../a",      "A",
                                       "a_b",       ".new-0",
                                       "a\n",       std::string("a\0", 2),
                                       "a b",       "\xff",
                                       "link.json", std::string(65, 'a')};
    for (const std::string& key : bad) {
        EXPECT_EQ(ledger.write(key, "x").error().code, Errc::invalid_argument) << key;
        EXPECT_EQ(ledger.read(key).error().code, Errc::invalid_argument) << key;
        EXPECT_EQ(ledger.erase(key).error().code, Errc::invalid_argument) << key;
    }
    EXPECT_TRUE(ledger.write(std::string(64, 'a'), "x"));
    EXPECT_EQ(ledger.write("a", std::string(Ledger::max_text + 1, 'x')).error().code,
              Errc::invalid_argument);
    EXPECT_TRUE(ledger.write("a", std::string(Ledger::max_text, 'x')));
    EXPECT_THAT(*list_folder(path()), SizeIs(2)) << "a refused write leaves no file";
}

TEST_F(LedgerTest, WhatACrashLeftOfAWriteIsIgnoredAndSwept) {
    Ledger ledger = open();
    ASSERT_TRUE(ledger.write("kept", "x"));
    ASSERT_TRUE(write_file_atomic(path(".new-7"), "half", 0600));
    EXPECT_THAT(ledger.entries()->entries, SizeIs(1));
    EXPECT_THAT(ledger.entries()->damaged, IsEmpty());
    const Ledger next = open();
    EXPECT_THAT(*list_folder(path()), ElementsAre("kept"));
}

TEST_F(LedgerTest, DamageIsReportedAndHidesNothingElse) {
    Ledger ledger = open();
    ASSERT_TRUE(ledger.write("good", "x"));
    ASSERT_TRUE(write_file_atomic(path("large"), std::string(Ledger::max_text + 1, 'x'), 0600));
    ASSERT_EQ(::symlink("good", path("link").c_str()), 0);
    ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
    ASSERT_EQ(::mkdir(path("sub").c_str(), 0700), 0);
    ASSERT_TRUE(write_file_atomic(path("No Key"), "x", 0600));
    const Ledger::Contents contents = ledger.entries().value();
    EXPECT_THAT(contents.entries, ElementsAre(Entry{"good", "x"}));
    EXPECT_THAT(contents.damaged, SizeIs(5));
    for (const Error& error : contents.damaged)
        EXPECT_EQ(error.code, Errc::corrupt) << error.text();
    EXPECT_TRUE(ledger.write("link", "mine")) << "a link is replaced, not written through";
    EXPECT_EQ(*ledger.read("good"), "x");
    EXPECT_EQ(*ledger.read("link"), "mine");
}

TEST_F(LedgerTest, ManyWritersAtOnce) {
    Ledger ledger = open();
    std::vector<std::thread> writers;
    std::atomic<int> failures = 0;
    for (int writer = 0; writer < 8; ++writer)
        writers.emplace_back([&, writer] {
            const std::string key = "writer-" + std::to_string(writer);
            for (int i = 0; i < 50; ++i)
                if (!ledger.write(key, std::to_string(i)) || !ledger.entries()) ++failures;
        });
    for (std::thread& writer : writers)
        writer.join();
    EXPECT_EQ(failures, 0);
    const Ledger::Contents contents = ledger.entries().value();
    for (const Entry& entry : contents.entries)
        EXPECT_EQ(entry.text, "49");
    EXPECT_THAT(*list_folder(path()), SizeIs(8));
}

}  // namespace
}  // namespace banger
