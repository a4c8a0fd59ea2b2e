#include "core/config/default_backend.hpp"

#include "core/base/file.hpp"
#include "core/base/kvm.hpp"

namespace banger {

BackendFacts BackendFacts::of_host() {
    BackendFacts facts;
    facts.has_kvm = path_exists("/dev/kvm") && has_virtualisation_flag(cpuinfo_of_host());
    facts.ask = [](const std::string& path) { return firecracker::ask_program(path, 0, {}); };
    return facts;
}

void choose_default_backend(Config& config, const BackendFacts& facts) {
    Sourced<std::string>& backend = config.plugins.vm_backend;
    if (config.mode != RunMode::system || backend.source.kind != Source::Kind::builtin) return;
    const Result<firecracker::Program> found =
        firecracker::find_firecracker(config.firecracker_bin->value_or(""), facts.ask);
    if (!found) {
        backend.source.where = "default: " + found.error().message;
    } else if (!facts.has_kvm) {
        backend.source.where = "default: no KVM for " + found->path;
    } else {
        backend.value = "vmm-firecracker";
        backend.source.where =
            "default: found " + found->path + ", version " + found->version.text();
    }
}

std::optional<Check> default_backend_check(const Config& config) {
    const Sourced<std::string>& backend = config.plugins.vm_backend;
    if (config.mode != RunMode::system || backend.source.kind != Source::Kind::builtin) return {};
    Check check{"back end", CheckStatus::pass, *backend + " (" + backend.source.text() + ")", ""};
    if (*backend == "vmm-firecracker") return check;
    check.status = CheckStatus::warn;
    check.detail = *backend + ", the fallback (" + backend.source.text() + ")";
    check.remedy = firecracker::install_remedy;
    return check;
}

}  // namespace banger
