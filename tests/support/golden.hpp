#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "core/base/file.hpp"

namespace banger {

/// Compares with golden/NAME in the test's own folder (BANGER_GOLDEN_FOLDER).
/// BANGER_REGENERATE_GOLDEN=1 writes the file anew and skips: a run that wrote its own expectation
/// has shown nothing.
inline void expect_golden(const std::string& name, const std::string& text) {
    const std::string path = std::string(BANGER_GOLDEN_FOLDER) + "/" + name;
    if (std::getenv("BANGER_REGENERATE_GOLDEN") != nullptr) {
        ASSERT_TRUE(write_file_atomic(path, text, 0644));
        GTEST_SKIP() << "wrote " << path;
    }
    const Result<std::string> expected = read_file(path, ByteCount::mib(1));
    ASSERT_TRUE(expected) << expected.error().text();
    EXPECT_EQ(text, *expected) << "BANGER_REGENERATE_GOLDEN=1 writes " << path << " anew";
}

}  // namespace banger
