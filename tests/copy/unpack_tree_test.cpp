#include "core/copy/unpack_tree.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

/// What a hostile guest may send, entry by entry.
namespace banger::copy {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string octal(std::uint64_t value, std::size_t width) {
    std::string out(width - 1, '0');
    for (std::size_t i = width - 1; i-- > 0; value >>= 3)
        out[i] = static_cast<char>('0' + (value & 7));
    return out + '\0';
}

/// A stream that is made by hand, so that it may be wrong.
class Tar {
public:
    Tar& entry(const std::string& path, char flag, const std::string& content = {},
               const std::string& link = {}, unsigned mode = 0644) {
        std::string header(512, '\0');
        header.replace(0, path.size(), path);
        header.replace(100, 8, octal(mode, 8));
        header.replace(124, 12, octal(content.size(), 12));
        header.replace(136, 12, octal(1'000'000'000, 12));
        header.replace(148, 8, "        ");
        header[156] = flag;
        header.replace(157, link.size(), link);
        header.replace(257, 8,
                       std::string("ustar\0"
                                   "00",
                                   8));
        unsigned sum = 0;
        for (const char c : header)
            sum += static_cast<unsigned char>(c);
        header.replace(148, 8, octal(sum, 7) + ' ');
        bytes_ += header + content;
        bytes_.append((512 - content.size() % 512) % 512, '\0');
        return *this;
    }
    Tar& folder(const std::string& path, unsigned mode = 0755) {
        return entry(path, '5', {}, {}, mode);
    }
    Tar& file(const std::string& path, const std::string& content, unsigned mode = 0644) {
        return entry(path, '0', content, {}, mode);
    }
    Tar& symlink(const std::string& path, const std::string& to) {
        return entry(path, '2', {}, to);
    }
    [[nodiscard]] std::string whole() const { return bytes_ + std::string(1024, '\0'); }
    [[nodiscard]] std::string cut() const { return bytes_; }

private:
    std::string bytes_;
};

class UnpackTree : public testing::Test {
protected:
    UnpackTree() {
        fs::create_directory(folder_ / "in");
        fs::create_directory(folder_ / "out");
        std::ofstream(folder_ / "out/precious") << "mine";
    }
    Result<Unpacked> unpack(const std::string& bytes, const std::string& from = "top",
                            const std::string& to = "top") {
        const UniqueFd stream(::memfd_create("tar", MFD_CLOEXEC));
        EXPECT_TRUE(write_all(stream.get(), bytes));
        ::lseek(stream.get(), 0, SEEK_SET);
        const UniqueFd in(::open((folder_ / "in").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        return unpack_tree({.stream = stream.get(),
                            .folder = in.get(),
                            .from = from,
                            .to = to,
                            .limit = ByteCount::mib(1)});
    }
    [[nodiscard]] std::string at(const std::string& name) const { return folder_ / ("in/" + name); }
    [[nodiscard]] std::string content(const std::string& name) const {
        return read_file(at(name), ByteCount::mib(1)).value_or("(missing)");
    }
    void expect_outside_untouched() const {
        EXPECT_EQ(read_file(folder_ / "out/precious", ByteCount::kib(1)).value_or("gone"), "mine");
        EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "out"), {}), 1);
        EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 2);
    }
    TempFolder folder_;
};

TEST_F(UnpackTree, AnHonestTreeComesWhole) {
    const Result<Unpacked> done = unpack(Tar()
                                             .folder("top", 0750)
                                             .folder("top/sub/", 0555)
                                             .file("./top/sub/run", "#!", 04755)
                                             .file("top/a", "content", 0600)
                                             .entry("top/hard", '1', {}, "top/a")
                                             .symlink("top/sub/soft", "../a")
                                             .whole(),
                                         "top", "mine");
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_EQ(done->files, 4u);
    EXPECT_EQ(done->left_out, 0u);
    EXPECT_EQ(content("mine/a"), "content");
    EXPECT_EQ(fs::hard_link_count(at("mine/a")), 2u);
    EXPECT_EQ(fs::read_symlink(at("mine/sub/soft")), "../a");
    struct stat status {};
    ASSERT_EQ(::stat(at("mine/sub/run").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0755u) << "no set-user-id bit";
    EXPECT_EQ(status.st_mtime, 1'000'000'000);
    ASSERT_EQ(::stat(at("mine/sub").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0555u);
    EXPECT_EQ(status.st_mtime, 1'000'000'000);
}

TEST_F(UnpackTree, NamesThatLeadOutAreRefused) {
    for (const char* path : {"/etc/passwd", "../out/precious", "top/../../out/precious", "top/..",
                             "..", "", "other", "topper/x", "./../top"}) {
        const Result<Unpacked> done = unpack(Tar().folder("top").file(path, "evil").whole());
        ASSERT_FALSE(done) << path;
        EXPECT_EQ(done.error().code, Errc::corrupt) << path;
        const Result<Unpacked> folder = unpack(Tar().folder("top").folder(path).whole());
        EXPECT_FALSE(folder) << path;
    }
    expect_outside_untouched();
}

TEST_F(UnpackTree, NothingIsWrittenThroughALinkOfTheArchive) {
    const Result<Unpacked> done = unpack(Tar()
                                             .folder("top")
                                             .folder("top/real")
                                             .symlink("top/link", "real")
                                             .file("top/link/evil", "evil")
                                             .whole());
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::corrupt);
    EXPECT_FALSE(fs::exists(at("top/real/evil")));
}

TEST_F(UnpackTree, NothingIsWrittenThroughALinkThatWasThere) {
    fs::create_directory(at("top"));
    fs::create_directory_symlink(folder_ / "out", at("top/way"));
    fs::create_symlink(folder_ / "out/precious", at("top/file"));
    EXPECT_FALSE(unpack(Tar().file("top/way/precious", "evil").whole()));
    EXPECT_FALSE(unpack(Tar().folder("top/way").whole())) << "a link is no folder";
    const Result<Unpacked> done = unpack(Tar().file("top/file", "new").whole());
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_FALSE(fs::is_symlink(at("top/file"))) << "replaced, not followed";
    EXPECT_EQ(content("top/file"), "new");
    expect_outside_untouched();
}

TEST_F(UnpackTree, LinksThatLeadOutAreLeftOut) {
    const Result<Unpacked> done = unpack(Tar()
                                             .folder("top")
                                             .folder("top/sub")
                                             .symlink("top/a", "/etc/passwd")
                                             .symlink("top/b", "../out/precious")
                                             .symlink("top/sub/c", "../../out")
                                             .symlink("top/d", "sub/../../x")
                                             .symlink("top/good", "sub/../sub")
                                             .whole());
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_EQ(done->left_out, 4u);
    EXPECT_EQ(done->notes.size(), 4u);
    EXPECT_TRUE(fs::is_symlink(at("top/good")));
    for (const char* name : {"top/a", "top/b", "top/sub/c", "top/d"})
        EXPECT_FALSE(fs::is_symlink(at(name))) << name;
    EXPECT_EQ(unpack(Tar().symlink("top", "/etc/passwd").whole())->left_out, 1u);
}

TEST_F(UnpackTree, HardLinksStayInTheTreeAndAreToFiles) {
    for (const char* target : {"/etc/passwd", "../out/precious", "top/../../out/precious",
                               "top/missing", "top/sub", "top/link", "top/evil", "precious"}) {
        const Result<Unpacked> done = unpack(Tar()
                                                 .folder("top")
                                                 .folder("top/sub")
                                                 .symlink("top/link", "sub")
                                                 .entry("top/evil", '1', {}, target)
                                                 .whole());
        EXPECT_FALSE(done) << target;
    }
    expect_outside_untouched();
}

TEST_F(UnpackTree, DevicesAndPipesAreLeftOut) {
    Tar tar;
    tar.folder("top");
    for (const char flag : {'3', '4', '6', 'Z'})
        tar.entry(std::string("top/") + flag, flag);
    const Result<Unpacked> done = unpack(tar.whole());
    ASSERT_TRUE(done);
    EXPECT_EQ(done->left_out, 4u);
    EXPECT_TRUE(fs::is_empty(at("top")));
}

TEST_F(UnpackTree, AFolderIsNeverReplacedAndAFileAlwaysIs) {
    ASSERT_TRUE(unpack(Tar().folder("top").folder("top/sub").file("top/f", "1").whole()));
    const Result<Unpacked> over = unpack(Tar().file("top/sub", "x").whole());
    ASSERT_FALSE(over);
    EXPECT_EQ(over.error().code, Errc::already_exists);
    EXPECT_FALSE(unpack(Tar().symlink("top/sub", "f").whole()));
    EXPECT_FALSE(unpack(Tar().folder("top/f").whole()));
    ASSERT_TRUE(unpack(Tar()
                           .file("top/f", "2")
                           .file("top/f", "3")
                           .symlink("top/l", "f")
                           .file("top/l", "4")
                           .whole()));
    EXPECT_EQ(content("top/f"), "3");
    EXPECT_EQ(content("top/l"), "4") << "the link is replaced";
}

TEST_F(UnpackTree, TheContentOfAFolderGoesIntoTheDestinationItself) {
    ASSERT_TRUE(unpack(Tar().folder("./").file("./a", "1").folder("./s").file("./s/b", "2").whole(),
                       ".", "."));
    EXPECT_EQ(content("a"), "1");
    EXPECT_EQ(content("s/b"), "2");
    EXPECT_FALSE(unpack(Tar().file("./", "x").whole(), ".", "."));
}

TEST_F(UnpackTree, SizesHaveAnEnd) {
    EXPECT_FALSE(unpack(Tar().file("top", std::string((1 << 20) + 1, 'x')).whole()));
    const std::string half((1 << 19) + 1, 'x');
    EXPECT_FALSE(unpack(Tar().folder("top").file("top/a", half).file("top/b", half).whole()));
    EXPECT_FALSE(unpack(Tar().folder("top").file("top/none/x", "").whole())) << "no such parent";
}

TEST_F(UnpackTree, AStreamThatIsDamagedOrCutOffIsAnError) {
    const Tar good = Tar().folder("top").file("top/a", std::string(2000, 'x'));
    for (std::size_t length = 0; length <= good.cut().size(); length += 100)
        EXPECT_FALSE(unpack(good.cut().substr(0, length))) << length;
    for (std::size_t place : {0u, 105u, 130u, 150u, 156u, 300u}) {
        std::string bytes = good.whole();
        bytes[place] = static_cast<char>(bytes[place] ^ 0x55);
        EXPECT_FALSE(unpack(bytes)) << place;
    }
    EXPECT_FALSE(unpack(std::string(4096, 'x')));
    EXPECT_FALSE(unpack("banger: something went wrong\n"));
    EXPECT_FALSE(unpack(good.whole() + std::string(2 << 20, '\0'))) << "no end after its end";
    EXPECT_EQ(unpack(std::string(1024, '\0')).error().code, Errc::not_found);
    EXPECT_FALSE(unpack(Tar().entry("x", 'x', "30 path=top\n").whole()));
    EXPECT_FALSE(unpack(Tar().entry("x", 'x', "22 GNU.sparse.major=1\n").whole()));
    EXPECT_FALSE(unpack(Tar().entry("x", 'x', "18 size=999999999\n").file("top", "a").whole()));
}

TEST_F(UnpackTree, LongNamesOfBothKinds) {
    const std::string deep = "top/" + std::string(120, 'a') + "/" + std::string(200, 'b');
    ASSERT_TRUE(unpack(Tar()
                           .folder("top")
                           .entry("././@LongLink", 'L', deep.substr(0, 125) + '\0')
                           .folder("top/cut")
                           .entry("././@LongLink", 'L', deep + '\0')
                           .file("top/cut", "long")
                           .whole()));
    EXPECT_EQ(content(deep), "long");
    ASSERT_TRUE(
        unpack(Tar().folder("top").entry("h", 'x', "16 path=top/pax\n").file("x", "p").whole()));
    EXPECT_EQ(content("top/pax"), "p");
    EXPECT_FALSE(unpack(Tar().entry("h", 'x', "19 path=../out/evil\n").file("top/x", "p").whole()));
    EXPECT_FALSE(unpack(
        Tar().entry("././@LongLink", 'L', std::string(300, 'n') + '\0').file("top", "x").whole()));
    expect_outside_untouched();
}

TEST_F(UnpackTree, TooManyEntriesAreRefused) {
    Tar tar;
    tar.folder("top");
    for (int i = 0; i < 20; ++i)
        tar.file("top/" + std::to_string(i), "");
    const UniqueFd stream(::memfd_create("tar", MFD_CLOEXEC));
    ASSERT_TRUE(write_all(stream.get(), tar.whole()));
    ::lseek(stream.get(), 0, SEEK_SET);
    const UniqueFd in(::open((folder_ / "in").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    EXPECT_FALSE(unpack_tree({.stream = stream.get(),
                              .folder = in.get(),
                              .from = "top",
                              .to = "top",
                              .limit = ByteCount::mib(1),
                              .max_entries = 20}));
}

/// What the real tar writes, in each of its formats.
TEST_F(UnpackTree, ReadsWhatTarWrites) {
    fs::create_directories(folder_ / "out/tree/empty");
    std::ofstream(folder_ / "out/tree/file") << std::string(70000, 'y');
    std::ofstream(folder_ / ("out/tree/" + std::string(180, 'n'))) << "long";
    fs::create_symlink("file", folder_ / "out/tree/link");
    for (const char* format : {"gnu", "ustar", "posix", "oldgnu"}) {
        Command command;
        command.program = "/bin/tar";
        command.arguments = {"-C", folder_ / "out", std::string("--format=") + format, "-cf",
                             "-",  "tree"};
        const Result<CommandOutput> output =
            run_command(command, std::chrono::seconds(60), ByteCount::mib(4), {});
        ASSERT_TRUE(output);
        if (!output->status.is_success()) continue;  // a name that the format cannot hold
        const Result<Unpacked> done = unpack(output->standard_output, "tree", format);
        ASSERT_TRUE(done) << format << ": " << done.error().text();
        EXPECT_EQ(content(std::string(format) + "/file").size(), 70000u);
        EXPECT_EQ(content(std::string(format) + "/" + std::string(180, 'n')), "long");
        EXPECT_TRUE(fs::is_symlink(at(std::string(format) + "/link")));
        EXPECT_TRUE(fs::is_directory(at(std::string(format) + "/empty")));
    }
    EXPECT_TRUE(fs::exists(at("gnu")));
    EXPECT_TRUE(fs::exists(at("posix")));
}

}  // namespace
}  // namespace banger::copy
