#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "banger/unique_fd.hpp"

namespace banger {

/// A test in a network namespace of its own: the host it plays has no interface but lo. As root, or
/// as anybody who may make user namespaces; else it skips, and fails under BANGER_REQUIRE=netns.
class NamespaceTest : public testing::Test {
protected:
    void SetUp() override { enter(); }
    static void enter();
};

/// Puts the calling thread in a new namespace. Why not, or empty.
std::string enter_new_namespace();

/// Another host on the same machine.
class OtherNamespace {
public:
    OtherNamespace();
    /// Runs on a thread in it.
    void run(const std::function<void()>& job) const;
    /// What `ip link set DEV netns` takes.
    [[nodiscard]] std::string path() const;

private:
    UniqueFd fd_;
};

/// Runs a program (a name on PATH) in the caller's namespace and gives what it wrote; a failure
/// fails the test.
std::string run(const std::vector<std::string>& words);

}  // namespace banger
