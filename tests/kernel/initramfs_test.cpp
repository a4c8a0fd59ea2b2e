#include "core/images/initramfs.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include <map>
#include <tuple>

namespace banger::images {
namespace {

using Entries = std::map<std::string, std::tuple<unsigned, unsigned, std::string>>;

/// Read by libarchive: path → type, permissions, content.
Entries entries_of(const std::string& bytes) {
    Entries entries;
    archive* reader = archive_read_new();
    archive_read_support_format_cpio(reader);
    EXPECT_EQ(archive_read_open_memory(reader, bytes.data(), bytes.size()), ARCHIVE_OK);
    archive_entry* entry = nullptr;
    while (archive_read_next_header(reader, &entry) == ARCHIVE_OK) {
        std::string content(static_cast<std::size_t>(archive_entry_size(entry)), '\0');
        EXPECT_EQ(archive_read_data(reader, content.data(), content.size()),
                  static_cast<la_ssize_t>(content.size()));
        EXPECT_EQ(archive_entry_uid(entry), 0);
        EXPECT_EQ(archive_entry_mtime(entry), 0);
        entries[archive_entry_pathname(entry)] = {archive_entry_filetype(entry),
                                                  archive_entry_perm(entry), content};
    }
    EXPECT_EQ(archive_format(reader), ARCHIVE_FORMAT_CPIO_SVR4_NOCRC);
    archive_read_free(reader);
    return entries;
}

TEST(CpioWriter, WritesWhatOthersRead) {
    CpioWriter cpio;
    ASSERT_TRUE(cpio.add_file("init", 0755, "program"));
    ASSERT_TRUE(cpio.add_file("a/b/file", 0600, std::string("\0\1\2", 3)));
    ASSERT_TRUE(cpio.add_folder("a/empty", 01777));
    ASSERT_TRUE(cpio.add_file("a/nothing", 0644, ""));
    const std::string bytes = std::move(cpio).finish();
    EXPECT_EQ(bytes.size() % 512, 0U);
    const Entries expected{{"init", {AE_IFREG, 0755, "program"}},
                           {"a", {AE_IFDIR, 0755, ""}},
                           {"a/b", {AE_IFDIR, 0755, ""}},
                           {"a/b/file", {AE_IFREG, 0600, std::string("\0\1\2", 3)}},
                           {"a/empty", {AE_IFDIR, 01777, ""}},
                           {"a/nothing", {AE_IFREG, 0644, ""}}};
    EXPECT_EQ(entries_of(bytes), expected);
}

TEST(CpioWriter, IsTheSameForTheSameCalls) {
    const auto write = [] {
        CpioWriter cpio;
        EXPECT_TRUE(cpio.add_file("x/y", 0644, "z"));
        return std::move(cpio).finish();
    };
    EXPECT_EQ(write(), write());
    EXPECT_EQ(write().substr(0, 110 + 2),
              "070701"
              "00000001"
              "000041ed"
              "00000000"
              "00000000"
              "00000002"
              "00000000"
              "00000000"
              "00000000"
              "00000000"
              "00000000"
              "00000000"
              "00000002"
              "00000000" +
                  std::string("x\0", 2));
}

TEST(CpioWriter, RefusesPathsThatLeadElsewhere) {
    CpioWriter cpio;
    for (const char* path : {"", "/init", "../init", "a/../b", "a//b", "a/", "./a", "a/."})
        EXPECT_FALSE(cpio.add_file(path, 0644, "")) << path;
    EXPECT_FALSE(cpio.add_file(std::string_view("a\0b", 3), 0644, ""));
    EXPECT_TRUE(cpio.add_file("a/b", 0644, ""));
    EXPECT_FALSE(cpio.add_file("a/b", 0644, ""));
    EXPECT_FALSE(cpio.add_folder("a", 0755));
}

}  // namespace
}  // namespace banger::images
