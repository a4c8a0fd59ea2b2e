#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "core/base/file.hpp"

namespace banger {

/// A folder of one test's own, gone with the test. Short enough to hold unix sockets.
class TempFolder {
public:
    TempFolder() {
        if (::mkdtemp(path_.data()) == nullptr) std::abort();
    }
    ~TempFolder() { EXPECT_TRUE(remove_tree(path_)); }
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::string operator/(const std::string& name) const {
        return path_ + "/" + name;
    }

private:
    std::string path_ = "/tmp/banger-test-XXXXXX";
};

}  // namespace banger
