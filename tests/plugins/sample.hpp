#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <string>

#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {

/// A folder of plugins that a test fills with good and bad ones.
class PluginFolder {
public:
    [[nodiscard]] std::string path() const { return path_; }
    [[nodiscard]] std::string library(const std::string& name = "sample") const {
        return path_ + "/" + name + ".so";
    }
    [[nodiscard]] std::string manifest(const std::string& name = "sample") const {
        return path_ + "/" + name + ".toml";
    }
    /// Puts tests/sample-plugins/VARIANT.so there as NAME.so, with a fitting manifest.
    void install(const std::string& variant, const std::string& name = "sample") const {
        write(library(name), sample(variant));
        write(manifest(name), manifest_text(name));
    }
    void write(const std::string& file, const std::string& content, mode_t mode = 0644) const {
        const Result<void> written = write_file_atomic(file, content, mode);
        ASSERT_TRUE(written) << written.error().text();
        ASSERT_EQ(::chmod(file.c_str(), mode), 0);
    }
    [[nodiscard]] static std::string sample(const std::string& variant) {
        return read_file(SAMPLE_PLUGINS "/" + variant + ".so", ByteCount::mib(256)).value();
    }
    [[nodiscard]] static std::string manifest_text(const std::string& name,
                                                   const std::string& privilege = "none") {
        return "name = \"" + name +
               "\"\nversion = \"0.1\"\nsummary = \"a sample\"\nroles = [\"network\"]\n"
               "privilege = \"" +
               privilege + "\"\napi_version = 1\n";
    }

    PluginFolder() {
        EXPECT_EQ(::mkdir(path_.c_str(), 0755), 0);
        EXPECT_EQ(::chmod(path_.c_str(), 0755), 0);  // whatever the umask
    }

private:
    TempFolder folder_;
    std::string path_ = folder_ / "plugins";
};

}  // namespace banger
