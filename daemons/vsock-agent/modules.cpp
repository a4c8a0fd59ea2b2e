#include "daemons/vsock-agent/modules.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <set>

#include "daemons/vsock-agent/system.hpp"

namespace banger::agent {

namespace {

Hardware look_at_hardware() {
    Hardware hardware;
    hardware.pci = !names_in("/sys/bus/pci/devices").empty();
    hardware.mmio =
        std::ranges::any_of(names_in("/sys/bus/platform/devices"),
                            [](const std::string& name) { return name.starts_with("LNRO0005"); });
    const std::string virtio = "/sys/bus/virtio/devices/";
    for (const std::string& name : names_in(virtio))
        hardware.virtio.push_back(virtio_kind(read_line(virtio + name + "/modalias")));
    return hardware;
}

void load(const std::string& file) {
    const std::string path = "/modules/" + file;
    const UniqueFd module(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    // ENODEV: a driver for a CPU feature that this CPU lacks.
    if (module &&
        (syscall(SYS_finit_module, module.get(), "", 0) == 0 || errno == EEXIST || errno == ENODEV))
        return;
    say(Error::from_errno(errno, "loading module " + file).text());
}

}  // namespace

unsigned virtio_kind(std::string_view modalias) {
    constexpr std::string_view prefix = "virtio:d";
    unsigned kind = 0;
    if (!modalias.starts_with(prefix)) return 0;
    const std::string_view rest = modalias.substr(prefix.size());
    std::from_chars(rest.data(), rest.data() + rest.size(), kind, 16);
    return kind;
}

bool holds(std::string_view condition, const Hardware& hardware) {
    if (condition == "always") return true;
    if (condition == "pci") return hardware.pci;
    if (condition == "mmio") return hardware.mmio;
    constexpr std::string_view prefix = "virtio:";
    if (!condition.starts_with(prefix)) return false;
    unsigned kind = 0;
    const std::string_view rest = condition.substr(prefix.size());
    std::from_chars(rest.data(), rest.data() + rest.size(), kind, 10);
    return kind != 0 && std::ranges::find(hardware.virtio, kind) != hardware.virtio.end();
}

void load_modules() {
    const std::string list = read_text("/modules/list").value_or("");
    std::set<std::string> loaded;
    std::string last_condition;
    bool is_wanted = false;
    for (std::size_t from = 0; from < list.size();) {
        const std::size_t to = std::min(list.find('\n', from), list.size());
        const std::string line = list.substr(from, to - from);
        from = to + 1;
        const std::size_t space = line.find(' ');
        if (space == std::string::npos) continue;
        const std::string condition = line.substr(0, space);
        if (condition != last_condition) is_wanted = holds(condition, look_at_hardware());
        last_condition = condition;
        if (is_wanted && loaded.insert(line.substr(space + 1)).second) load(line.substr(space + 1));
    }
}

}  // namespace banger::agent
