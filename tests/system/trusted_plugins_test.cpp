#include "core/plugins/trusted_plugins.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.hpp"
#include "core/system/helper_config.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::system {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const Owner owner{"dev", 1000, 1000, "/home/dev"};

std::string manifest_text(const std::string& name, const std::string& role,
                          const std::string& privilege) {
    return "name = \"" + name + "\"\nversion = \"1\"\nsummary = \"s\"\nroles = [\"" + role +
           "\"]\nprivilege = \"" + privilege + "\"\napi_version = 1\n";
}

/// An installed host, with a stranger's network plugin that root has put beside banger's own.
class TrustedPluginsTest : public ::testing::Test {
protected:
    void SetUp() override {
        for (const std::string& folder : {layout_.plugins, layout_.etc})
            ASSERT_TRUE(ensure_folder(folder, 0755));
        put(layout_.plugins + "/net-other.toml", manifest_text("net-other", "network", "root"));
        put(library_, library("net_other"));
        for (const auto& [name, role] : {std::pair{"storage-dm", "storage"},
                                         {"vmm-qemu", "vm-backend"},
                                         {"catalog", "image-source"},
                                         {"image-debian", "image-source"},
                                         {"image-oci", "image-source"}})
            release_.manifests.push_back(
                parse_manifest(manifest_text(name, role, name[0] == 's' ? "root" : "none"), name)
                    .value());
        release_.manifests.push_back(
            parse_manifest(manifest_text("net-other", "network", "root"), "x").value());
        config_ =
            parse_config({{"/etc/banger/config.toml",
                           "[plugins]\nnetwork = \"net-other\"\ndns = \"none\"\n"}},
                         {.mode = RunMode::system, .home = "/home/dev", .default_ssh_key = "/k"})
                .value();
    }
    static std::string library(const std::string& name) {
        return read_file(LIBRARIES "/" + name + ".so", ByteCount::mib(16)).value();
    }
    static void put(const std::string& path, const std::string& text) {
        ASSERT_TRUE(write_file_atomic(path, text, 0644));
    }
    Result<AllowedPlugin> trust(const std::string& name = "net-other") {
        return trust_plugin(layout_, PluginName::parse(name).value(), ::geteuid());
    }
    Result<std::string> configure() {
        Release release = release_;
        return helper_config_of(layout_, owner, *config_, release, ::geteuid());
    }
    void expect_refused(const Result<std::string>& text, const std::string& reason,
                        const std::string& remedy) {
        ASSERT_FALSE(text);
        EXPECT_THAT(text.error().message, HasSubstr(reason));
        EXPECT_THAT(text.error().remedy, HasSubstr(remedy));
    }

    TempFolder folder_;
    Layout layout_ = Layout::at(folder_.path());
    const std::string library_ = layout_.plugins + "/net-other.so";
    Release release_;
    std::optional<Config> config_;
};

TEST_F(TrustedPluginsTest, AStrangerIsTheHelpersOnlyWithRootsWord) {
    expect_refused(configure(), "net-other.so: it is a third party's and would run as root",
                   "sudo banger plugin trust net-other");
    const Result<AllowedPlugin> files = trust();
    ASSERT_TRUE(files) << files.error().text();
    const Result<std::string> text = configure();
    ASSERT_TRUE(text) << text.error().text();
    EXPECT_THAT(*text, HasSubstr(R"("name": "net-other",
      "settings": {},
      "digest": ")" + files->files.digest()->str() +
                                 "\""));
    EXPECT_THAT(*text, HasSubstr("storage-dm"));
    EXPECT_EQ(text->find("\"digest\""), text->rfind("\"digest\"")) << "of the stranger alone";
    struct stat status {};
    ASSERT_EQ(::stat(layout_.trusted_plugins.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0644u);

    const PluginName name = PluginName::parse("net-other").value();
    EXPECT_TRUE(distrust_plugin(layout_, name, ::geteuid()).value());
    EXPECT_FALSE(distrust_plugin(layout_, name, ::geteuid()).value());
    expect_refused(configure(), "which root has not allowed", "plugin trust net-other");
}

TEST_F(TrustedPluginsTest, OtherBytesNeedAnotherWord) {
    ASSERT_TRUE(trust());
    put(library_, library("net_runpath"));
    expect_refused(configure(), "no longer the one that root allowed", "plugin trust net-other");
    put(library_, library("net_other"));
    EXPECT_TRUE(configure());
}

TEST_F(TrustedPluginsTest, WhatIsChosenIsNotTouchedByAnInstallation) {
    ASSERT_TRUE(trust());
    Release release = release_;
    ASSERT_TRUE(helper_config_of(layout_, owner, *config_, release, ::geteuid()));
    for (const Manifest& manifest : release.manifests)
        EXPECT_NE(manifest.name.str(), "net-other");
    EXPECT_EQ(release.manifests.size(), release_.manifests.size() - 1);
}

TEST_F(TrustedPluginsTest, AStrangerThatNobodyChoseIsLeftOut) {
    Release release = release_;
    const Config other =
        parse_config(
            {{"/etc/banger/config.toml", "[plugins]\nnetwork = \"vmm-qemu\"\ndns = \"none\"\n"}},
            {.mode = RunMode::system, .home = "/home/dev", .default_ssh_key = "/k"})
            .value();
    const Result<std::string> text = helper_config_of(layout_, owner, other, release, ::geteuid());
    ASSERT_TRUE(text) << text.error().text();
    EXPECT_THAT(*text, Not(HasSubstr("net-other")));
}

TEST_F(TrustedPluginsTest, WhatOthersCanChangeIsNotTrusted) {
    ASSERT_EQ(::chmod(library_.c_str(), 0666), 0);
    Result<AllowedPlugin> files = trust();
    ASSERT_FALSE(files);
    EXPECT_THAT(files.error().message, HasSubstr("can be written by others"));
    ASSERT_EQ(::chmod(library_.c_str(), 0644), 0);

    ASSERT_EQ(::rename(library_.c_str(), (folder_ / "x").c_str()), 0);
    ASSERT_EQ(::symlink((folder_ / "x").c_str(), library_.c_str()), 0);
    files = trust();
    ASSERT_FALSE(files);
    EXPECT_THAT(files.error().message, HasSubstr("symbolic link"));
    ASSERT_EQ(::rename((folder_ / "x").c_str(), library_.c_str()), 0);

    ASSERT_EQ(::chmod(layout_.plugins.c_str(), 0777), 0);
    files = trust();
    ASSERT_FALSE(files);
    EXPECT_THAT(files.error().message, HasSubstr("can be written by others"));
}

TEST_F(TrustedPluginsTest, ALibraryThatBringsOthersCodeAlongIsNotTrusted) {
    put(library_, library("net_runpath"));
    const Result<AllowedPlugin> files = trust();
    ASSERT_FALSE(files);
    EXPECT_THAT(files.error().message, HasSubstr("takes libraries from /home/dev/lib"));
    EXPECT_THAT(files.error().remedy, HasSubstr("RUNPATH"));
    EXPECT_FALSE(path_exists(layout_.trusted_plugins));
}

TEST_F(TrustedPluginsTest, AListThatIsNotRootsAloneIsNotBelieved) {
    ASSERT_TRUE(trust());
    ASSERT_EQ(::chmod(layout_.trusted_plugins.c_str(), 0664), 0);
    expect_refused(configure(), "trusted-plugins.json can be written", "chmod go-w");
    ASSERT_EQ(::chmod(layout_.trusted_plugins.c_str(), 0644), 0);
    ASSERT_EQ(::chmod(layout_.etc.c_str(), 0777), 0);
    expect_refused(configure(), "can be written by others", "chmod go-w");
    ASSERT_EQ(::chmod(layout_.etc.c_str(), 0755), 0);
    if (::geteuid() == 0) {
        ASSERT_EQ(::chown(layout_.trusted_plugins.c_str(), 1000, 1000), 0);
        expect_refused(configure(), "belongs to uid 1000", "chown 0");
        ASSERT_EQ(::chown(layout_.trusted_plugins.c_str(), 0, 0), 0);
    }
    ASSERT_EQ(::rename(layout_.trusted_plugins.c_str(), (folder_ / "x").c_str()), 0);
    ASSERT_EQ(::symlink((folder_ / "x").c_str(), layout_.trusted_plugins.c_str()), 0);
    expect_refused(configure(), "symbolic link", "Put the file itself there");
    ASSERT_TRUE(remove_file(layout_.trusted_plugins));
    for (const char* text :
         {"", "{", "{}", R"({"plugins":[]})", R"({"plugins":{"net-other":"sha256:12"}})",
          R"({"plugins":{},"more":1})"}) {
        put(layout_.trusted_plugins, text);
        const Result<std::string> configured = configure();
        ASSERT_FALSE(configured) << text;
        EXPECT_THAT(configured.error().message, HasSubstr("trusted-plugins.json")) << text;
    }
}

TEST_F(TrustedPluginsTest, WhatNeedsNoWordIsSaidSo) {
    put(layout_.plugins + "/net-plain.toml", manifest_text("net-plain", "network", "none"));
    put(layout_.plugins + "/net-plain.so", library("net_other"));
    put(layout_.plugins + "/net-bridge.toml", manifest_text("net-bridge", "network", "root"));
    put(layout_.plugins + "/net-bridge.so", library("net_other"));
    EXPECT_EQ(trust("net-plain").error().code, Errc::invalid_argument);
    EXPECT_THAT(trust("net-plain").error().message, HasSubstr("needs no root"));
    EXPECT_THAT(trust("net-bridge").error().message, HasSubstr("banger's own"));
    EXPECT_EQ(trust("net-missing").error().code, Errc::not_found);
    EXPECT_THAT(trust("net-missing").error().remedy, HasSubstr("sudo install -m 644 net-missing"));
}

TEST(OwnPluginsTest, AreThoseOfThisTreeThatNeedRoot) {
    std::size_t count = 0;
    for (const std::string& name : list_folder(PLUGIN_SOURCES).value()) {
        const std::string path = PLUGIN_SOURCES "/" + name + "/" + name + ".toml";
        if (!path_exists(path)) continue;
        const Manifest manifest =
            parse_manifest(read_file(path, ByteCount::mib(1)).value(), path).value();
        EXPECT_FALSE(is_stranger(manifest)) << name;
        count += manifest.privilege == Privilege::root ? 1 : 0;
    }
    EXPECT_EQ(count, 4u) << "what is in the list and no more in the tree is nobody's";
}

}  // namespace
}  // namespace banger::system
