#include "core/plugins/library.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <unistd.h>

#include <array>
#define BOOST_DLL_USE_STD_FS  // and not a library of Boost's more in a root process
#include <boost/dll/shared_library.hpp>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <list>
#include <mutex>

#include "core/base/names.hpp"

namespace banger {

namespace {

constexpr ByteCount max_library = ByteCount::gib(1);
constexpr std::string_view reinstall = "Install the plugin again from the source you trust.";
constexpr std::string_view rebuild = "Rebuild the plugin against this banger's plugin-api.";

std::string who(uid_t uid) { return uid == 0 ? "root" : "uid " + std::to_string(uid); }

/// Why a file or folder cannot be trusted; nothing when it can.
struct Distrust {
    std::string reason;
    std::string remedy;
};

std::optional<Distrust> distrust_of(const struct stat& status, const std::string& path, uid_t owner,
                                    bool may_be_sticky) {
    if (status.st_uid != 0 && status.st_uid != owner)
        return Distrust{
            path + " belongs to " + who(status.st_uid) + ", who could change it",
            "Make it root's or your own: chown " + std::to_string(owner) + " " + path + "."};
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) == 0) return std::nullopt;
    // In a sticky folder (/tmp) others can add names, but not replace or rename what is ours.
    if (may_be_sticky && (status.st_mode & S_ISVTX) != 0) return std::nullopt;
    return Distrust{path + " can be written by others",
                    "Take the right away: chmod go-w " + path + "."};
}

/// What ld.so takes for granted: every segment lies inside the file. It maps a truncated library
/// without a word and then ends the process with SIGBUS.
std::optional<std::string> elf_complaint(int fd) {
    struct stat status = {};
    if (::fstat(fd, &status) != 0) return Error::from_errno(errno, "it cannot be read").message;
    const std::uint64_t size = static_cast<std::uint64_t>(status.st_size);
    if (size > max_library.count()) return "it is larger than " + max_library.text();
    Elf64_Ehdr header = {};
    if (::pread(fd, &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header) ||
        std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return "it is not a library (no ELF header)";
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_machine != EM_X86_64)
        return "it is a library for another processor";
    if (header.e_type != ET_DYN || header.e_phentsize != sizeof(Elf64_Phdr))
        return "it is not a shared library";
    constexpr unsigned max_segments = 128;
    bool has_content = false;
    for (unsigned i = 0; i < header.e_phnum && i < max_segments; ++i) {
        Elf64_Phdr segment = {};
        const std::uint64_t at = header.e_phoff + i * sizeof segment;
        if (at > size || ::pread(fd, &segment, sizeof segment, static_cast<off_t>(at)) !=
                             static_cast<ssize_t>(sizeof segment))
            return "it is truncated";
        if (segment.p_type != PT_LOAD) continue;
        has_content = true;
        if (segment.p_filesz > size || segment.p_offset > size - segment.p_filesz)
            return "it is truncated";
    }
    if (!has_content || header.e_phnum > max_segments) return "it is not a shared library";
    return std::nullopt;
}

/// The door's fields, in the order in which one makes the next readable. `symbol_size` is what the
/// library says of the symbol: nothing is read beyond it.
std::optional<Distrust> door_complaint(const banger_plugin_door& door, std::uint64_t symbol_size,
                                       const PluginName& name) {
    if (symbol_size < offsetof(banger_plugin_door, reserved))
        return Distrust{"its symbol " BANGER_PLUGIN_SYMBOL " is not a plugin's door",
                        std::string(rebuild)};
    if (door.magic != BANGER_PLUGIN_MAGIC)
        return Distrust{"its door has the wrong first word, so it is not a banger plugin",
                        "Remove the file, or rebuild it with BANGER_PLUGIN()."};
    if (door.api_version != BANGER_PLUGIN_API_VERSION)
        return Distrust{"it was built for plugin-api version " + std::to_string(door.api_version) +
                            ", this banger has " + std::to_string(BANGER_PLUGIN_API_VERSION),
                        std::string(rebuild)};
    if (door.struct_size != sizeof(banger_plugin_door) || symbol_size < sizeof(banger_plugin_door))
        return Distrust{"its door has " + std::to_string(door.struct_size) + " bytes instead of " +
                            std::to_string(sizeof(banger_plugin_door)),
                        std::string(rebuild)};
    if (door.reserved != 0)
        return Distrust{"its door uses a field that this banger does not know",
                        std::string(rebuild)};
    if (!door.build_tag || std::strcmp(door.build_tag, build_tag) != 0)
        return Distrust{
            "it was built with " + banger::quoted(door.build_tag ? door.build_tag : "") +
                ", this banger with " + banger::quoted(build_tag),
            "Rebuild the plugin with the compiler and standard library of this banger."};
    if (!door.name || name.str() != door.name)
        return Distrust{"the library calls itself " + banger::quoted(door.name ? door.name : "") +
                            ", its file " + banger::quoted(name.str()),
                        "Put the library and the manifest of one plugin together."};
    if (!door.create || !door.destroy)
        return Distrust{"its door leads nowhere (no create or no destroy function)",
                        std::string(rebuild)};
    return std::nullopt;
}

/// Code of a plugin may run in threads and static destructors until the very end.
void keep_for_ever(boost::dll::shared_library library) {
    static std::mutex mutex;
    static auto* const kept = new std::list<boost::dll::shared_library>;
    const std::lock_guard lock(mutex);
    kept->push_back(std::move(library));
}

std::uint64_t size_of_symbol(const void* address) {
    Dl_info info = {};
    const ElfW(Sym)* symbol = nullptr;
    void* extra = nullptr;
    if (::dladdr1(address, &info, &extra, RTLD_DL_SYMENT) == 0 || !extra) return 0;
    symbol = static_cast<const ElfW(Sym)*>(extra);
    return info.dli_saddr == address ? symbol->st_size : 0;
}

}  // namespace

Error Refusal::error() const {
    return {Errc::unavailable,
            "the plugin " + banger::quoted(name) + " was refused: " + file + ": " + reason, remedy};
}

Admission<TrustedFolder> open_trusted_folder(const std::string& folder, uid_t owner) {
    const auto refuse = [&](std::string reason, std::string remedy) {
        return Refusal{folder, folder, std::move(reason), std::move(remedy)};
    };
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(folder.c_str(), nullptr),
                                                           &std::free);
    if (!real)
        return refuse(Error::from_errno(errno, folder).message, "Correct the plugin folder.");
    TrustedFolder result{UniqueFd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)), ""};
    std::string rest = real.get();
    while (true) {
        struct stat status = {};
        const std::string shown = result.path.empty() ? "/" : result.path;
        if (!result.fd.is_valid() || ::fstat(result.fd.get(), &status) != 0)
            return refuse(Error::from_errno(errno, shown).message, std::string(reinstall));
        const bool is_last = rest.empty() || rest == "/";
        if (const std::optional<Distrust> no = distrust_of(status, shown, owner, !is_last))
            return refuse(no->reason, no->remedy);
        if (is_last) break;
        const std::size_t slash = rest.find('/', 1);
        const std::string name = rest.substr(1, slash == rest.npos ? rest.npos : slash - 1);
        rest = slash == rest.npos ? "" : rest.substr(slash);
        // NOFOLLOW: the path was resolved above; a link here was put there since.
        result.fd = UniqueFd(
            ::openat(result.fd.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        result.path += "/" + name;
    }
    return result;
}

Admission<TrustedFile> open_trusted_file(const TrustedFolder& folder, const std::string& stem,
                                         const std::string& suffix, uid_t owner) {
    const std::string path = folder.path + "/" + stem + suffix;
    const auto refuse = [&](std::string reason, std::string remedy) {
        return Refusal{stem, path, std::move(reason), std::move(remedy)};
    };
    // NONBLOCK: opening a fifo must not wait for a writer.
    TrustedFile file{UniqueFd(::openat(folder.fd.get(), (stem + suffix).c_str(),
                                       O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)),
                     {}};
    if (!file.fd.is_valid()) {
        const int reason = errno;
        if (reason == ENOENT)
            return refuse(suffix == ".so"     ? "there is no library of that name"
                          : suffix == ".toml" ? "the library has no manifest beside it"
                                              : "there is no such file",
                          "Put " + stem + suffix + " there, or remove what asks for it.");
        if (reason == ELOOP) return refuse("it is a symbolic link", "Put the file itself there.");
        return refuse(Error::from_errno(reason, "it cannot be opened").message,
                      std::string(reinstall));
    }
    if (::fstat(file.fd.get(), &file.status) != 0 || !S_ISREG(file.status.st_mode))
        return refuse("it is not a regular file", std::string(reinstall));
    if (const std::optional<Distrust> no = distrust_of(file.status, path, owner, false))
        return refuse(no->reason, no->remedy);
    return file;
}

Admission<Library> Library::open(const PluginName& name, const std::string& file,
                                 const UniqueFd& fd) {
    const auto refuse = [&](std::string reason, std::string remedy) {
        return Refusal{name.str(), file, std::move(reason), std::move(remedy)};
    };
    if (const std::optional<std::string> wrong = elf_complaint(fd.get()))
        return refuse(*wrong, std::string(reinstall));

    // By descriptor, so that what was checked is what is loaded. ld.so remembers libraries by the
    // name they were opened with and would give the old one back for a number that is used again:
    // the descriptor is never closed.
    UniqueFd forever = fd.duplicate();
    if (!forever.is_valid())
        return refuse(Error::from_errno(errno, "no descriptor left").message,
                      "Raise the limit of open files.");
    const std::string path = "/proc/self/fd/" + std::to_string(forever.get());
    const void* symbol = nullptr;
    try {
        boost::dll::fs::error_code failure;
        boost::dll::shared_library library;
        library.load(path, failure,
                     boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local);
        if (failure) {
            const char* reason = ::dlerror();
            std::string text = reason ? reason : failure.message();
            if (text.starts_with(path + ": ")) text.erase(0, path.size() + 2);
            return refuse("it cannot be loaded: " + text,
                          "Install what it needs, or rebuild it with all its libraries.");
        }
        static_cast<void>(forever.release());
        if (library.has(BANGER_PLUGIN_SYMBOL))
            symbol = &library.get<const banger_plugin_door>(BANGER_PLUGIN_SYMBOL);
        keep_for_ever(std::move(library));
    } catch (const std::exception& failure) {
        return refuse(std::string("it cannot be loaded: ") + failure.what(),
                      std::string(reinstall));
    }
    if (!symbol)
        return refuse("it has no symbol " BANGER_PLUGIN_SYMBOL ", so it is not a banger plugin",
                      "Remove the file, or rebuild it with BANGER_PLUGIN().");
    const auto* door = static_cast<const banger_plugin_door*>(symbol);
    if (const std::optional<Distrust> no = door_complaint(*door, size_of_symbol(symbol), name))
        return refuse(no->reason, no->remedy);
    return Library(door);
}

Admission<LoadedPlugin> LoadedPlugin::create(const PluginName& name, const std::string& file,
                                             const Library& library, Host& host) {
    const auto refuse = [&](std::string reason) {
        return Refusal{name.str(), file, std::move(reason),
                       "Correct what it complains of, or choose another plugin for the role."};
    };
    const banger_plugin_door& door = library.door();
    std::array<char, 512> message{};
    Plugin* plugin = nullptr;
    try {
        plugin = door.create(&host, message.data(), message.size());
    } catch (const std::exception& failure) {
        return refuse(std::string("its create() threw: ") + failure.what());
    } catch (...) {
        return refuse("its create() threw");
    }
    message.back() = '\0';
    if (!plugin)
        return refuse(message[0] ? std::string("it cannot start: ") + message.data()
                                 : "it cannot start, and does not say why");
    const auto destroy = door.destroy;
    return admit(name, file, Instance(plugin, destroy));
}

Admission<LoadedPlugin> LoadedPlugin::create(const PluginName& name, const PluginFactory& factory,
                                             Host& host) {
    Result<std::unique_ptr<Plugin>> plugin = factory(host);
    if (!plugin)
        return Refusal{name.str(), "built in", "it cannot start: " + plugin.error().message,
                       plugin.error().remedy};
    return admit(name, "built in",
                 Instance(plugin->release(), [](Plugin* instance) { delete instance; }));
}

Admission<LoadedPlugin> LoadedPlugin::admit(const PluginName& name, const std::string& file,
                                            Instance instance) {
    try {
        const Roles roles = instance->roles();
        return LoadedPlugin(std::move(instance), roles);
    } catch (...) {
        return Refusal{name.str(), file, "its roles() threw", std::string(rebuild)};
    }
}

std::vector<Role> filled(const Roles& roles) {
    std::vector<Role> result;
    if (roles.network) result.push_back(Role::network);
    if (roles.dns) result.push_back(Role::dns);
    if (roles.storage) result.push_back(Role::storage);
    if (roles.image_source) result.push_back(Role::image_source);
    if (roles.vm_backend) result.push_back(Role::vm_backend);
    return result;
}

}  // namespace banger
