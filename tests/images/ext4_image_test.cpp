#include "core/images/ext4_image.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/base/temp_folder.hpp"
#include "tests/images/ext4_reader.hpp"
#include "tests/images/tar_builder.hpp"

namespace banger::images {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

class Ext4ImageTest : public testing::Test {
protected:
    Result<Ext4Summary> write(const std::vector<std::string>& layers,
                              const Ext4Options& options = {}, const std::string& name = "image") {
        std::vector<UniqueFd> files;
        for (const std::string& layer : layers)
            files.push_back(file_of(layer));
        return write_from(files, options, {}, name);
    }
    Result<Ext4Summary> write_from(std::span<const UniqueFd> layers, const Ext4Options& options,
                                   std::stop_token stop, const std::string& name = "image") {
        const UniqueFd image(
            ::open(path(name).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        return write_ext4_from_layers(layers, image, options, std::move(stop));
    }
    [[nodiscard]] std::string path(const std::string& name = "image") const {
        return folder_ / name;
    }
    [[nodiscard]] std::string bytes(const std::string& name = "image") const {
        std::ostringstream all;
        all << std::ifstream(path(name), std::ios::binary).rdbuf();
        return all.str();
    }
    /// The code of the failure, and that there is one.
    static Errc code(const Result<Ext4Summary>& result) {
        EXPECT_FALSE(result.has_value());
        return result ? Errc::internal : result.error().code;
    }

    TempFolder folder_;
};

TEST_F(Ext4ImageTest, KeepsTypesModesOwnersAndTimes) {
    TarBuilder tar;
    tar.add({.path = "./", .type = AE_IFDIR, .mode = 0750, .uid = 7, .seconds = 1'600'000'000});
    tar.add({.path = "./plain", .content = "hello", .mode = 0640, .uid = 1000, .gid = 100});
    tar.add({.path = "./sudo", .content = "x", .mode = 04755});
    tar.add({.path = "./tmp", .type = AE_IFDIR, .mode = 01777});
    tar.add({.path = "./big-owner", .uid = 3'000'000'000, .gid = 2'000'000'000});
    tar.add({.path = "./null", .type = AE_IFCHR, .mode = 0666, .major = 1, .minor = 3});
    tar.add({.path = "./disk", .type = AE_IFBLK, .mode = 0660, .major = 259, .minor = 70000});
    tar.add({.path = "./pipe", .type = AE_IFIFO, .mode = 0600});
    tar.add({.path = "./fine", .seconds = 1'700'000'001, .nanoseconds = 123'456'789});
    tar.add({.path = "./old", .seconds = -1'000'000});
    tar.add({.path = "./far", .seconds = 5'000'000'000});
    const Result<Ext4Summary> summary = write({tar.finish()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(summary->entries, 11U);
    EXPECT_EQ(fsck(path()), "");

    const Ext4Reader image(path());
    EXPECT_EQ(image.inode("/").i_mode, LINUX_S_IFDIR | 0750);
    EXPECT_EQ(image.uid("/"), 7U);
    EXPECT_EQ(image.inode("/").i_mtime, 1'600'000'000U);
    EXPECT_EQ(image.inode("/plain").i_mode, LINUX_S_IFREG | 0640);
    EXPECT_EQ(image.content("/plain"), "hello");
    EXPECT_EQ(image.uid("/plain"), 1000U);
    EXPECT_EQ(image.gid("/plain"), 100U);
    EXPECT_EQ(image.inode("/sudo").i_mode, LINUX_S_IFREG | 04755);
    EXPECT_EQ(image.inode("/tmp").i_mode, LINUX_S_IFDIR | 01777);
    EXPECT_EQ(image.uid("/big-owner"), 3'000'000'000U);
    EXPECT_EQ(image.gid("/big-owner"), 2'000'000'000U);
    EXPECT_EQ(image.inode("/null").i_mode, LINUX_S_IFCHR | 0666);
    EXPECT_EQ(image.inode("/null").i_block[0], 1U << 8 | 3);
    EXPECT_EQ(image.inode("/disk").i_mode, LINUX_S_IFBLK | 0660);
    EXPECT_EQ(image.inode("/disk").i_block[1],
              (70000U & 0xff) | 259U << 8 | (70000U & ~0xffU) << 12);
    EXPECT_EQ(image.inode("/pipe").i_mode, LINUX_S_IFIFO | 0600);
    EXPECT_EQ(image.inode("/fine").i_mtime, 1'700'000'001U);
    EXPECT_EQ(image.inode("/fine").i_mtime_extra >> 2, 123'456'789U);
    EXPECT_EQ(static_cast<std::int32_t>(image.inode("/old").i_mtime), -1'000'000);
    EXPECT_EQ(image.inode("/old").i_mtime_extra & 3, 0U);
    EXPECT_EQ(image.inode("/far").i_mtime, static_cast<std::uint32_t>(5'000'000'000));
    EXPECT_EQ(image.inode("/far").i_mtime_extra & 3, 1U);
}

TEST_F(Ext4ImageTest, KeepsSymbolicAndHardLinks) {
    const std::string long_target = "/" + std::string(1500, 'a') + "/" + std::string(1500, 'b');
    TarBuilder tar;
    tar.file("a/original", "shared").symlink("fast", "usr/bin").symlink("slow", long_target);
    tar.symlink("fits", std::string(59, 'f')).symlink("does-not", std::string(60, 'd'));
    tar.hard_link("b/second", "a/original").hard_link("third", "/./a//original");
    tar.hard_link("link-to-link", "slow");
    const Result<Ext4Summary> summary = write({tar.finish()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");

    const Ext4Reader image(path());
    EXPECT_EQ(image.link_target("/fast"), "usr/bin");
    EXPECT_EQ(image.inode("/fast").i_blocks, 0U);
    EXPECT_EQ(image.link_target("/slow"), long_target);
    EXPECT_EQ(image.link_target("/fits"), std::string(59, 'f'));
    EXPECT_EQ(image.link_target("/does-not"), std::string(60, 'd'));
    EXPECT_EQ(image.find("/a/original"), image.find("/b/second"));
    EXPECT_EQ(image.find("/a/original"), image.find("/third"));
    EXPECT_EQ(image.inode("/third").i_links_count, 3);
    EXPECT_EQ(image.find("/link-to-link"), image.find("/slow"));
    EXPECT_EQ(image.content("/b/second"), "shared");
}

TEST_F(Ext4ImageTest, KeepsExtendedAttributes) {
    const std::string capability(
        "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
    const std::string large(3000, 'v');
    TarBuilder tar;
    tar.add({.path = "ping",
             .content = "x",
             .mode = 0755,
             .attributes = {{"security.capability", capability}}});
    tar.add({.path = "many",
             .attributes = {{"user.large", large},
                            {"user.binary", std::string("\0\xff\n=", 4)},
                            {"trusted.overlay.opaque", "y"},
                            {"btrfs.compression", "zstd"}}});
    tar.add({.path = "folder", .type = AE_IFDIR, .mode = 0755, .attributes = {{"user.f", "1"}}});
    const Result<Ext4Summary> summary = write({tar.finish()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");

    const Ext4Reader image(path());
    EXPECT_THAT(image.attributes("/ping"), ElementsAre(Pair("security.capability", capability)));
    EXPECT_THAT(image.attributes("/many"),
                UnorderedElementsAre(Pair("user.large", large),
                                     Pair("user.binary", std::string("\0\xff\n=", 4)),
                                     Pair("trusted.overlay.opaque", "y")));
    EXPECT_THAT(image.attributes("/folder"), ElementsAre(Pair("user.f", "1")));
}

TEST_F(Ext4ImageTest, KeepsAccessLists) {
    const std::string text = "user::rw-,user:joe:r-x:1001,group::r--,mask::rwx,other::---";
    const std::string layer =
        pax({{"SCHILY.acl.access", text}}) + RawHeader{.name = "file"}.bytes() +
        pax({{"SCHILY.acl.default", "u::rwx,g::r-x,g:50:rwx,m::rwx,o::r-x"}}) +
        RawHeader{.name = "folder/", .type = '5', .mode = "0000755"}.bytes() + end_mark();
    const Result<Ext4Summary> summary = write({layer});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");
    const Ext4Reader image(path());
    // As ext4 stores it: version 1, then tag, permissions, and an id where the tag wants one.
    EXPECT_EQ(image.attributes("/file")["system.posix_acl_access"],
              std::string("\x01\0\0\0\x01\0\x06\0\x02\0\x05\0\xe9\x03\0\0"
                          "\x04\0\x04\0\x10\0\x07\0\x20\0\0\0",
                          28));
    EXPECT_EQ(image.attributes("/folder").count("system.posix_acl_default"), 1U);
}

TEST_F(Ext4ImageTest, RefusesAttributesThatCannotBeKept) {
    TarBuilder tar;
    tar.add({.path = "f", .attributes = {{"user.huge", std::string(60'000, 'x')}}});
    EXPECT_EQ(code(write({tar.finish()})), Errc::corrupt);
    EXPECT_EQ(code(write({pax({{"SCHILY.xattr.system.posix_acl_access", "nonsense"}}) +
                          RawHeader{}.bytes() + end_mark()})),
              Errc::corrupt);
    EXPECT_EQ(code(write({pax({{"SCHILY.acl.access", "user:joe:rwx"}}) + RawHeader{}.bytes() +
                          end_mark()})),
              Errc::corrupt);
    EXPECT_EQ(code(write({pax({{"SCHILY.xattr.user." + std::string(300, 'n'), "v"}}) +
                          RawHeader{}.bytes() + end_mark()})),
              Errc::corrupt);
}

TEST_F(Ext4ImageTest, KeepsNamesByteForByte) {
    const std::vector<std::string> names = {
        "cafe\xcc\x81",  // not in normal form C, and to stay so
        "caf\xc3\xa9",         "latin\xe9\xff", "quote'\"\\", "new\nline", "tab\t\x01\x7f",
        std::string(255, 'n'), "-dash",         "sp ace ",    ".whiteout", "x.wh.y"};
    std::string layer;
    for (const std::string& name : names)
        layer += pax({{"path", "dir/" + name}}) + RawHeader{.name = "short"}.bytes();
    const Result<Ext4Summary> summary = write({layer + end_mark()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");
    EXPECT_THAT(Ext4Reader(path()).list("/dir"), testing::UnorderedElementsAreArray(names));
}

TEST_F(Ext4ImageTest, HolesStayHoles) {
    const std::int64_t size = (std::int64_t{5} << 30) + 123;
    const std::string begin(10'000, 'b');
    const std::string middle(5'000, 'm');
    const std::string end(123, 'e');
    const std::int64_t at = (std::int64_t{3} << 30) + 1000;
    // Made by hand: no archiver gets 5 GiB of holes through in the time of a unit test.
    const auto number = [](std::int64_t n) { return std::to_string(n) + "\n"; };
    const std::string map = padded("3\n" + number(0) + number(10'000) + number(at) + number(5'000) +
                                   number(size - 123) + number(123));
    const std::string data = map + begin + middle + end;
    const std::string layer =
        pax({{"GNU.sparse.major", "1"},
             {"GNU.sparse.minor", "0"},
             {"GNU.sparse.name", "sparse"},
             {"GNU.sparse.realsize", std::to_string(size)}}) +
        RawHeader{.name = "GNUSparseFile.1/sparse", .size = octal(data.size())}.bytes() +
        padded(data) + RawHeader{.name = "after"}.bytes() + end_mark();
    const Result<Ext4Summary> summary = write({layer});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");
    EXPECT_LT(summary->size, ByteCount::gib(1));

    const Ext4Reader image(path());
    EXPECT_EQ(image.size("/sparse"), static_cast<std::uint64_t>(size));
    EXPECT_EQ(image.inode("/sparse").i_blocks, (3U + 2 + 1) * 8);
    EXPECT_EQ(image.content("/sparse", 0, 10'001), begin + std::string(1, '\0'));
    EXPECT_EQ(image.content("/sparse", static_cast<std::uint64_t>(at) - 1, 5'002),
              std::string(1, '\0') + middle + std::string(1, '\0'));
    EXPECT_EQ(image.content("/sparse", static_cast<std::uint64_t>(size) - 124), '\0' + end);
    EXPECT_NE(image.find("/after"), 0U);
    struct ::stat status {};
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_LT(status.st_blocks * 512, 8 << 20);
}

TEST_F(Ext4ImageTest, ReadsEveryFormatOfHoles) {
    const std::string a(8192, 'a');
    const std::string b(4096, 'b');
    TarBuilder by_libarchive(ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE);
    by_libarchive.add({.path = "pax-1.0",
                       .content = a + b,
                       .runs = {{65536, 8192}, {1 << 20, 4096}},
                       .size = (1 << 20) + 4096 + 100'000});
    std::string layer = by_libarchive.finish();
    layer.resize(layer.find_last_not_of('\0') / 512 * 512 + 512);

    const std::string size = std::to_string((1 << 20) + 4096 + 100'000);
    layer += pax({{"GNU.sparse.map", "65536,8192,1048576,4096"},
                  {"GNU.sparse.size", size},
                  {"GNU.sparse.numblocks", "2"},
                  {"GNU.sparse.name", "pax-0.1"}}) +
             RawHeader{.name = "x", .size = octal(12288)}.bytes() + a + b;
    layer += pax({{"GNU.sparse.size", size},
                  {"GNU.sparse.numblocks", "2"},
                  {"GNU.sparse.offset", "65536"},
                  {"GNU.sparse.numbytes", "8192"},
                  {"GNU.sparse.offset", "1048576"},
                  {"GNU.sparse.numbytes", "4096"}}) +
             RawHeader{.name = "pax-0.0", .size = octal(12288)}.bytes() + a + b;
    RawHeader old{.name = "gnu", .type = 'S', .size = octal(12288), .magic = "ustar  "};
    old.patches = {{386, octal(65536)},
                   {398, octal(8192)},
                   {410, octal(1 << 20)},
                   {422, octal(4096)},
                   {483, octal((1 << 20) + 4096 + 100'000)}};
    layer += old.bytes() + a + b;
    // The same with the second run in an extension block.
    old.name = "gnu-extended";
    old.patches[2] = {434, octal(50'000)};
    old.patches[3] = {446, octal(0)};
    old.patches.push_back({410, octal(50'000)});
    old.patches.push_back({422, octal(0)});
    old.patches.push_back({458, octal(50'000)});
    old.patches.push_back({470, octal(0)});
    old.patches.push_back({482, "\1"});
    old.patches = {{386, octal(65536)},  {398, octal(8192)},
                   {410, octal(80'000)}, {422, octal(0)},
                   {434, octal(80'000)}, {446, octal(0)},
                   {458, octal(80'000)}, {470, octal(0)},
                   {482, "\1"},          {483, octal((1 << 20) + 4096 + 100'000)}};
    std::string extension(512, '\0');
    extension.replace(0, 11, octal(1 << 20)).replace(12, 11, octal(4096));
    layer += old.bytes() + extension + a + b;

    const Result<Ext4Summary> summary = write({layer + end_mark()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");
    const Ext4Reader image(path());
    for (const char* name : {"/pax-1.0", "/pax-0.1", "/pax-0.0", "/gnu", "/gnu-extended"}) {
        EXPECT_EQ(image.size(name), (1U << 20) + 4096 + 100'000) << name;
        EXPECT_EQ(image.inode(name).i_blocks, 3U * 8) << name;
        EXPECT_EQ(image.content(name, 65535, 8194), '\0' + a + '\0') << name;
        EXPECT_EQ(image.content(name, 1 << 20, 4097), b + '\0') << name;
    }
}

TEST_F(Ext4ImageTest, ManyHolesGrowATreeOfExtents) {
    std::string map = "2000\n";
    for (int i = 0; i < 2000; ++i)
        map += std::to_string(i * 8192) + "\n4096\n";
    map = padded(map);
    std::string data;
    for (int i = 0; i < 2000; ++i)
        data += std::string(4096, static_cast<char>('a' + i % 26));
    const std::string all = map + data;
    const std::string layer = pax({{"GNU.sparse.major", "1"},
                                   {"GNU.sparse.minor", "0"},
                                   {"GNU.sparse.name", "sieve"},
                                   {"GNU.sparse.realsize", std::to_string(2000 * 8192)}}) +
                              RawHeader{.name = "x", .size = octal(all.size())}.bytes() +
                              padded(all) + end_mark();
    const Result<Ext4Summary> summary = write({layer});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");
    const Ext4Reader image(path());
    for (const int i : {0, 3, 4, 5, 339, 340, 341, 1999})
        EXPECT_EQ(image.content("/sieve", static_cast<std::uint64_t>(i) * 8192, 4096),
                  std::string(4096, static_cast<char>('a' + i % 26)))
            << i;
}

TEST_F(Ext4ImageTest, HoldsLargeFoldersAndDeepPaths) {
    std::string deep;
    for (int i = 0; i < 200; ++i)
        deep += "d/";
    std::string layer;
    for (int i = 0; i < 70'000; ++i)
        layer += RawHeader{.name = "many/entry-number-" + std::to_string(i)}.bytes();
    layer += pax({{"path", deep + "bottom"}}) + RawHeader{}.bytes();
    // Found among all those: a replacement and a hard link.
    layer += RawHeader{.name = "many/entry-number-40000", .mode = "0000600"}.bytes();
    layer += RawHeader{.name = "link", .type = '1', .link = "many/entry-number-69999"}.bytes();
    const Result<Ext4Summary> summary = write({layer + end_mark()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");
    const Ext4Reader image(path());
    EXPECT_EQ(image.list("/many").size(), 70'000U);
    EXPECT_NE(image.find("/" + deep + "bottom"), 0U);
    EXPECT_EQ(image.inode("/many/entry-number-40000").i_mode, LINUX_S_IFREG | 0600);
    EXPECT_EQ(image.inode("/link").i_links_count, 2);
}

TEST_F(Ext4ImageTest, FoldersThatDoNotFitIntoMemoryComeBack) {
    // Twice over 5000 folders in turn: each has left memory when its second entry comes.
    std::string layer;
    for (const char* name : {"first", "second"})
        for (int i = 0; i < 5000; ++i)
            layer += RawHeader{.name = "top/" + std::to_string(i) + "/" + name}.bytes();
    const Result<Ext4Summary> summary = write({layer + end_mark()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");
    const Ext4Reader image(path());
    for (const int i : {0, 1, 2500, 4999})
        EXPECT_THAT(image.list("/top/" + std::to_string(i)), ElementsAre("first", "second"));
    EXPECT_EQ(image.inode("/top").i_links_count, 5002);
}

TEST_F(Ext4ImageTest, SameInputGivesSameBytes) {
    const auto make = [](const std::string& text) {
        TarBuilder tar;
        tar.folder("etc").file("etc/hostname", text).symlink("bin", "usr/bin");
        tar.add({.path = "f", .content = text, .attributes = {{"user.a", "b"}}});
        return tar.finish();
    };
    const Ext4Options small{.size = ByteCount::mib(16)};
    const Ext4Options named_small{.size = ByteCount::mib(16), .identity = "sha256:1"};
    const Result<Ext4Summary> first = write({make("one")}, small, "first");
    const Result<Ext4Summary> second = write({make("one")}, small, "second");
    const Result<Ext4Summary> other = write({make("other")}, small, "other");
    const Result<Ext4Summary> named = write({make("one")}, named_small, "named");
    ASSERT_TRUE(first && second && other && named);
    EXPECT_TRUE(bytes("first") == bytes("second"));
    EXPECT_EQ(first->uuid, second->uuid);
    EXPECT_NE(first->uuid, other->uuid);
    EXPECT_NE(first->uuid, named->uuid);
    EXPECT_EQ(bytes("first").size(), first->size.count());
}

TEST_F(Ext4ImageTest, CanBeGrownOnline) {
    TarBuilder tar;
    tar.file("f", "x");
    ASSERT_TRUE(write({tar.finish()}, {.label = "root"}));
    const Ext4Reader image(path());
    const ext2_super_block& super = image.super();
    EXPECT_TRUE(super.s_feature_compat & EXT2_FEATURE_COMPAT_RESIZE_INODE);
    EXPECT_TRUE(super.s_feature_compat & EXT3_FEATURE_COMPAT_HAS_JOURNAL);
    EXPECT_FALSE(super.s_feature_incompat & EXT2_FEATURE_INCOMPAT_META_BG);
    const std::uint64_t descriptors = image.handle()->desc_blocks + super.s_reserved_gdt_blocks;
    EXPECT_GE(descriptors * 64 * 128, ext4_growth_limit.in_mib());
    EXPECT_EQ(image.inode("/").i_mode, LINUX_S_IFDIR | 0755);
    EXPECT_STREQ(reinterpret_cast<const char*>(super.s_volume_name), "root");
    // Nothing is left for the guest's kernel to zero.
    for (dgrp_t group = 0; group < image.handle()->group_desc_count; ++group)
        EXPECT_TRUE(ext2fs_bg_flags_test(image.handle(), group, EXT2_BG_INODE_ZEROED)) << group;
    ext2_inode resize{};
    ASSERT_EQ(ext2fs_read_inode(image.handle(), EXT2_RESIZE_INO, &resize), 0);
    EXPECT_NE(resize.i_block[EXT2_DIND_BLOCK], 0U);
}

TEST_F(Ext4ImageTest, TakesTheSizeAskedFor) {
    TarBuilder tar;
    tar.file("f", std::string(100'000, 'x'));
    const std::string layer = tar.finish();
    for (const ByteCount size :
         {ByteCount::mib(16), ByteCount::mib(100), ByteCount::gib(8),
          ByteCount::bytes((std::uint64_t{300} << 20) + 5000), ByteCount::gib(100)}) {
        const Result<Ext4Summary> summary = write({layer}, {.size = size});
        ASSERT_TRUE(summary) << summary.error().text();
        EXPECT_EQ(summary->size, size);
        EXPECT_EQ(fsck(path()), "") << size.text();
        struct ::stat status {};
        ASSERT_EQ(::stat(path().c_str(), &status), 0);
        EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), size.count());
        EXPECT_LT(status.st_blocks * 512, 24 << 20) << size.text();
    }
    const Result<Ext4Summary> least = write({layer}, {.at_least = ByteCount::gib(3)});
    ASSERT_TRUE(least) << least.error().text();
    EXPECT_GE(least->size, ByteCount::gib(3));
    EXPECT_EQ(fsck(path()), "");
}

TEST_F(Ext4ImageTest, SizeThatIsTooSmallIsNoSpace) {
    TarBuilder tar;
    tar.file("f", std::string(std::size_t{12} << 20, 'x'));
    EXPECT_EQ(code(write({tar.finish()}, {.size = ByteCount::mib(16)})), Errc::no_space);
    EXPECT_EQ(code(write({tar.finish()}, {.size = ByteCount::mib(2)})), Errc::invalid_argument);
    std::string layer;
    for (int i = 0; i < 3000; ++i)
        layer += RawHeader{.name = std::to_string(i)}.bytes();
    EXPECT_EQ(code(write({layer + end_mark()}, {.size = ByteCount::mib(16)})), Errc::no_space);
}

TEST_F(Ext4ImageTest, FullDiskOfTheHostIsNoSpace) {
    // A limit on file sizes fails like a full disk, and needs no disk of our own.
    TarBuilder tar;
    tar.file("f", std::string(std::size_t{40} << 20, 'x'));
    ::rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const ::sighandler_t handler = ::signal(SIGXFSZ, SIG_IGN);
    const ::rlimit small{.rlim_cur = 60 << 20, .rlim_max = before.rlim_max};
    std::vector<UniqueFd> layers;
    layers.push_back(file_of(tar.finish()));
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    const Result<Ext4Summary> summary = write_from(layers, {.size = ByteCount::mib(100)}, {});
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    ::signal(SIGXFSZ, handler);
    EXPECT_EQ(code(summary), Errc::no_space);
}

TEST_F(Ext4ImageTest, GrowsPastOneFlexibleGroup) {
    // 2.2 GiB of inodes and data in little time: many empty files and one file of holes with ends.
    std::string layer;
    for (int i = 0; i < 140'000; ++i)
        layer +=
            RawHeader{.name = "d" + std::to_string(i / 1000) + "/" + std::to_string(i)}.bytes();
    const Result<Ext4Summary> summary = write({layer + end_mark()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_GT(summary->size, ByteCount::gib(2));
    EXPECT_EQ(fsck(path()), "");
    EXPECT_EQ(Ext4Reader(path()).list("/d139").size(), 1000U);
}

TEST_F(Ext4ImageTest, StripsAbsoluteAndDotPaths) {
    TarBuilder tar;
    tar.file("/abs/file", "1").file("./dot/file", "2").file("a//b/./c", "3");
    const Result<Ext4Summary> summary = write({tar.finish()});
    ASSERT_TRUE(summary) << summary.error().text();
    const Ext4Reader image(path());
    EXPECT_EQ(image.content("/abs/file"), "1");
    EXPECT_EQ(image.content("/dot/file"), "2");
    EXPECT_EQ(image.content("/a/b/c"), "3");
    EXPECT_EQ(image.inode("/a/b").i_mode, LINUX_S_IFDIR | 0755);
}

TEST_F(Ext4ImageTest, RefusesPathsThatLeadOut) {
    for (const char* bad : {"../x", "a/../../x", "..", "/..", "a/.."}) {
        TarBuilder tar;
        tar.folder("a");
        const Result<Ext4Summary> file =
            write({pax({{"path", bad}}) + RawHeader{}.bytes() + end_mark()});
        EXPECT_EQ(code(file), Errc::corrupt) << bad;
        EXPECT_THAT(file.error().message, HasSubstr(".."));
        EXPECT_EQ(
            code(write({RawHeader{.name = "t"}.bytes() +
                        RawHeader{.name = "l", .type = '1', .link = bad}.bytes() + end_mark()})),
            Errc::corrupt)
            << bad;
    }
}

TEST_F(Ext4ImageTest, FollowsSymbolicLinksInsideTheImageOnly) {
    TarBuilder tar;
    tar.folder("usr").folder("usr/bin").symlink("bin", "usr/bin").file("bin/sh", "shell");
    tar.symlink("out", "../../../../..").file("out/etc/passwd", "inside");
    tar.symlink("abs", "/usr").file("abs/lib/x", "lib");
    tar.folder("a").symlink("a/up", "../usr/./bin/").file("a/up/tool", "t");
    tar.symlink("run", "/var/run").file("run/made", "m");
    tar.hard_link("sh2", "bin/sh");
    const Result<Ext4Summary> summary = write({tar.finish()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");
    const Ext4Reader image(path());
    EXPECT_EQ(image.content("/usr/bin/sh"), "shell");
    EXPECT_EQ(image.link_target("/bin"), "usr/bin");
    EXPECT_EQ(image.content("/etc/passwd"), "inside");
    EXPECT_EQ(image.content("/usr/lib/x"), "lib");
    EXPECT_EQ(image.content("/usr/bin/tool"), "t");
    EXPECT_EQ(image.content("/var/run/made"), "m");
    EXPECT_EQ(image.content("/sh2"), "shell");
}

TEST_F(Ext4ImageTest, RefusesLoopsAndDetours) {
    TarBuilder loop;
    loop.symlink("a", "b").symlink("b", "a").file("a/x", "1");
    EXPECT_EQ(code(write({loop.finish()})), Errc::corrupt);
    TarBuilder through_file;
    through_file.file("f", "1").file("f/x", "2");
    EXPECT_EQ(code(write({through_file.finish()})), Errc::corrupt);
    TarBuilder root;
    root.file("./", "1");
    EXPECT_EQ(
        code(write({RawHeader{.name = "./", .type = '2', .link = "/etc"}.bytes() + end_mark()})),
        Errc::corrupt);
    std::string deep;
    for (int i = 0; i < 1025; ++i)
        deep += "d/";
    EXPECT_EQ(code(write({pax({{"path", deep}}) + RawHeader{}.bytes() + end_mark()})),
              Errc::corrupt);
    EXPECT_EQ(
        code(write({pax({{"path", std::string(256, 'n')}}) + RawHeader{}.bytes() + end_mark()})),
        Errc::corrupt);
}

TEST_F(Ext4ImageTest, RefusesHardLinksThatCannotBe) {
    TarBuilder missing;
    missing.hard_link("l", "nowhere").file("nowhere", "later");
    const Result<Ext4Summary> result = write({missing.finish()});
    EXPECT_EQ(code(result), Errc::corrupt);
    EXPECT_THAT(result.error().message, HasSubstr("nowhere"));
    TarBuilder folder;
    folder.folder("d").hard_link("l", "d");
    EXPECT_EQ(code(write({folder.finish()})), Errc::corrupt);
    TarBuilder self;
    self.hard_link("l", "l");
    EXPECT_EQ(code(write({self.finish()})), Errc::corrupt);
    std::string many = RawHeader{.name = "f"}.bytes();
    for (int i = 0; i < 65'000; ++i)
        many += RawHeader{.name = "l" + std::to_string(i), .type = '1', .link = "f"}.bytes();
    EXPECT_EQ(code(write({many + end_mark()})), Errc::corrupt);
}

TEST_F(Ext4ImageTest, LaterEntriesReplaceEarlier) {
    TarBuilder tar;
    tar.file("f", "old").file("f", "new");
    tar.folder("d").file("d/in", "x").folder("d/sub").file("d/sub/y", "y").file("d", "now a file");
    tar.symlink("l", "f").folder("l").file("l/in", "z");
    tar.file("h", "kept").hard_link("h2", "h").file("h", "other");
    tar.add({.path = "k", .type = AE_IFDIR, .mode = 0700, .attributes = {{"user.a", "1"}}});
    tar.file("k/in", "k").add({.path = "k", .type = AE_IFDIR, .mode = 0711, .uid = 5});
    const Result<Ext4Summary> summary = write({tar.finish()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");
    const Ext4Reader image(path());
    EXPECT_EQ(image.content("/f"), "new");
    EXPECT_EQ(image.content("/d"), "now a file");
    EXPECT_EQ(image.content("/l/in"), "z");
    EXPECT_EQ(image.content("/h"), "other");
    EXPECT_EQ(image.content("/h2"), "kept");
    EXPECT_EQ(image.inode("/h2").i_links_count, 1);
    EXPECT_EQ(image.content("/k/in"), "k");
    EXPECT_EQ(image.inode("/k").i_mode, LINUX_S_IFDIR | 0711);
    EXPECT_EQ(image.uid("/k"), 5U);
    EXPECT_THAT(image.attributes("/k"), IsEmpty());
}

TEST_F(Ext4ImageTest, UpperLayersCoverLower) {
    TarBuilder lower;
    lower.folder("usr").folder("usr/bin").symlink("bin", "usr/bin").file("usr/bin/old", "1");
    lower.folder("gone").file("gone/a", "1").folder("gone/b").file("gone/b/c", "1");
    lower.folder("opaque").file("opaque/a", "1").folder("opaque/d").file("opaque/d/x", "1");
    lower.folder("late").file("late/a", "1").folder("late/d").file("late/d/x", "1");
    lower.file("file", "1").file("hard", "1").hard_link("hard2", "hard").file("again", "1");
    lower.folder("merged").file("merged/a", "1");
    TarBuilder upper;
    upper.file("bin/new", "2").file("bin/.wh.old", "").file(".wh.gone", "");
    upper.folder("opaque").file("opaque/.wh..wh..opq", "").file("opaque/b", "2");
    // The mark may come after what this layer adds, and then spares it.
    upper.folder("late").file("late/b", "2").folder("late/d").file("late/d/y", "2");
    upper.file("late/.wh..wh..opq", "");
    upper.file(".wh.file", "").file(".wh.hard", "").file(".wh.never-was", "");
    upper.file(".wh.again", "").file("again", "2").file(".wh..wh.plnk", "");
    upper.file("merged/b", "2");
    const Result<Ext4Summary> summary = write({lower.finish(), upper.finish()});
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(fsck(path()), "");
    const Ext4Reader image(path());
    EXPECT_THAT(image.list("/"),
                UnorderedElementsAre("usr", "bin", "opaque", "late", "hard2", "again", "merged"));
    EXPECT_THAT(image.list("/usr/bin"), ElementsAre("new"));
    EXPECT_THAT(image.list("/opaque"), ElementsAre("b"));
    EXPECT_THAT(image.list("/late"), UnorderedElementsAre("b", "d"));
    EXPECT_THAT(image.list("/late/d"), ElementsAre("y"));
    EXPECT_THAT(image.list("/merged"), UnorderedElementsAre("a", "b"));
    EXPECT_EQ(image.inode("/hard2").i_links_count, 1);
    EXPECT_EQ(image.content("/again"), "2");
}

TEST_F(Ext4ImageTest, RefusesWhiteoutsOfImpossibleNames) {
    TarBuilder lower;
    lower.file("f", "1");
    const std::string below = lower.finish();
    for (const char* bad : {".wh.", ".wh..", ".wh...", "d/.wh.."}) {
        TarBuilder upper;
        upper.file(bad, "");
        EXPECT_EQ(code(write({below, upper.finish()})), Errc::corrupt) << bad;
    }
}

TEST_F(Ext4ImageTest, UnpacksByTheFirstBytes) {
    for (const int filter : {ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD,
                             ARCHIVE_FILTER_XZ, ARCHIVE_FILTER_BZIP2}) {
        TarBuilder tar(ARCHIVE_FORMAT_TAR_GNUTAR, filter);
        tar.file("f", std::string(3'000'000, 'x') + "end").file(std::string(200, 'n'), "long");
        const std::string layer = tar.finish();
        const Result<Ext4Summary> summary = write({layer});
        ASSERT_TRUE(summary) << summary.error().text();
        const Ext4Reader image(path());
        EXPECT_EQ(image.content("/f", 3'000'000), "end");
        EXPECT_EQ(image.content("/" + std::string(200, 'n')), "long");
        EXPECT_EQ(code(write({layer.substr(0, layer.size() / 2)})), Errc::corrupt) << filter;
    }
}

TEST_F(Ext4ImageTest, RefusesWhatIsNoWholeTar) {
    TarBuilder tar;
    tar.file("a", std::string(3000, 'a')).file("b", "b");
    std::string whole = tar.finish();
    whole.resize(whole.find_last_not_of('\0') / 512 * 512 + 512);  // without its end mark
    ASSERT_EQ(code(write({whole})), Errc::corrupt);
    ASSERT_TRUE(write({whole + end_mark()}));
    ASSERT_TRUE(write({whole + std::string(512, '\0')}));
    for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{511},
                                     std::size_t{512}, std::size_t{1500}, whole.size() - 1})
        EXPECT_EQ(code(write({whole.substr(0, length)})), Errc::corrupt) << length;
    // What is known to be whole may lack the mark (umoci writes such), but may not stop in an
    // entry.
    const Ext4Options verified{.are_layers_whole = true};
    ASSERT_TRUE(write({whole}, verified));
    EXPECT_EQ(Ext4Reader(path()).content("/b"), "b");
    for (const std::size_t length :
         {std::size_t{1}, std::size_t{511}, std::size_t{512}, std::size_t{1500}, whole.size() - 1})
        EXPECT_EQ(code(write({whole.substr(0, length)}, verified)), Errc::corrupt) << length;
    EXPECT_EQ(code(write({std::string(4096, 'x')})), Errc::corrupt);
    EXPECT_EQ(code(write({std::string("\x1f\x8b\x08 not gzip at all")})), Errc::corrupt);
    EXPECT_EQ(code(write({RawHeader{.wrong_checksum = true}.bytes() + end_mark()})), Errc::corrupt);
    EXPECT_EQ(code(write({RawHeader{.type = '9'}.bytes() + end_mark()})), Errc::corrupt);
    const std::string empty_tar = end_mark();
    const Result<Ext4Summary> nothing = write({empty_tar});
    ASSERT_TRUE(nothing) << nothing.error().text();
    EXPECT_EQ(fsck(path()), "");
}

TEST_F(Ext4ImageTest, RefusesImpossibleNumbersAndRecords) {
    const std::string file = RawHeader{}.bytes();
    const std::string over = std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12);
    const std::string negative(12, '\xff');
    const std::vector<std::string> bad = {
        RawHeader{.size = over}.bytes(),
        RawHeader{.size = negative}.bytes(),
        RawHeader{.size = "0000000000x"}.bytes(),
        RawHeader{.uid = std::string("\x80\0\0\1\0\0\0\0", 8)}.bytes(),
        RawHeader{.uid = std::string(8, '\xff')}.bytes(),
        pax({{"size", "-1"}}) + file,
        pax({{"size", "99999999999999999999"}}) + file,
        pax({{"uid", "4294967296"}}) + file,
        pax({{"mtime", "soon"}}) + file,
        pax({{"path", std::string("a\0b", 3)}}) + file,
        RawHeader{.type = 'x', .size = octal(8)}.bytes() + padded("99 a=b\n\n") + file,
        RawHeader{.type = 'x', .size = octal(6)}.bytes() + padded("6 a=bb") + file,
        RawHeader{.type = 'x', .size = octal(5)}.bytes() + padded("5 ab\n") + file,
        RawHeader{.type = 'x', .size = octal(5 << 20)}.bytes() +
            std::string(std::size_t{5} << 20, ' ') + file,
        RawHeader{.type = 'L', .size = octal(5 << 20)}.bytes() +
            std::string(std::size_t{5} << 20, 'n') + file,
        RawHeader{.name = "l", .type = '2', .link = ""}.bytes(),
        pax({{"linkpath", std::string(4096, 't')}}) + RawHeader{.type = '2'}.bytes(),
        pax({{"GNU.sparse.map", "0,10,5,10"}, {"GNU.sparse.size", "100"}}) +
            RawHeader{.size = octal(20)}.bytes() + padded(std::string(20, 'x')),
        pax({{"GNU.sparse.map", "0,10"}, {"GNU.sparse.size", "5"}}) +
            RawHeader{.size = octal(10)}.bytes() + padded(std::string(10, 'x')),
        pax({{"GNU.sparse.map", "0,5"}, {"GNU.sparse.size", "5"}}) +
            RawHeader{.size = octal(10)}.bytes() + padded(std::string(10, 'x')),
        pax({{"GNU.sparse.map", "0"}, {"GNU.sparse.size", "5"}}) + file,
        pax({{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "5"}}) +
            RawHeader{.size = octal(512)}.bytes() + padded("9999999\n"),
        pax({{"GNU.sparse.map", "0,0"}, {"GNU.sparse.size", "9223372036854775807"}}) + file,
    };
    for (std::size_t i = 0; i < bad.size(); ++i)
        EXPECT_EQ(code(write({bad[i] + end_mark()})), Errc::corrupt) << i;
}

TEST_F(Ext4ImageTest, KeepsToItsLimits) {
    TarBuilder tar;
    tar.file("a", "1").file("b", std::string(10'000, 'x'));
    const std::string layer = tar.finish();
    EXPECT_EQ(code(write({layer}, {.limits = {.entries = 1}})), Errc::corrupt);
    EXPECT_EQ(code(write({layer}, {.limits = {.data = ByteCount::bytes(9'999)}})), Errc::corrupt);
    EXPECT_EQ(code(write({layer}, {.label = std::string(17, 'l')})), Errc::invalid_argument);
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd read_end(ends[0]);
    const UniqueFd write_end(ends[1]);
    EXPECT_EQ(code(write_ext4_from_layers({}, write_end, {}, {})), Errc::invalid_argument);
}

TEST_F(Ext4ImageTest, CanBeCancelledWhileItWaits) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    std::vector<UniqueFd> layers;
    layers.emplace_back(ends[0]);
    const UniqueFd writer(ends[1]);  // open, and silent
    std::stop_source stop;
    Result<Ext4Summary> result = Error();
    std::thread thread([&] { result = write_from(layers, {}, stop.get_token()); });
    stop.request_stop();
    thread.join();
    EXPECT_EQ(code(result), Errc::cancelled);
}

TEST_F(Ext4ImageTest, ReadsPipesToTheirEndAndReports) {
    TarBuilder tar;
    tar.file("f", std::string(std::size_t{24} << 20, 'x'));
    const std::string layer = tar.finish() + std::string(100'000, '\0');  // padded by its writer
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    std::vector<UniqueFd> layers;
    layers.emplace_back(ends[0]);
    bool wrote_all = false;
    std::thread thread([&, writer = UniqueFd(ends[1])] {
        std::size_t done = 0;
        while (done < layer.size()) {
            const ::ssize_t count = ::write(writer.get(), layer.data() + done, layer.size() - done);
            if (count <= 0) return;
            done += static_cast<std::size_t>(count);
        }
        wrote_all = true;
    });
    std::vector<Ext4Progress> seen;
    const Ext4Options options{.on_progress = [&](const Ext4Progress& p) { seen.push_back(p); }};
    const Result<Ext4Summary> summary = write_from(layers, options, {});
    thread.join();
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_TRUE(wrote_all);
    // Once a MiB at most; a reader that runs ahead by 4 MiB makes it fewer.
    ASSERT_GE(seen.size(), 5U);
    EXPECT_LE(seen.size(), 26U);
    EXPECT_TRUE(std::ranges::is_sorted(seen, {}, &Ext4Progress::bytes_read));
    EXPECT_EQ(seen.back().bytes_read, layer.size());
    EXPECT_EQ(seen.back().bytes_written, std::uint64_t{24} << 20);
    EXPECT_EQ(seen.back().entries, 1U);
}

class EmptyExt4Test : public Ext4ImageTest {
protected:
    Result<void> make(const EmptyExt4& request, const std::string& name = "image") {
        const UniqueFd image(
            ::open(path(name).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        return make_empty_ext4(image, request);
    }
};

TEST_F(EmptyExt4Test, IsWholeAndSparseAtEverySize) {
    for (const ByteCount size :
         {ByteCount::mib(8), ByteCount::mib(100), ByteCount::gib(8), ByteCount::gib(300)}) {
        const Result<void> made = make(
            {.size = size, .label = "work", .root_uid = 1000, .root_gid = 100, .root_mode = 0700});
        ASSERT_TRUE(made) << made.error().text();
        struct ::stat status {};
        ASSERT_EQ(::stat(path().c_str(), &status), 0);
        EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), size.count());
        if (size <= ByteCount::gib(8)) {
            EXPECT_EQ(fsck(path()), "") << size.text();
            EXPECT_LT(status.st_blocks * 512, 4 << 20) << size.text();
        }
        const Ext4Reader image(path());
        EXPECT_EQ(image.inode("/").i_mode, LINUX_S_IFDIR | 0700);
        EXPECT_EQ(image.uid("/"), 1000U);
        EXPECT_EQ(image.gid("/"), 100U);
        EXPECT_THAT(image.list("/"), IsEmpty());
    }
}

TEST_F(EmptyExt4Test, IsTheSameForTheSameIdentity) {
    ASSERT_TRUE(make({.size = ByteCount::mib(16), .identity = "a"}, "one"));
    ASSERT_TRUE(make({.size = ByteCount::mib(16), .identity = "a"}, "two"));
    ASSERT_TRUE(make({.size = ByteCount::mib(16), .identity = "b"}, "other"));
    EXPECT_TRUE(bytes("one") == bytes("two"));
    EXPECT_FALSE(bytes("one") == bytes("other"));
}

TEST_F(EmptyExt4Test, RefusesSizesThatCannotBe) {
    for (const ByteCount size : {ByteCount(), ByteCount::mib(7), ByteCount::gib(16 * 1024)}) {
        const Result<void> made = make({.size = size});
        ASSERT_FALSE(made);
        EXPECT_EQ(made.error().code, Errc::invalid_argument);
    }
}

}  // namespace
}  // namespace banger::images
