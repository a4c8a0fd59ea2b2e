#pragma once

#include <optional>
#include <string>

#include "core/base/child.hpp"

namespace banger {

/// A dbus-daemon of one test's own, on a socket in a folder of the test's, with room for everybody.
class PrivateBus {
public:
    explicit PrivateBus(std::string folder) : folder_(std::move(folder)) { start(); }
    /// False where there is no dbus-daemon.
    static bool is_possible();
    [[nodiscard]] std::string address() const { return "unix:path=" + folder_ + "/bus"; }
    /// Returns when it can be connected to.
    void start();
    void stop();

private:
    std::string folder_;
    std::optional<Child> daemon_;
};

}  // namespace banger
