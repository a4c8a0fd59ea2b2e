#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"

namespace banger::images {

/// What depmod wrote, read as text: modules.dep(5). Paths are relative to lib/modules/VERSION.
class ModuleDependencies {
public:
    /// Errc::corrupt for a line without a colon, an absolute path, or "..".
    static Result<ModuleDependencies> parse(std::string_view modules_dep);

    /// Every module that has to be loaded for the named ones, each after what it needs and once.
    /// Names as modprobe takes them: '-' and '_' are the same. A name that modules.dep does not
    /// know is left out: it is built in, or this kernel has none, and init says so when a disk does
    /// not appear. Errc::corrupt for a cycle.
    [[nodiscard]] Result<std::vector<std::string>> load_order(
        std::span<const std::string_view> names) const;

    [[nodiscard]] bool contains(std::string_view name) const;

private:
    std::map<std::string, std::string, std::less<>> path_of_;             ///< by name
    std::map<std::string, std::vector<std::string>, std::less<>> needs_;  ///< by path
};

/// "kernel/drivers/net/virtio-net.ko.xz" → "virtio_net".
std::string module_name(std::string_view path);

}  // namespace banger::images
