#include "core/config/edit.hpp"

#include <gmock/gmock.h>

namespace banger {
namespace {

using testing::HasSubstr;

std::string after(const std::string& text, const std::string& key, const SettingValue& value) {
    const Result<std::string> result = set_value(text, "config.toml", "plugins", key, value);
    return result ? *result : "(" + result.error().text() + ")";
}

const std::vector<std::string> two{"catalog", "mine"};

TEST(Edit, AnEmptyFileGetsSectionAndKey) {
    EXPECT_EQ(after("", "storage", "mine"), "[plugins]\nstorage = \"mine\"\n");
}

TEST(Edit, AFileWithoutTheSectionKeepsAllAndGetsItAtTheEnd) {
    EXPECT_EQ(after("# mine\nlog_level = \"debug\"  # loud", "dns", "names"),
              "# mine\nlog_level = \"debug\"  # loud\n\n[plugins]\ndns = \"names\"\n");
}

TEST(Edit, OnlyTheValueIsReplaced) {
    const std::string text =
        "[vm_defaults]\nvcpu = 2\n\n# who does what\n[plugins]   # roles\n"
        "  storage   =  'old'   # why: the btrfs disk\nnetwork = \"net-user\"\n\n[plugin.x]\na = "
        "1\n";
    std::string wanted = text;
    wanted.replace(wanted.find("'old'"), 5, "\"new\"");
    EXPECT_EQ(after(text, "storage", "new"), wanted);
}

TEST(Edit, AListOverSeveralLinesIsOneValue) {
    EXPECT_EQ(
        after("[plugins]\nimage_sources = [\n  \"catalog\",  # names\n  \"old\",\n]\ndns = \"d\"\n",
              "image_sources", two),
        "[plugins]\nimage_sources = [\"catalog\", \"mine\"]\ndns = \"d\"\n");
}

TEST(Edit, AMissingKeyComesBelowTheHeader) {
    EXPECT_EQ(after("[plugins] # roles\nnetwork = \"n\"\n", "storage", "s"),
              "[plugins] # roles\nstorage = \"s\"\nnetwork = \"n\"\n");
    EXPECT_EQ(after("[plugins]", "storage", "s"), "[plugins]\nstorage = \"s\"\n");
}

TEST(Edit, CharactersOfSeveralBytesBeforeTheValueAreCountedRight) {
    EXPECT_EQ(
        after("# größer → €\n[plugins]\n\"storage\" = \"ö€\" # ö\ndns = \"d\"\n", "storage", "s"),
        "# größer → €\n[plugins]\n\"storage\" = \"s\" # ö\ndns = \"d\"\n");
    EXPECT_EQ(after("plugins = { dns = \"€\", storage = \"x\" }\n", "storage", "s"),
              "plugins = { dns = \"€\", storage = \"s\" }\n");
}

TEST(Edit, LineEndsOfDosStay) {
    EXPECT_EQ(after("[plugins]\r\nstorage = \"x\"\r\n", "storage", "s"),
              "[plugins]\r\nstorage = \"s\"\r\n");
}

TEST(Edit, WhatHasNoLineToAddToIsLeftToThePerson) {
    for (const char* text :
         {"plugins = { dns = \"d\" }\n", "plugins.dns = \"d\"\n", "plugins = 1\n"}) {
        const std::string said = after(text, "storage", "s");
        EXPECT_THAT(said, HasSubstr("has no line [plugins]")) << text;
        EXPECT_THAT(said, HasSubstr("plugins.storage = \"s\"")) << text;
    }
}

TEST(Edit, WhatIsNotTomlIsRefusedWithItsLine) {
    EXPECT_THAT(after("[plugins]\nstorage = x y\n", "dns", "d"),
                HasSubstr("config.toml:2: not TOML"));
}

TEST(Edit, TwiceIsOnce) {
    const std::string once = after("# c\n[plugins]\n", "image_sources", two);
    EXPECT_EQ(after(once, "image_sources", two), once);
}

}  // namespace
}  // namespace banger
