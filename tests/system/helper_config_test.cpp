#include "core/system/helper_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/base/temp_folder.hpp"

namespace banger::system {
namespace {

using ::testing::HasSubstr;

const Owner owner{"dev", 1000, 1001, "/home/dev"};

Manifest manifest(const std::string& text) {
    Result<Manifest> parsed = parse_manifest(text, "test.toml");
    EXPECT_TRUE(parsed) << parsed.error().text();
    return *parsed;
}

std::string plugin(const std::string& name, const std::string& role, const std::string& privilege,
                   const std::string& more = "") {
    return "name = \"" + name + "\"\nversion = \"1\"\nsummary = \"s\"\nroles = [\"" + role +
           "\"]\nprivilege = \"" + privilege + "\"\napi_version = 1\n" + more;
}

std::vector<Manifest> all_plugins() {
    return {manifest(plugin("net-bridge", "network", "root",
                            "[settings.bridge_name]\ntype = \"string\"\ndefault = \"x\"\n"
                            "description = \"d\"\n"
                            "[settings.bridge_address]\ntype = \"string\"\ndefault = \"\"\n"
                            "description = \"d\"\n"
                            "[settings.isolate]\ntype = \"bool\"\ndefault = true\n"
                            "description = \"d\"\n")),
            manifest(plugin("storage-dm", "storage", "root")),
            manifest(plugin("dns-resolved", "dns", "root",
                            "[settings.dns_port]\ntype = \"integer\"\ndefault = 53\n"
                            "description = \"d\"\n")),
            manifest(plugin("vmm-qemu", "vm-backend", "none")),
            manifest(plugin("catalog", "image-source", "none")),
            manifest(plugin("image-debian", "image-source", "none")),
            manifest(plugin("image-oci", "image-source", "none"))};
}

Config config(const std::string& text) {
    Result<Config> parsed =
        parse_config({{"/etc/banger/config.toml", text}},
                     {.mode = RunMode::system, .home = "/home/dev", .default_ssh_key = "/k"});
    EXPECT_TRUE(parsed) << parsed.error().text();
    return *parsed;
}

TEST(HelperConfigTest, HasTheOwnerAndThePluginsThatNeedRoot) {
    const Result<std::string> text = helper_config(
        owner,
        config("bridge_ip = \"10.9.0.1\"\ncidr = 16\n[plugin.net-bridge]\nisolate = false\n"),
        all_plugins(), {});
    ASSERT_TRUE(text) << text.error().text();
    EXPECT_EQ(*text, R"({
  "owner_uid": 1000,
  "owner_gid": 1001,
  "plugins": [
    {
      "name": "net-bridge",
      "settings": {
        "bridge_address": "10.9.0.1/16",
        "bridge_name": "banger0",
        "isolate": false
      }
    },
    {
      "name": "storage-dm",
      "settings": {}
    },
    {
      "name": "dns-resolved",
      "settings": {
        "dns_port": 42069
      }
    }
  ]
}
)");
}

TEST(HelperConfigTest, FirecrackerIsServedWhoeverIsTheDefault) {
    std::vector<Manifest> plugins = all_plugins();
    plugins.push_back(manifest(plugin("vmm-firecracker", "vm-backend", "root") +
                               "[settings.firecracker_bin]\ntype = \"string\"\ndefault = \"\"\n"
                               "description = \"d\"\n[settings.owner_uid]\n"
                               "type = \"integer\"\ndefault = 0\ndescription = \"d\"\n"));
    const Result<std::string> text =
        helper_config(owner, config("firecracker_bin = \"/opt/firecracker\"\n"), plugins, {});
    ASSERT_TRUE(text) << text.error().text();
    EXPECT_THAT(*text, HasSubstr(R"("name": "vmm-firecracker")"));
    EXPECT_THAT(*text, HasSubstr(R"("firecracker_bin": "/opt/firecracker")"));
    EXPECT_THAT(*text, HasSubstr(R"("owner_uid": 1000
      })"));
}

TEST(HelperConfigTest, APluginThatIsNotChosenIsNotLoaded) {
    const Result<std::string> text = helper_config(
        owner, config("[plugins]\ndns = \"none\"\nstorage = \"vmm-qemu\"\n"), all_plugins(), {});
    ASSERT_TRUE(text) << text.error().text();
    EXPECT_THAT(*text, HasSubstr("net-bridge"));
    EXPECT_THAT(*text, ::testing::Not(HasSubstr("storage-dm")));
    EXPECT_THAT(*text, ::testing::Not(HasSubstr("dns-resolved")));
    EXPECT_THAT(*text, ::testing::Not(HasSubstr("vmm-qemu")));
}

TEST(HelperConfigTest, WhatIsWrongIsSaidBeforeAnythingIsMade) {
    const Result<std::string> missing =
        helper_config(owner, config("[plugins]\nnetwork = \"net-bridges\"\n"), all_plugins(), {});
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, Errc::not_found);
    EXPECT_THAT(missing.error().message, HasSubstr("net-bridges"));
    EXPECT_THAT(missing.error().remedy, HasSubstr("net-bridge,"));
    const Result<std::string> wrong =
        helper_config(owner, config("[plugin.net-bridge]\nisolate = 3\n"), all_plugins(), {});
    ASSERT_FALSE(wrong);
    EXPECT_THAT(wrong.error().message, HasSubstr("plugin.net-bridge.isolate"));
}

TEST(HelperConfigTest, TheOwnersOwnFileIsNotRead) {
    TempFolder folder;
    const Layout layout = Layout::at(folder.path());
    ASSERT_TRUE(ensure_folder(folder / "home/.config/banger", 0755));
    ASSERT_TRUE(ensure_folder(layout.etc, 0755));
    ASSERT_TRUE(write_file_atomic(folder / "home/.config/banger/config.toml",
                                  "bridge_name = \"banger7\"\n", 0644));
    ASSERT_TRUE(write_file_atomic(layout.config, "dns_port = 5353\n", 0644));
    const Result<Config> read = load_system_config(layout, {"dev", 1000, 1000, folder / "home"});
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(*read->bridge_name, "banger0");
    EXPECT_EQ(*read->dns_port, 5353);
    EXPECT_EQ(read->mode, RunMode::system);
}

}  // namespace
}  // namespace banger::system
