// What hostile and odd archives do to the writer: one named case each, with its exact outcome. What
// an image may have is accepted; what leads nowhere or out is refused; nothing is half done in
// silence.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <zlib.h>

#include <functional>
#include <string>
#include <vector>

#include "core/images/ext4_image.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/images/tar_builder.hpp"
#include "tests/images/tree.hpp"

namespace banger::images {
namespace {

using Layers = std::vector<std::string>;
using Item = TarBuilder::Item;

struct Case {
    const char* name;
    std::function<Layers()> layers;
    /// The whole image (see outline()), or "refused: " and a part of why.
    std::string outcome;
    Ext4Limits limits{};

    friend std::ostream& operator<<(std::ostream& out, const Case& tested) {
        return out << tested.name;
    }
};

std::string tar(const std::vector<Item>& items) {
    TarBuilder builder;
    for (const Item& item : items)
        builder.add(item);
    return builder.finish();
}
Item file(const std::string& path, const std::string& content = "1") {
    return {.path = path, .content = content};
}
Item folder(const std::string& path) { return {.path = path, .type = AE_IFDIR, .mode = 0755}; }
Item symlink(const std::string& path, const std::string& target) {
    return {.path = path, .type = AE_IFLNK, .target = target, .mode = 0777};
}
Item link(const std::string& path, const std::string& to) {
    return {.path = path, .hard_link = to};
}
Item gone(const std::string& folder_and_slash, const std::string& name) {
    return file(folder_and_slash + ".wh." + name, "");
}
Item opaque(const std::string& folder_and_slash) {
    return file(folder_and_slash + ".wh..wh..opq", "");
}

/// One entry made by hand, after extended records.
std::string raw(const std::vector<std::pair<std::string, std::string>>& records,
                const RawHeader& header = {}, const std::string& data = {}) {
    return (records.empty() ? std::string{} : pax(records)) + header.bytes() + padded(data);
}

std::string many_symlinks(int count) {
    TarBuilder builder;
    builder.folder("end");
    for (int i = 0; i < count; ++i)
        builder.symlink("l" + std::to_string(i),
                        i == 0 ? std::string("end") : "l" + std::to_string(i - 1));
    builder.file("l" + std::to_string(count - 1) + "/x", "1");
    return builder.finish();
}

std::string gzip(const std::string& text, int times) {
    std::string packed = text;
    for (; times > 0; --times) {
        ::z_stream stream{};
        EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY),
                  Z_OK);
        std::string out(deflateBound(&stream, packed.size()) + 64, '\0');
        stream.next_in = reinterpret_cast<Bytef*>(packed.data());
        stream.avail_in = static_cast<uInt>(packed.size());
        stream.next_out = reinterpret_cast<Bytef*>(out.data());
        stream.avail_out = static_cast<uInt>(out.size());
        EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
        out.resize(stream.total_out);
        deflateEnd(&stream);
        packed = std::move(out);
    }
    return packed;
}

const std::string long_name(255, 'n');
const std::string zero_byte("a\0b", 3);

std::vector<Case> cases() {
    const Layers usr_merged = {
        tar({folder("usr"), folder("usr/bin"), symlink("bin", "usr/bin"), file("bin/sh")})};
    const auto on = [](const Layers& below, const std::vector<Item>& items) {
        return [=] {
            Layers all = below;
            all.push_back(tar(items));
            return all;
        };
    };
    const auto one = [](const std::string& bytes) { return [=] { return Layers{bytes}; }; };
    const auto items = [&](const std::vector<Item>& all) { return one(tar(all)); };
    const Layers base = {tar({folder("etc"), file("etc/passwd"), folder("a"), folder("a/b"),
                              file("a/b/c"), file("a/d"), symlink("l", "a/b")})};
    const std::string base_outline = "a/\na/b/\na/b/c=1\na/d=1\netc/\netc/passwd=1\nl->a/b\n";

    return {
        // Paths.
        {"PathAbsolute", items({file("/etc/x")}), "etc/\netc/x=1\n"},
        {"PathWithDots", items({file("./a/./b//c"), folder("d///")}), "a/\na/b/\na/b/c=1\nd/\n"},
        {"PathUp", one(raw({{"path", "../x"}}) + end_mark()), "refused: leads out"},
        {"PathUpInTheMiddle", one(raw({{"path", "a/../../x"}}) + end_mark()), "refused: leads out"},
        {"PathUpInside", one(raw({{"path", "a/../x"}}) + end_mark()), "refused: leads out"},
        {"PathThatIsUp", one(raw({{"path", ".."}}) + end_mark()), "refused: leads out"},
        {"PathEmpty", one(raw({}, {.name = ""}) + end_mark()), "refused: root folder"},
        {"PathDotIsTheRoot",
         one(raw({}, {.name = ".", .type = '5', .mode = "0000700"}) + end_mark()), "/ 0700\n"},
        {"PathSlashesAreTheRoot",
         one(raw({}, {.name = "//", .type = '5', .mode = "0000711"}) + end_mark()), "/ 0711\n"},
        {"PathOfFileThatEndsInSlash", one(raw({}, {.name = "f/"}) + end_mark()), "f=\n"},
        {"PathOfOldFileThatEndsInSlash",
         one(raw({}, {.name = "f/", .type = '\0', .mode = "0000755"}) + end_mark()), "f/\n"},
        {"PathWithZeroByte", one(raw({{"path", zero_byte}}) + end_mark()), "refused: zero byte"},
        {"PathOverPathMax",
         one(raw({{"path", long_name + "/" + long_name + "/x" + std::string(4000, '/') + "y"}}) +
             end_mark()),
         long_name + "/\n" + long_name + "/" + long_name + "/\n" + long_name + "/" + long_name +
             "/x/\n" + long_name + "/" + long_name + "/x/y=\n"},
        {"NameOver255Bytes", one(raw({{"path", long_name + "n"}}) + end_mark()),
         "refused: over 255 bytes"},
        {"NameNotUtf8", one(raw({{"path", "\xff\xfe\xe9"}}) + end_mark()), "\xff\xfe\xe9=\n"},
        {"NameNotNormalised", one(raw({{"path", "cafe\xcc\x81"}}) + end_mark()), "cafe\xcc\x81=\n"},
        {"NameWithNewlineAndQuotes", one(raw({{"path", "a\n\"'\\b"}}) + end_mark()),
         "a\n\"'\\b=\n"},
        {"NameLikeAScriptOfDebugfs",
         one(raw({{"path", "x\nset_inode_field / mode 0777\nrm etc"}}) + end_mark()),
         "x\nset_inode_field /\nx\nset_inode_field / mode 0777\nrm etc=\n"},
        {"Depth1025",
         one(raw({{"path",
                   [] {
                       std::string deep;
                       for (int i = 0; i < 1025; ++i)
                           deep += "d/";
                       return deep;
                   }()}}) +
             end_mark()),
         "refused: too deep"},

        // Whiteouts.
        {"WhiteoutOfFile", on(base, {gone("a/", "d")}),
         "a/\na/b/\na/b/c=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"WhiteoutOfFolder", on(base, {gone("", "a")}), "etc/\netc/passwd=1\nl->a/b\n"},
        {"WhiteoutOfNothing", on(base, {gone("", "x"), gone("x/y/", "z")}), base_outline},
        {"WhiteoutInTheBottomLayer", items({file("f"), gone("", "f"), gone("x/", "y")}), "f=1\n"},
        {"WhiteoutOfNoName", on(base, {file(".wh.")}), "refused: no possible name"},
        {"WhiteoutOfDot", on(base, {file("a/.wh..")}), "refused: no possible name"},
        {"WhiteoutOfDotDot", on(base, {file("a/.wh...")}), "refused: no possible name"},
        {"WhiteoutOfWhiteoutName", on(base, {gone("", ".wh.x")}), base_outline},
        {"WhiteoutThatIsAFolder", on(base, {folder("a/.wh.d"), folder("a/.wh.b/sub")}),
         "a/\na/.wh.b/\na/.wh.b/sub/\na/b/\na/b/c=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"WhiteoutThatIsASymlink", on(base, {symlink("a/.wh.d", "/etc/passwd")}),
         "a/\na/b/\na/b/c=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"WhiteoutThatIsAHardLink", on(base, {link("a/.wh.d", "etc/passwd")}),
         "a/\na/b/\na/b/c=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"WhiteoutWithData", on(base, {file("a/.wh.d", std::string(100'000, 'x'))}),
         "a/\na/b/\na/b/c=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"WhiteoutThenAgain", on(base, {gone("", "a"), file("a/new")}),
         "a/\na/new=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"AgainThenWhiteout", on(base, {file("a/new"), gone("", "a")}),
         "a/\na/new=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"WhiteoutOfFileOfThisLayer", on(base, {file("a/d", "2"), gone("a/", "d")}),
         "a/\na/b/\na/b/c=1\na/d=2\netc/\netc/passwd=1\nl->a/b\n"},
        {"WhiteoutsFromInsideOut", on(base, {gone("a/b/", "c"), gone("a/", "b"), gone("", "a")}),
         "etc/\netc/passwd=1\nl->a/b\n"},
        {"WhiteoutOfSymlinkedFolder", on(base, {gone("", "l")}),
         "a/\na/b/\na/b/c=1\na/d=1\netc/\netc/passwd=1\n"},
        {"WhiteoutThroughSymlink", on(base, {gone("l/", "c")}),
         "a/\na/b/\na/d=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"WhiteoutBelowAFile", on(base, {gone("a/d/", "x")}), base_outline},
        {"WhiteoutUp", on(base, {gone("../", "etc")}), "refused: leads out"},
        {"OpaqueRoot", on(base, {file("new"), opaque("")}), "new=1\n"},
        {"OpaqueFirst", on(base, {opaque("a/"), file("a/new")}),
         "a/\na/new=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"OpaqueAfterAdds", on(base, {file("a/b/new"), opaque("a/")}),
         "a/\na/b/\na/b/new=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"OpaqueOfNothing", on(base, {opaque("x/y/")}), base_outline},
        {"OpaqueThroughSymlink", on(base, {opaque("l/")}),
         "a/\na/b/\na/d=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"OpaqueSparesLayersAbove",
         [=] {
             return Layers{base[0], tar({opaque("a/"), file("a/x")}), tar({file("a/y")})};
         },
         "a/\na/x=1\na/y=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"NotesOfAufs", on(base, {file(".wh..wh.aufs"), folder(".wh..wh.plnk")}), base_outline},
        {"WhiteoutOfHardLinkedFile",
         on({tar({file("f"), link("g", "f"), link("h", "f")})}, {gone("", "f")}), "g=1\nh==g\n"},
        {"WhiteoutOfNewNameOfLowerFile", on(base, {link("a/e", "a/d"), opaque("a/")}),
         "a/\na/e=1\netc/\netc/passwd=1\nl->a/b\n"},

        // Symbolic links on the way.
        {"SymlinkPlantedBelow", on({tar({folder("etc"), symlink("x", "/etc")})}, {file("x/p")}),
         "etc/\netc/p=1\nx->/etc\n"},
        {"SymlinkPlantedToTheOutside",
         on({tar({symlink("x", "../../../../../etc")})}, {file("x/p")}),
         "etc/\netc/p=1\nx->../../../../../etc\n"},
        {"SymlinkAndFileInOneLayer", items({symlink("x", "/tmp/y"), file("x/p")}),
         "tmp/\ntmp/y/\ntmp/y/p=1\nx->/tmp/y\n"},
        {"SymlinkThenHardLinkThroughIt", on(base, {link("l/hard", "l/c")}),
         "a/\na/b/\na/b/c=1\na/b/hard==a/b/c\na/d=1\netc/\netc/passwd=1\nl->a/b\n"},
        {"SymlinkReplacesFolder", on(base, {symlink("etc", "/tmp")}),
         "a/\na/b/\na/b/c=1\na/d=1\netc->/tmp\nl->a/b\n"},
        {"SymlinkReplacesFolderThenWrittenThrough",
         on(base, {symlink("etc", "a"), file("etc/passwd", "2")}),
         "a/\na/b/\na/b/c=1\na/d=1\na/passwd=2\netc->a\nl->a/b\n"},
        {"SymlinkReplacesRoot",
         one(raw({}, {.name = "/", .type = '2', .link = "etc"}) + end_mark()),
         "refused: root folder"},
        {"FileReplacesSymlinkNotItsTarget", on(base, {file("l", "2")}),
         "a/\na/b/\na/b/c=1\na/d=1\netc/\netc/passwd=1\nl=2\n"},
        {"FolderReplacesSymlink", on(base, {folder("l"), file("l/x")}),
         "a/\na/b/\na/b/c=1\na/d=1\netc/\netc/passwd=1\nl/\nl/x=1\n"},
        {"FileBecomesFolderAndBack",
         [=] {
             return Layers{tar({file("f")}), tar({folder("f"), file("f/x")}),
                           tar({file("f", "3")})};
         },
         "f=3\n"},
        {"FolderBecomesFileAndBack",
         [=] {
             return Layers{tar({file("d/x")}), tar({file("d")}), tar({folder("d"), file("d/y")})};
         },
         "d/\nd/y=1\n"},
        {"UsrMergeAcrossLayers",
         on(usr_merged, {file("bin/bash"), file("usr/bin/env"), gone("bin/", "sh")}),
         "bin->usr/bin\nusr/\nusr/bin/\nusr/bin/bash=1\nusr/bin/env=1\n"},
        {"UsrMergeInALaterLayer",
         on({tar({file("bin/sh")})},
            {file("usr/bin/sh"), gone("", "bin"), symlink("bin", "usr/bin")}),
         "bin->usr/bin\nusr/\nusr/bin/\nusr/bin/sh=1\n"},
        {"AlternativesAreAbsolute",
         items({symlink("usr/bin/vi", "/etc/alternatives/vi"),
                symlink("etc/alternatives/vi", "/usr/bin/vim.basic")}),
         "etc/\netc/alternatives/\netc/alternatives/vi->/usr/bin/vim.basic\nusr/\nusr/bin/\n"
         "usr/bin/vi->/etc/alternatives/vi\n"},
        {"SymlinkToNowhereIsKept", items({symlink("x", "not/there")}), "x->not/there\n"},
        {"SymlinkLoop", items({symlink("x", "y"), symlink("y", "x"), file("x/f")}),
         "refused: too many symbolic links"},
        {"SymlinkLoopIsKeptWhereNobodyFollows", items({symlink("x", "y"), symlink("y", "x")}),
         "x->y\ny->x\n"},
        {"Symlinks41", one(many_symlinks(41)), "refused: too many symbolic links"},
        {"SymlinkToNothing", one(raw({}, {.type = '2'}) + end_mark()), "refused: to nothing"},
        {"SymlinkOver4095Bytes",
         one(raw({{"linkpath", std::string(4096, 't')}}, {.type = '2'}) + end_mark()),
         "refused: too long"},
        {"FileOnTheWay", items({file("f"), file("f/x")}), "refused: no folder"},

        // Hard links.
        {"HardLinkToTheOutside", items({link("l", "../../etc/passwd")}), "refused: leads out"},
        {"HardLinkToLaterEntry", items({link("l", "later"), file("later")}),
         "refused: not in the archive before it"},
        {"HardLinkToWhatIsGone", on(base, {gone("a/", "d"), link("x", "a/d")}),
         "refused: not in the archive before it"},
        {"HardLinkIntoLayerBelow", on(base, {link("x", "/a/d")}),
         "a/\na/b/\na/b/c=1\na/d=1\netc/\netc/passwd=1\nl->a/b\nx==a/d\n"},
        {"HardLinkOutlivesItsTarget",
         [=] {
             return Layers{base[0], tar({link("x", "a/d")}), tar({gone("a/", "d")})};
         },
         "a/\na/b/\na/b/c=1\netc/\netc/passwd=1\nl->a/b\nx=1\n"},
        {"HardLinkInOneLayerOutlivesItsTarget",
         on({tar({file("f", "data"), link("g", "f")})}, {gone("", "f")}), "g=data\n"},
        {"HardLinkToSymlink", on(base, {link("x", "l")}),
         "a/\na/b/\na/b/c=1\na/d=1\netc/\netc/passwd=1\nl->a/b\nx==l\n"},
        {"HardLinkToItself", items({link("l", "l")}), "refused: not in the archive before it"},
        {"HardLinkToItselfAgain", items({file("f"), link("f", "f")}), "f=1\n"},
        {"HardLinkCycle", items({link("x", "y"), link("y", "x")}),
         "refused: not in the archive before it"},
        {"HardLinkToFolder", on(base, {link("x", "a")}), "refused: link to a folder"},
        {"HardLinkToRoot", items({link("x", "/")}), "refused: not in the archive before it"},
        {"HardLinkToReplacedFile",
         [=] {
             return Layers{tar({file("f", "old"), link("g", "f")}), tar({file("f", "new")})};
         },
         "f=new\ng=old\n"},

        // Types and numbers.
        {"Devices",
         items({{.path = "n", .type = AE_IFCHR, .mode = 0666, .major = 1, .minor = 3},
                {.path = "b", .type = AE_IFBLK, .mode = 0660, .major = 259, .minor = 70000},
                {.path = "p", .type = AE_IFIFO}}),
         "b b259,70000 0660\nn c1,3 0666\np|\n"},
        {"OverlayWhiteoutIsADeviceHere",
         items({{.path = "x", .type = AE_IFCHR, .mode = 0, .major = 0, .minor = 0}}),
         "x c0,0 0000\n"},
        {"TypeUnknown", one(raw({}, {.type = '9'}) + end_mark()), "refused: unknown type"},
        {"TypeOfManyVolumes", one(raw({}, {.type = 'M'}) + end_mark()), "refused: unknown type"},
        {"TypeContiguousIsAFile", one(raw({}, {.type = '7'}) + end_mark()), "file=\n"},
        {"TypeOldIsAFile", one(raw({}, {.type = '\0'}) + end_mark()), "file=\n"},
        {"SetUserIdIsKept", items({{.path = "su", .content = "x", .mode = 06755}}), "su=x 6755\n"},
        {"OwnersOver31Bits", items({{.path = "f", .uid = 4'294'967'294, .gid = 2'147'483'648}}),
         "f= 4294967294:2147483648\n"},
        {"OwnerOver32Bits", one(raw({{"uid", "4294967296"}}) + end_mark()), "refused: uid"},
        {"PaxPathOverrides", one(raw({{"path", "real"}}, {.name = "made-up"}) + end_mark()),
         "real=\n"},
        {"PaxSizeOverrides", one(raw({{"size", "4"}}, {.size = octal(0)}, "four") + end_mark()),
         "file=four\n"},
        {"PaxSizeOverridesLarger",
         one(raw({{"size", "4"}}, {.size = octal(4096)}, "four") + end_mark()), "file=four\n"},
        {"PaxLinkOverrides",
         one(raw({{"linkpath", "real"}}, {.type = '2', .link = "made-up"}) + end_mark()),
         "file->real\n"},
        {"PaxLastOfTwoWins", one(raw({{"path", "one"}, {"path", "two"}}) + end_mark()), "two=\n"},
        {"PaxEmptyIsNone", one(raw({{"path", ""}}) + end_mark()), "file=\n"},
        {"PaxForNextEntryOnly", one(raw({{"uid", "7"}}) + raw({}, {.name = "next"}) + end_mark()),
         "file= 7:0\nnext=\n"},
        {"PaxGlobal",
         one(pax({{"uid", "7"}, {"comment", "git"}}, 'g') + raw({}) +
             raw({{"uid", "8"}}, {.name = "own"}) + end_mark()),
         "file= 7:0\nown= 8:0\n"},
        {"PaxGlobalEndsWithItsLayer",
         [=] {
             return Layers{pax({{"uid", "7"}}, 'g') + raw({}) + end_mark(),
                           raw({}, {.name = "next"}) + end_mark()};
         },
         "file= 7:0\nnext=\n"},
        {"SizeBase256",
         one(raw({}, {.size = std::string("\x80\0\0\0\0\0\0\0\0\0\0\4", 12)}, "four") + end_mark()),
         "file=four\n"},
        {"SizeNegative", one(raw({}, {.size = std::string(12, '\xff')}) + end_mark()),
         "refused: impossible size"},
        {"SizeMoreThanThereIs", one(raw({}, {.size = octal(100'000)}, "x")), "refused: ends early"},
        {"SizeOver16TiB",
         one(raw({{"GNU.sparse.map", ""},
                  {"GNU.sparse.major", "1"},
                  {"GNU.sparse.minor", "0"},
                  {"GNU.sparse.realsize", "17592186044417"}},
                 {.size = octal(512)}, "0\n") +
             end_mark()),
         "refused: larger than ext4 can hold"},
        {"TimeExtremes",
         one(raw({{"mtime", "-9223372036854775808"}}, {.name = "first"}) +
             raw({{"mtime", "9223372036854775807.999999999"}}, {.name = "last"}) + end_mark()),
         "first=\nlast=\n"},
        {"TimeNoNumber", one(raw({{"mtime", "soon"}}) + end_mark()), "refused: impossible time"},
        {"Attributes",
         items({{.path = "f",
                 .attributes = {{"user.a", "1"},
                                {"trusted.overlay.opaque", "y"},
                                {"security.ima", "s"},
                                {"other.x", "gone"}}}}),
         "f= security.ima=s trusted.overlay.opaque=y user.a=1\n"},
        {"AttributesTooLarge",
         items({{.path = "f", .attributes = {{"user.huge", std::string(60'000, 'x')}}}}),
         "refused: ext4 cannot hold"},

        // Bombs.
        {"BombOfGzip",
         one(gzip(tar({file("zeros", std::string(50'000'000, '\0'))}), 1)),
         "refused: more data",
         {.data = ByteCount::mib(8)}},
        {"BombInABomb", one(gzip(tar({file("f")}), 2)), "refused: damaged"},
        {"BombOfEntries",
         one([] {
             std::string all;
             for (int i = 0; i < 2000; ++i)
                 all += RawHeader{.name = std::to_string(i)}.bytes();
             return all + end_mark();
         }()),
         "refused: more entries",
         {.entries = 1999}},
        {"BombOfOneSparseFile",
         one(raw({{"GNU.sparse.major", "1"},
                  {"GNU.sparse.minor", "0"},
                  {"GNU.sparse.name", "ten-terabytes"},
                  {"GNU.sparse.realsize", "10995116277760"}},
                 {.size = octal(516)}, padded("1\n10995116277756\n4\n") + "last") +
             end_mark()),
         "ten-terabytes=\n"},
        {"BombOfRecords",
         one(RawHeader{.type = 'x', .size = octal(5 << 20)}.bytes() +
             std::string(std::size_t{5} << 20, ' ') + end_mark()),
         "refused: over 4 MiB"},
        {"BombOfLayers",
         [] {
             Layers all(300, tar({file("f")}));
             all.push_back(tar({gone("", "f")}));
             return all;
         },
         ""},
    };
}

class LayersCorpusTest : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(Corpus, LayersCorpusTest, testing::ValuesIn(cases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST_P(LayersCorpusTest, HasItsOutcome) {
    const TempFolder folder;
    const std::string path = folder / "image";
    const UniqueFd image(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    std::vector<UniqueFd> layers;
    for (const std::string& layer : GetParam().layers()) {
        ASSERT_FALSE(layer.empty());
        layers.push_back(file_of(layer));
    }
    const Result<Ext4Summary> summary = write_ext4_from_layers(
        layers, image, {.size = ByteCount::mib(64), .limits = GetParam().limits}, {});
    const std::string& outcome = GetParam().outcome;
    if (outcome.starts_with("refused: ")) {
        ASSERT_FALSE(summary) << outline(read_tree(Ext4Reader(path)));
        EXPECT_EQ(summary.error().code, Errc::corrupt);
        EXPECT_THAT(summary.error().message, testing::HasSubstr(outcome.substr(9)));
        EXPECT_FALSE(summary.error().remedy.empty());
        return;
    }
    ASSERT_TRUE(summary) << summary.error().text();
    EXPECT_EQ(outline(read_tree(Ext4Reader(path))), outcome);
    EXPECT_EQ(fsck(path), "");
}

}  // namespace
}  // namespace banger::images
