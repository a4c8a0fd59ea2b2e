#include "plugins/net-bridge/tap.hpp"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

namespace banger {

namespace {

Result<UniqueFd> open_tun(const std::string& name, int flags) {
    if (name.empty() || name.size() >= IFNAMSIZ)
        return Error(Errc::internal, name + " cannot name a network interface");
    UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    if (!fd) {
        Error error = Error::from_errno(errno, "open /dev/net/tun");
        error.remedy = "Load the kernel module: sudo modprobe tun.";
        return error;
    }
    ifreq request{};
    std::memcpy(request.ifr_name, name.data(), name.size());
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | flags);
    if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) {
        Error error = Error::from_errno(errno, "making the tap device " + name);
        // IFF_TUN_EXCL says EBUSY for a name that is taken.
        if ((flags & IFF_TUN_EXCL) != 0 && error.code == Errc::busy)
            error.code = Errc::already_exists;
        return error;
    }
    return fd;
}

}  // namespace

Result<Tap> Tap::make(const std::string& name, std::uint32_t owner) {
    // The header in front of each frame is what QEMU and Firecracker ask for; whoever opens it next
    // chooses anew.
    Tap tap(BANGER_TRY(open_tun(name, IFF_TUN_EXCL | IFF_VNET_HDR)));
    if (::ioctl(tap.fd_.get(), TUNSETOWNER, static_cast<unsigned long>(owner)) != 0)
        return Error::from_errno(errno, "giving the tap device to its user");
    return tap;
}

Result<void> Tap::keep() {
    if (::ioctl(fd_.get(), TUNSETPERSIST, 1UL) == 0) return ok();
    return Error::from_errno(errno, "keeping the tap device");
}

Result<UniqueFd> Tap::open(const std::string& name) { return open_tun(name, 0); }

}  // namespace banger
