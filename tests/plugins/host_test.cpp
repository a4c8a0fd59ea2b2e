#include "core/plugins/host.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

const PluginName name = PluginName::parse("sample").value();

TEST(plugin_host, makes_folders_of_the_plugins_own) {
    const TempFolder folder;
    HttpClient http;
    std::vector<std::string> lines;
    const Result<std::unique_ptr<PluginHost>> host = PluginHost::create(
        name, {folder / "a/state", folder / "cache", folder / "run"}, {{"key", true}},
        [&](LogLevel, std::string_view plugin, std::string_view message) {
            lines.push_back(std::string(plugin) + ": " + std::string(message));
        },
        http);
    ASSERT_TRUE(host) << host.error().text();
    for (const std::string& path :
         {(*host)->state_folder(), (*host)->cache_folder(), (*host)->run_folder()}) {
        EXPECT_TRUE(path.ends_with("/sample")) << path;
        struct stat status {};
        ASSERT_EQ(::stat(path.c_str(), &status), 0) << path;
        EXPECT_EQ(status.st_mode & 07777, 0700u) << path;
    }
    EXPECT_EQ((*host)->settings().at("key"), SettingValue(true));
    (*host)->log(LogLevel::info, "hello");
    EXPECT_THAT(lines, testing::ElementsAre("sample: hello"));
}

TEST(plugin_host, refuses_a_run_folder_too_long_for_sockets) {
    const TempFolder folder;
    HttpClient http;
    const Result<std::unique_ptr<PluginHost>> host = PluginHost::create(
        name, {folder / "s", folder / "c", folder / std::string(60, 'x')}, {}, nullptr, http);
    ASSERT_FALSE(host);
    EXPECT_EQ(host.error().code, Errc::invalid_argument);
    EXPECT_THAT(host.error().remedy, testing::HasSubstr("XDG_RUNTIME_DIR"));
}

TEST(plugin_host, refuses_a_folder_that_is_a_link) {
    const TempFolder folder;
    ASSERT_TRUE(ensure_folder(folder / "s", 0700));
    ASSERT_EQ(::symlink("/tmp", (folder / "s/sample").c_str()), 0);
    HttpClient http;
    EXPECT_FALSE(
        PluginHost::create(name, {folder / "s", folder / "c", folder / "r"}, {}, nullptr, http));
}

}  // namespace
}  // namespace banger
