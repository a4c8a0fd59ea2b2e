#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "core/base/file.hpp"
#include "core/images/kernel_tree.hpp"
#include "core/images/module_index.hpp"
#include "tests/fuzz/require.hpp"

using namespace banger;

namespace {

/// A folder of this process' own, in memory where there is such a thing.
const std::string& scratch() {
    static const std::string folder = [] {
        std::string path =
            path_exists("/dev/shm") ? "/dev/shm/banger-fuzz-XXXXXX" : "/tmp/banger-fuzz-XXXXXX";
        require(::mkdtemp(path.data()) != nullptr);
        ::atexit([] { (void)remove_tree(scratch()); });
        return path;
    }();
    return folder;
}

}  // namespace

/// A Debian package (deb(5): ar, in it a packed tar, in it a kernel and ELF modules), and the same
/// bytes as a module by themselves.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const Result<images::ModuleInfo> module = images::read_module_info("kernel/x.ko", bytes);
    if (module) {
        const auto files = images::make_module_indexes({&*module, 1}, bytes.substr(0, 4096));
        if (files) require(files->contains("modules.alias.bin"));
    }

    const UniqueFd package(::memfd_create("package", MFD_CLOEXEC));
    require(write_all(package.get(), bytes).has_value());
    require(::lseek(package.get(), 0, SEEK_SET) == 0);
    const UniqueFd folder(::open(scratch().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const Result<images::KernelFiles> kernel = images::import_kernel_package(package, folder, {});
    if (kernel) require(!kernel->version.empty() && path_exists(scratch() + "/vmlinux"));
    for (const std::string& name : list_folder(scratch()).value())
        require(remove_file(scratch() + "/" + name).has_value());
    return 0;
}
