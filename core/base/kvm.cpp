#include "core/base/kvm.hpp"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "banger/unique_fd.hpp"
#include "core/base/file.hpp"

namespace banger {

bool has_virtualisation_flag(std::string_view cpuinfo) {
    const std::size_t begin = cpuinfo.find("\nflags");
    if (begin == cpuinfo.npos) return false;
    const std::size_t end = std::min(cpuinfo.find('\n', begin + 1), cpuinfo.size());
    const std::string flags = std::string(cpuinfo.substr(begin + 1, end - begin - 1)) + " ";
    return flags.find(" vmx ") != flags.npos || flags.find(" svm ") != flags.npos;
}

Acceleration probe_kvm(std::string_view cpuinfo, const std::string& device) {
    if (!has_virtualisation_flag(cpuinfo))
        return {
            false, "the CPU shows neither vmx nor svm",
            "Enable virtualisation in the firmware, or nested virtualisation for this machine."};
    const UniqueFd kvm(::open(device.c_str(), O_RDWR | O_CLOEXEC));
    if (!kvm) {
        const int error_number = errno;
        const std::string reason = device + ": " + std::strerror(error_number);
        if (error_number == EACCES)
            return {false, reason, "Run `sudo usermod -aG kvm $USER` and log in again."};
        return {false, reason, "Load the module with `sudo modprobe kvm_intel` or kvm_amd."};
    }
    if (::ioctl(kvm.get(), KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return {false, device + " speaks another version of KVM", "Run a current kernel."};
    const UniqueFd trial(::ioctl(kvm.get(), KVM_CREATE_VM, 0));
    if (!trial)
        return {false, std::string("KVM cannot make a machine: ") + std::strerror(errno),
                "Stop other hypervisors on this host, such as VirtualBox."};
    return {true, {}, {}};
}

std::string cpuinfo_of_host() {
    // 64 KiB more than hold the first processor.
    std::string cpuinfo(std::size_t{64} << 10, '\0');
    const UniqueFd file(::open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC));
    const ssize_t count = file ? ::read(file.get(), cpuinfo.data(), cpuinfo.size()) : 0;
    cpuinfo.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return cpuinfo;
}

Acceleration probe_kvm() { return probe_kvm(cpuinfo_of_host(), "/dev/kvm"); }

}  // namespace banger
