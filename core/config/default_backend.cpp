#include "core/config/default_backend.hpp"

#include <sys/stat.h>

#include <algorithm>

#include "core/base/file.hpp"
#include "core/base/kvm.hpp"

namespace banger {

namespace {

/// Whether the root helper would run it: more is checked there.
bool is_roots_program(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == 0 &&
           (status.st_mode & 0111) != 0 && (status.st_mode & 0022) == 0;
}

}  // namespace

BackendFacts BackendFacts::of_host() {
    BackendFacts facts;
    facts.has_kvm = path_exists("/dev/kvm") && has_virtualisation_flag(cpuinfo_of_host());
    return facts;
}

void choose_default_backend(Config& config, const BackendFacts& facts) {
    Sourced<std::string>& backend = config.plugins.vm_backend;
    if (config.mode != RunMode::system || backend.source.kind != Source::Kind::builtin) return;
    std::vector<std::string> places = facts.firecracker_places;
    if (*config.firecracker_bin) places = {**config.firecracker_bin};
    const auto found = std::ranges::find_if(places, is_roots_program);
    if (found == places.end()) {
        backend.source.where = "default: no firecracker of root's found";
    } else if (!facts.has_kvm) {
        backend.source.where = "default: no KVM for " + *found;
    } else {
        backend.value = "vmm-firecracker";
        backend.source.where = "default: found " + *found;
    }
}

}  // namespace banger
