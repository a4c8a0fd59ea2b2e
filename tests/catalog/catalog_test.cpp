#include "plugins/catalog/catalog.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::catalog {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const std::string data = CATALOG_TEST_DATA;

std::string content_of(const std::string& path) {
    return read_file(path, ByteCount::mib(1)).value();
}

void write(const std::string& path, std::string_view text) {
    std::ofstream(path, std::ios::binary) << text;
}

std::string entry(const std::string& name, const std::string& recipe) {
    return "version: 1\nimages:\n  - {name: " + name +
           ", distro: d, arch: amd64, description: x, recipe: '" + recipe + "'}\n";
}

TEST(Catalog, TakesEverythingThatTheFormatHas) {
    const Result<Index> index = parse_catalog(content_of(data + "/good.yaml"), "f");
    ASSERT_TRUE(index) << index.error().text();
    const std::vector<Entry>* const entries = &index->entries;
    EXPECT_EQ(index->serial, 7u);
    EXPECT_EQ(index->expires, std::chrono::sys_days(std::chrono::year(2027) / 6 / 30));
    ASSERT_EQ(entries->size(), 5u);
    EXPECT_EQ(std::get<Bundle>(entries->at(4).content).url, "kernels/near.tar.zst");
    const Entry& base = entries->at(0);
    EXPECT_EQ(base.kind, ArtifactKind::image);
    EXPECT_EQ(base.name.str(), "team-base");
    EXPECT_EQ(base.architecture, "amd64");
    EXPECT_EQ(base.distro, "debian-12");
    EXPECT_EQ(base.description, "what the team works on: all of it");
    EXPECT_EQ(base.kernel, "debian-cloud");
    const Bundle& bundle = std::get<Bundle>(base.content);
    EXPECT_EQ(bundle.url, "https://images.example/team-base.tar.zst");
    EXPECT_EQ(bundle.size, ByteCount::mib(700));
    EXPECT_EQ(bundle.digest.hex().substr(0, 8), "01234567");
    EXPECT_EQ(std::get<Recipe>(entries->at(1).content).reference, "alpine:3.20");
    EXPECT_EQ(entries->at(2).architecture, "arm64");
    EXPECT_EQ(entries->at(3).kind, ArtifactKind::kernel);
}

/// Each bad/NAME.yaml has its message in bad/NAME.error, "FILE" standing for the file.
TEST(Catalog, SaysWhereABadFileIsWrongAndWhatToDo) {
    int count = 0;
    const std::vector<std::string> names = list_folder(data + "/bad").value();
    for (const std::string& name : names) {
        if (!name.ends_with(".yaml")) continue;
        ++count;
        const std::string stem = data + "/bad/" + name.substr(0, name.size() - 5);
        const Result<Index> entries = parse_catalog(content_of(stem + ".yaml"), "FILE");
        ASSERT_FALSE(entries) << name;
        EXPECT_THAT(entries.error().message, HasSubstr(content_of(stem + ".error"))) << name;
        EXPECT_THAT(entries.error().message, HasSubstr("FILE:")) << name;
        EXPECT_THAT(entries.error().remedy, Not(IsEmpty())) << name;
        EXPECT_TRUE(std::ranges::none_of(entries.error().message, [](unsigned char c) {
            return c < 0x20;
        })) << name;
    }
    EXPECT_GE(count, 30);
}

TEST(Catalog, RefusesABombBeforeItBuildsATree) {
    EXPECT_FALSE(parse_catalog(std::string(2 << 20, '#'), "f")) << "too large";
    EXPECT_FALSE(parse_catalog(std::string(500000, '['), "f")) << "too deep";
    EXPECT_FALSE(parse_catalog(
        "version: 1\nimages:\n" + std::string(1000, ' ') + "- " + std::string(900000, '{'), "f"));
    std::string many = "version: 1\nimages:\n";
    for (int i = 0; i < 100000; ++i)
        many += "  - a\n";
    const Result<Index> entries = parse_catalog(many, "f");
    ASSERT_FALSE(entries);
    EXPECT_THAT(entries.error().message, HasSubstr("more entries"));
}

TEST(Catalog, EveryCutOfAGoodFileIsAnswered) {
    const std::string whole = content_of(data + "/good.yaml");
    int good = 0;
    for (std::size_t length = 0; length <= whole.size(); ++length)
        if (parse_catalog(whole.substr(0, length), "f")) ++good;
    EXPECT_GE(good, 1);
    for (std::size_t at = 0; at < whole.size(); at += 3)
        for (const char c : {'\0', '\xff', '"', '&', '*', '{', '\n', '\t'}) {
            std::string changed = whole;
            changed[at] = c;
            const Result<Index> entries = parse_catalog(changed, "f");
            EXPECT_TRUE(entries || entries.error().code != Errc::internal);
        }
}

TEST(Catalog, ARelativePathStaysBelowItsFolder) {
    for (const char* path : {"a", "a.tar.zst", "images/a-1.2_3+x.tar.zst", "a/b/c"})
        EXPECT_TRUE(is_relative_path(path)) << path;
    for (const char* path :
         {"",   "/",    "/a", "a/",   "a//b", ".",    "..",  "../a", "a/../b", "a/..",
          ".a", "a/.b", "-a", "a/-b", "a b",  "a\\b", "a?b", "a%2e", "C:a",    "a\nb"})
        EXPECT_FALSE(is_relative_path(path)) << path;
}

TEST(Catalog, SerialAndDayAreWhatTheySay) {
    const auto with = [](const std::string& line) {
        return parse_catalog("version: 1\n" + line + "\nimages: []\n", "f");
    };
    EXPECT_EQ(with("serial: 2027010101")->serial, 2027010101u);
    EXPECT_TRUE(with("expires: 2028-02-29"));
    for (const char* line : {"serial: 0", "serial: -1", "serial: 1.0", "serial: 0x1", "serial: x",
                             "serial: []", "serial: 99999999999999999999", "expires: 2027-02-29",
                             "expires: 2027-2-1", "expires: 01-02-2027", "expires: 2027-13-01",
                             "expires: never", "expires: 2027-06-30T00"}) {
        const Result<Index> index = with(line);
        ASSERT_FALSE(index) << line;
        EXPECT_THAT(index.error().message, HasSubstr("f:2: "));
        EXPECT_FALSE(index.error().remedy.empty());
    }
}

TEST(Catalogs, TheBuiltInOneHasTheNamesThatTheProductPromises) {
    const Catalogs all = load_catalogs({}, {}, {});
    EXPECT_THAT(all.broken, IsEmpty());
    for (const char* name : {"debian-bookworm", "debian-bookworm-slim"}) {
        const Listed* image = all.find(ArtifactKind::image, name, "amd64");
        ASSERT_NE(image, nullptr) << name;
        EXPECT_EQ(image->entry.kernel, "debian-cloud");
    }
    const Listed* kernel = all.find(ArtifactKind::kernel, "debian-cloud", "amd64");
    ASSERT_NE(kernel, nullptr);
    EXPECT_EQ(std::get<Recipe>(kernel->entry.content).reference, "debian-kernel:bookworm-cloud");
    EXPECT_EQ(all.find(ArtifactKind::kernel, "debian-bookworm", "amd64"), nullptr);
    EXPECT_EQ(all.find(ArtifactKind::image, "debian-bookworm", "arm64"), nullptr);
}

TEST(Catalogs, ALaterFileReplacesAnEarlierEntry) {
    const TempFolder folder;
    write(folder / "one.yaml", entry("debian-bookworm", "first:x"));
    write(folder / "two.yaml", entry("debian-bookworm", "second:x"));
    const Catalogs all = load_catalogs({folder / "one.yaml", folder / "two.yaml"}, {}, {});
    const Listed* found = all.find(ArtifactKind::image, "debian-bookworm", "amd64");
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(std::get<Recipe>(found->entry.content).reference, "second:x");
    EXPECT_EQ(
        std::ranges::count_if(
            all.entries, [](const Listed& e) { return e.entry.name.str() == "debian-bookworm"; }),
        1);
}

TEST(Catalogs, ABrokenFileTakesNothingFromTheOthers) {
    const TempFolder folder;
    write(folder / "bad.yaml", entry("debian-bookworm", "hijacked:x") + "  - {}\n");
    write(folder / "good.yaml", entry("mine", "x:y"));
    const Catalogs all = load_catalogs(
        {folder / "bad.yaml", folder / "missing.yaml", "relative.yaml", folder / "good.yaml"}, {},
        {});
    EXPECT_EQ(all.broken.size(), 3u);
    for (const BrokenCatalog& broken : all.broken)
        EXPECT_THAT(broken.error.remedy, Not(IsEmpty())) << broken.file;
    EXPECT_NE(all.find(ArtifactKind::image, "mine", "amd64"), nullptr);
    const Listed* found = all.find(ArtifactKind::image, "debian-bookworm", "amd64");
    ASSERT_NE(found, nullptr);
    EXPECT_NE(std::get<Recipe>(found->entry.content).reference, "hijacked:x");
}

}  // namespace
}  // namespace banger::catalog
