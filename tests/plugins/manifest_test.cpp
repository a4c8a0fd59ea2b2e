#include "core/plugins/manifest.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace banger {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* good = R"(name = "net-user"
version = "0.1.0"
summary = "user-mode networking"
roles = ["vm-backend", "network"]
privilege = "none"
api_version = 1

[settings.guest_address]
type = "string"
default = "10.0.2.15"
description = "what every guest has"

[settings.mode]
type = "string"
default = "fast"
allowed = ["fast", "safe"]
description = "how"

[settings.ports]
type = "integer"
default = 8
minimum = 1
maximum = 64
description = "how many"

[settings.trace]
type = "bool"
default = false
description = "say more"

[settings.names]
type = "list"
default = []
description = "whose"
)";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, text.npos) << from;
    return text.replace(at, from.size(), to);
}

TEST(manifest, a_good_one_is_read_whole) {
    const Result<Manifest> manifest = parse_manifest(good, "net-user.toml");
    ASSERT_TRUE(manifest) << manifest.error().text();
    EXPECT_EQ(manifest->name.str(), "net-user");
    EXPECT_EQ(manifest->version, "0.1.0");
    EXPECT_EQ(manifest->summary, "user-mode networking");
    EXPECT_THAT(manifest->roles, ElementsAre(Role::network, Role::vm_backend));
    EXPECT_EQ(manifest->privilege, Privilege::none);
    EXPECT_EQ(manifest->api_version, 1u);
    ASSERT_EQ(manifest->settings.size(), 5u);
    const SettingSchema& ports = manifest->settings.at("ports");
    EXPECT_EQ(ports.type, SettingType::integer);
    EXPECT_EQ(ports.default_value, SettingValue(std::int64_t{8}));
    EXPECT_EQ(ports.minimum, 1);
    EXPECT_EQ(ports.maximum, 64);
    EXPECT_THAT(manifest->settings.at("mode").allowed, ElementsAre("fast", "safe"));
    EXPECT_EQ(manifest->settings.at("trace").default_value, SettingValue(false));
}

TEST(manifest, privilege_root_and_no_settings) {
    const std::string text = R"(name = "net-bridge"
version = "1"
summary = "s"
roles = ["network"]
privilege = "root"
api_version = 1
)";
    const Result<Manifest> manifest = parse_manifest(text, "f");
    ASSERT_TRUE(manifest) << manifest.error().text();
    EXPECT_EQ(manifest->privilege, Privilege::root);
    EXPECT_TRUE(manifest->settings.empty());
}

struct BadManifest {
    const char* name;
    const char* from;
    const char* to;
    const char* message;  ///< begins with it
    const char* remedy;   ///< contains it
    friend std::ostream& operator<<(std::ostream& out, const BadManifest& bad) {
        return out << bad.name;
    }
};

class bad_manifest : public testing::TestWithParam<BadManifest> {};

TEST_P(bad_manifest, is_refused_with_line_and_remedy) {
    const BadManifest& bad = GetParam();
    const Result<Manifest> manifest = parse_manifest(replaced(good, bad.from, bad.to), "m.toml");
    ASSERT_FALSE(manifest);
    EXPECT_THAT(manifest.error().message, StartsWith(bad.message));
    EXPECT_THAT(manifest.error().remedy, HasSubstr(bad.remedy));
}

INSTANTIATE_TEST_SUITE_P(
    each, bad_manifest,
    testing::Values(
        BadManifest{"unknown_key", "summary =", "sumary =", "m.toml:3: unknown key \"sumary\"",
                    "summary"},
        BadManifest{"missing_key", "version = \"0.1.0\"", "",
                    "m.toml:1: the key \"version\" is missing", "Add it"},
        BadManifest{"name_with_a_slash", "\"net-user\"", "\"../user\"", "m.toml:1: \"../user\"",
                    "lower-case"},
        BadManifest{"empty_version", "\"0.1.0\"", "\"\"", "m.toml:2: \"version\" must be",
                    "Correct"},
        BadManifest{"name_of_another_type", "\"net-user\"", "7", "m.toml:1: \"name\" must be",
                    "Correct"},
        BadManifest{"unknown_role", "[\"vm-backend\", \"network\"]", "[\"netwrok\"]",
                    "m.toml:4: \"netwrok\" is no role", "network"},
        BadManifest{"role_twice", "[\"vm-backend\", \"network\"]", "[\"dns\", \"dns\"]",
                    "m.toml:4: the role \"dns\" stands twice", "once"},
        BadManifest{"no_role", "[\"vm-backend\", \"network\"]", "[]",
                    "m.toml:4: the plugin fills no role", "image-source"},
        BadManifest{"roles_of_numbers", "[\"vm-backend\", \"network\"]", "[1]",
                    "m.toml:4: \"roles\" must be", "Correct"},
        BadManifest{"unknown_privilege", "\"none\"", "\"some\"",
                    "m.toml:5: the privilege is \"some\"", "none or root"},
        BadManifest{"api_version_zero", "api_version = 1", "api_version = 0",
                    "m.toml:6: the api_version is 0", "1"},
        BadManifest{"api_version_huge", "api_version = 1", "api_version = 99999999999",
                    "m.toml:6: the api_version is 99999999999", "1"},
        BadManifest{"api_version_text", "api_version = 1", "api_version = \"1\"",
                    "m.toml:6: \"api_version\" must be an integer", "Correct"},
        BadManifest{"settings_no_table", "[settings.guest_address]", "settings = 1\n[other]",
                    "m.toml:", ""},
        BadManifest{"unknown_setting_key", "minimum = 1", "minimun = 1",
                    "m.toml:22: unknown key \"settings.ports.minimun\"", "minimum"},
        BadManifest{"unknown_type", "type = \"integer\"", "type = \"int\"",
                    "m.toml:20: \"settings.ports.type\" is \"int\"", "integer"},
        BadManifest{"default_of_another_type", "default = 8", "default = \"8\"",
                    "m.toml:21: \"settings.ports.default\" must be an integer", "Correct"},
        BadManifest{"default_below_minimum", "default = 8", "default = 0",
                    "m.toml:21: \"settings.ports.default\" is 0", "at least 1"},
        BadManifest{"default_not_allowed", "default = \"fast\"", "default = \"fats\"",
                    "m.toml:15: \"settings.mode.default\" cannot be \"fats\"", "fast"},
        BadManifest{"range_of_a_string", "allowed = [\"fast\", \"safe\"]", "minimum = 3",
                    "m.toml:16: \"settings.mode.minimum\" is for integers", "Remove"},
        BadManifest{"words_of_an_integer", "minimum = 1", "allowed = [\"1\"]",
                    "m.toml:22: \"settings.ports.allowed\" is for strings", "Remove"},
        BadManifest{"no_description", "description = \"how\"", "",
                    "m.toml:13: the key \"settings.mode.description\" is missing", "Add"},
        BadManifest{"no_toml", "version =", "version ==", "m.toml:2: ", "TOML"},
        BadManifest{"key_twice", "version = \"0.1.0\"", "name = \"again\"", "m.toml:2: ", "TOML"}),
    [](const auto& row) { return std::string(row.param.name); });

/// The good one with a program and a sandbox.
Result<Manifest> with_sandbox(const std::string& sandbox,
                              const std::string& executable = "net-user.py") {
    return parse_manifest(
        replaced(good, "api_version = 1", "api_version = 1\nexecutable = \"" + executable + "\"") +
            "[sandbox]\n" + sandbox,
        "m.toml");
}

TEST(manifest, a_sandbox_is_what_it_asks_for) {
    const Result<Manifest> manifest = with_sandbox(
        "read = [\"/srv/images\", \"{names}\"]\nwrite = [\"{mode}\"]\nnetwork = true\n"
        "memory = \"128M\"\n");
    ASSERT_TRUE(manifest) << manifest.error().text();
    EXPECT_EQ(manifest->executable, "net-user.py");
    EXPECT_TRUE(manifest->sandbox.network);
    EXPECT_EQ(manifest->sandbox.memory, ByteCount::mib(128));
    const Settings settings{{"names", std::vector<std::string>{"/a", "", "/b/c"}},
                            {"mode", std::string("../x")}};
    const Result<std::vector<std::string>> read = resolve_paths(manifest->sandbox.read, settings);
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(*read, (std::vector<std::string>{"/srv/images", "/a", "/b/c"}));
    EXPECT_EQ(resolve_paths(manifest->sandbox.write, settings).error().code,
              Errc::invalid_argument);
    const Result<Manifest> plain = parse_manifest(good, "m.toml");
    EXPECT_EQ(plain->executable, "");
    EXPECT_FALSE(plain->sandbox.network);
}

TEST(manifest, a_sandbox_that_is_wrong_is_refused) {
    for (const char* sandbox :
         {"reed = []", "read = [\"srv\"]", "read = [\"/srv/../etc\"]", "read = [\"{nothing}\"]",
          "write = [\"{ports}\"]", "write = [\"/a\\u0007\"]", "network = 1", "memory = \"1M\"",
          "memory = 5", "read = \"/a\""}) {
        const Result<Manifest> manifest = with_sandbox(sandbox);
        ASSERT_FALSE(manifest) << sandbox;
        EXPECT_THAT(manifest.error().message, HasSubstr("sandbox.")) << sandbox;
        EXPECT_FALSE(manifest.error().remedy.empty()) << sandbox;
    }
    for (const char* executable : {"../sh", "/bin/sh", "-c", ".hidden", "a b", "x.so", "x.toml"})
        EXPECT_FALSE(with_sandbox("", executable)) << executable;
    EXPECT_FALSE(parse_manifest(replaced(good, "\"none\"", "\"root\"") + "[sandbox]\n", "m.toml"));
}

TEST(manifest, hostile_bytes_are_refused) {
    EXPECT_FALSE(parse_manifest("", "f"));
    EXPECT_FALSE(parse_manifest(std::string_view("\0\0\0", 3), "f"));
    EXPECT_FALSE(parse_manifest("\xff\xfe\x00name = 1", "f"));
    EXPECT_FALSE(parse_manifest("a = " + std::string(10'000, '['), "f"));
    EXPECT_FALSE(parse_manifest("a" + std::string(10'000, '.') + "b = 1", "f"));
}

TEST(settings, defaults_are_filled_in) {
    const Manifest manifest = parse_manifest(good, "f").value();
    const Result<Settings> settings =
        check_settings(manifest, {{"mode", std::string("safe")}, {"ports", std::int64_t{64}}});
    ASSERT_TRUE(settings) << settings.error().text();
    EXPECT_EQ(settings->size(), 5u);
    EXPECT_EQ(settings->at("mode"), SettingValue(std::string("safe")));
    EXPECT_EQ(settings->at("ports"), SettingValue(std::int64_t{64}));
    EXPECT_EQ(settings->at("guest_address"), SettingValue(std::string("10.0.2.15")));
}

TEST(settings, what_does_not_fit_is_refused_by_name) {
    const Manifest manifest = parse_manifest(good, "f").value();
    struct Bad {
        Settings settings;
        const char* message;
        const char* remedy;
    };
    const Bad cases[] = {
        {{{"moed", std::string("safe")}}, "unknown key \"plugin.net-user.moed\"", "mode"},
        {{{"mode", true}}, "\"plugin.net-user.mode\" must be a string", "Correct"},
        {{{"mode", std::string("saef")}}, "\"plugin.net-user.mode\" cannot be \"saef\"", "safe"},
        {{{"ports", std::int64_t{0}}}, "\"plugin.net-user.ports\" is 0", "at least 1"},
        {{{"ports", std::int64_t{65}}}, "\"plugin.net-user.ports\" is 65", "at most 64"},
        {{{"trace", std::string("yes")}},
         "\"plugin.net-user.trace\" must be true or false",
         "Correct"},
        {{{"names", std::string("one")}}, "\"plugin.net-user.names\" must be a list", "Correct"},
    };
    for (const Bad& bad : cases) {
        const Result<Settings> settings = check_settings(manifest, bad.settings);
        ASSERT_FALSE(settings) << bad.message;
        EXPECT_EQ(settings.error().code, Errc::invalid_argument);
        EXPECT_THAT(settings.error().message, StartsWith(bad.message));
        EXPECT_THAT(settings.error().remedy, HasSubstr(bad.remedy));
    }
}

}  // namespace
}  // namespace banger
