#include "daemons/bangerd-root/digest.hpp"

#include <fcntl.h>
#include <gcrypt.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <type_traits>

namespace banger::root {

namespace {

struct Close {
    void operator()(gcry_md_hd_t context) const { ::gcry_md_close(context); }
};
using Context = std::unique_ptr<std::remove_pointer_t<gcry_md_hd_t>, Close>;

/// libsystemd, which plugins bring along, may have done it too: it holds for the process.
bool has_gcrypt() {
    if (::gcry_check_version(GCRYPT_VERSION) == nullptr) return false;
    if (::gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P) != 0) return true;
    // No secrets here, so no locked memory.
    ::gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
    ::gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    return true;
}

}  // namespace

Result<Digest> sha256_of(int fd) {
    gcry_md_hd_t made = nullptr;
    if (!has_gcrypt() || ::gcry_md_open(&made, GCRY_MD_SHA256, 0) != 0)
        return Error(Errc::internal, "libgcrypt has no SHA-256");
    const Context context(made);
    std::array<char, 1 << 16> buffer;
    for (off_t offset = 0;;) {
        const ssize_t got = ::pread(fd, buffer.data(), buffer.size(), offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return Error::from_errno(errno, "reading a library");
        if (got == 0) break;
        ::gcry_md_write(context.get(), buffer.data(), static_cast<std::size_t>(got));
        offset += got;
    }
    const unsigned char* const sum = ::gcry_md_read(context.get(), GCRY_MD_SHA256);
    std::string text = "sha256:";
    for (unsigned i = 0; i < ::gcry_md_get_algo_dlen(GCRY_MD_SHA256); ++i) {
        text += "0123456789abcdef"[sum[i] >> 4];
        text += "0123456789abcdef"[sum[i] & 15];
    }
    return Digest::parse(text);
}

Result<bool> is_being_written(int fd) {
    // A read lease is only had where nobody writes.
    if (::fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
        ::fcntl(fd, F_SETLEASE, F_UNLCK);
        return false;
    }
    if (errno == EAGAIN) return true;
    if (errno == EINVAL || errno == EOPNOTSUPP) return false;
    return Error::from_errno(errno, "asking who writes a library");
}

}  // namespace banger::root
