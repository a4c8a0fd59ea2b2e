#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/plugins/registry.hpp"
#include "tests/plugins/sample.hpp"

namespace banger {

inline std::string source_file(const std::string& path) {
    return read_file(std::string(SOURCE_FOLDER) + "/" + path, ByteCount::mib(1)).value();
}

/// A folder of third parties' plugins beside banger's own with the fakes in it, and a registry on
/// both as bangerd has it.
class ThirdParty {
public:
    ThirdParty() {
        for (const char* suffix : {".so", ".toml"})
            own_.write(own_.path() + "/fake" + suffix,
                       read_file(std::string(BUILT_PLUGINS) + "/fake" + suffix, ByteCount::mib(256))
                           .value());
    }
    [[nodiscard]] const PluginFolder& folder() const { return folder_; }
    /// Puts a library of the build tree there, with the manifest at `manifest` in the sources.
    void install(const std::string& name, const std::string& manifest) const {
        folder_.write(folder_.library(name), PluginFolder::sample(name));
        folder_.write(folder_.manifest(name), source_file(manifest));
    }
    void install_wild() const { install("wild", "tests/plugin-host/wild.toml"); }

    RegistryOptions options(std::vector<std::string> image_sources = {"fake"}) {
        RegistryOptions options;
        options.folders = {own_.path()};
        options.owner = ::geteuid();
        options.choice = {"fake", "none", "fake", "fake", std::move(image_sources)};
        options.own_folders = {folders_ / "b/state", folders_ / "b/cache", folders_ / "b/run"};
        options.third_party_folders = {folder_.path()};
        options.plugin_host = PLUGIN_HOST;
        options.log = [this](LogLevel, std::string_view plugin, std::string_view line) {
            const std::lock_guard lock(mutex_);
            lines_.push_back(std::string(plugin) + ": " + std::string(line));
            came_.notify_all();
        };
        return options;
    }
    std::unique_ptr<Registry> open(RegistryOptions options) {
        Result<std::unique_ptr<Registry>> opened = Registry::open(std::move(options));
        EXPECT_TRUE(opened) << opened.error().text();
        return opened ? std::move(opened).value() : nullptr;
    }
    std::vector<std::string> lines() {
        const std::lock_guard lock(mutex_);
        return lines_;
    }
    /// The same, when one has come that contains `part`; they come from a thread. After 10 s
    /// anyway.
    std::vector<std::string> lines_with(std::string_view part) {
        std::unique_lock lock(mutex_);
        came_.wait_for(lock, std::chrono::seconds(10), [&] {
            return std::ranges::any_of(lines_, [&](const std::string& line) {
                return line.find(part) != std::string::npos;
            });
        });
        return lines_;
    }
    /// For what is no business of the plugin's.
    [[nodiscard]] std::string outside(const std::string& name) const { return outside_ / name; }

private:
    PluginFolder own_;
    PluginFolder folder_;
    TempFolder folders_;
    TempFolder outside_;
    std::mutex mutex_;
    std::condition_variable came_;
    std::vector<std::string> lines_;
};

}  // namespace banger
