#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "core/base/file.hpp"
#include "daemons/vsock-agent/system.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::agent {

/// A folder that plays the mounted root. Owners are root's, so this needs root.
class RootTest : public ::testing::Test {
protected:
    void SetUp() override {
        if (geteuid() == 0) return;
        const char* required = std::getenv("BANGER_REQUIRE");
        if (required && std::string(required).find("root") != std::string::npos)
            FAIL() << "needs root: files get root's owner";
        GTEST_SKIP() << "needs root: files get root's owner";
    }
    void folder(const std::string& path) {
        ASSERT_TRUE(ensure_folder(folder_ / path, 0755)) << path;
    }
    void file(const std::string& path, const std::string& content, mode_t mode = 0644) {
        folder(parent_path(path));
        ASSERT_TRUE(write_file_atomic(folder_ / path, content, mode)) << path;
    }
    void link(const std::string& path, const std::string& target) {
        ASSERT_EQ(symlink(target.c_str(), (folder_ / path).c_str()), 0) << path;
    }
    std::string content(const std::string& path) {
        return read_file(folder_ / path, ByteCount::mib(1)).value_or("(none)");
    }
    mode_t mode(const std::string& path) {
        struct stat info {};
        EXPECT_EQ(lstat((folder_ / path).c_str(), &info), 0) << path;
        return info.st_mode & 07777;
    }
    ImageRoot root() { return ImageRoot::open(folder_.path()).value(); }

    TempFolder folder_;
};

}  // namespace banger::agent
