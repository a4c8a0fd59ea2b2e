#include "core/system/files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <set>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/rollback.hpp"
#include "core/system/units.hpp"

namespace banger::system {

namespace {

using namespace std::chrono_literals;

constexpr const char* programs[] = {"banger", "bangerd", "bangerd-root"};
/// The test double is no part of the product.
constexpr std::string_view not_installed[] = {"fake"};

std::string temporary_of(const std::string& path) {
    const std::string folder = parent_path(path);
    return folder + "/." + path.substr(folder.size() + 1) + ".banger-new";
}

std::string drop_in_folder(const Layout& layout, const std::string& unit) {
    return layout.units + "/" + unit + ".d";
}

/// Which Debian 12 package has a library that we link. Only for a helpful sentence.
struct Package {
    std::string_view soname;
    std::string_view package;
};
constexpr Package packages[] = {
    {"libarchive.so", "libarchive13"},
    {"libcrypto.so", "libssl3"},
    {"libcurl.so", "libcurl4"},
    {"libdevmapper.so", "libdevmapper1.02.1"},
    {"libext2fs.so", "libext2fs2"},
    {"libfmt.so", "libfmt9"},
    {"libgcrypt.so", "libgcrypt20"},
    {"libldns.so", "libldns3"},
    {"libmnl.so", "libmnl0"},
    {"libnftables.so", "libnftables1"},
    {"libseccomp.so", "libseccomp2"},
    {"libspdlog.so", "libspdlog1.10"},
    {"libsqlite3.so", "libsqlite3-0"},
    {"libssl.so", "libssl3"},
    {"libsystemd.so", "libsystemd0"},
    {"libtomlplusplus.so", "libtomlplusplus3"},
    {"libyaml-cpp.so", "libyaml-cpp0.7"},
    {"libzstd.so", "libzstd1"},
};

Error not_there(const std::string& path) {
    return {Errc::not_found, path + " is missing",
            "Run `banger system install` from a whole build tree or an unpacked release."};
}

Result<std::vector<Manifest>> read_manifests(const std::string& folder) {
    std::vector<Manifest> manifests;
    for (const std::string& name : BANGER_TRY(list_folder(folder))) {
        if (!name.ends_with(".toml")) continue;
        const std::string path = folder + "/" + name;
        const std::string text = BANGER_TRY(read_file(path, ByteCount::mib(1)));
        Manifest manifest = BANGER_TRY(parse_manifest(text, path));
        if (std::ranges::find(not_installed, manifest.name.str()) != std::end(not_installed))
            continue;
        if (!path_exists(folder + "/" + manifest.name.str() + ".so"))
            return not_there(folder + "/" + manifest.name.str() + ".so");
        manifests.push_back(std::move(manifest));
    }
    return manifests;
}

Result<void> check_libraries(const std::vector<std::string>& files) {
    std::set<std::string> missing;
    for (const std::string& file : files)
        for (std::string& soname : BANGER_TRY(missing_libraries(file)))
            missing.insert(std::move(soname));
    if (missing.empty()) return ok();
    std::string names;
    for (const std::string& soname : missing)
        names += (names.empty() ? "" : ", ") + soname;
    return Error(Errc::unavailable, "this host lacks shared libraries: " + names,
                 "Install them: sudo apt install " + packages_of({missing.begin(), missing.end()}));
}

Result<bool> is_same(int source, const std::string& path, mode_t mode) {
    const UniqueFd there(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!there) return false;
    struct stat ours {};
    struct stat theirs {};
    if (::fstat(source, &ours) != 0 || ::fstat(there.get(), &theirs) != 0)
        return Error::from_errno(errno, "stat " + path);
    if (!S_ISREG(theirs.st_mode) || (theirs.st_mode & 07777) != mode ||
        theirs.st_uid != ::geteuid() || ours.st_size != theirs.st_size)
        return false;
    std::array<char, 65536> left{};
    std::array<char, 65536> right{};
    for (off_t at = 0; at < ours.st_size;) {
        const ssize_t one = ::pread(source, left.data(), left.size(), at);
        const ssize_t two = ::pread(there.get(), right.data(), right.size(), at);
        if (one <= 0 || one != two || !std::equal(left.begin(), left.begin() + one, right.begin()))
            return false;
        at += one;
    }
    return true;
}

Result<void> copy_all(int from, int to, const std::string& path) {
    off_t at = 0;
    for (;;) {
        const ssize_t count = ::sendfile(to, from, &at, std::size_t{1} << 24);
        if (count == 0) return ok();
        if (count < 0 && errno != EINTR) return Error::from_errno(errno, "writing " + path);
    }
}

/// The content as a descriptor, wherever it comes from.
Result<UniqueFd> open_content(const PlannedFile& file) {
    if (!file.source.empty()) {
        // A build tree may have links; what they point to is copied.
        UniqueFd source(::open(file.source.c_str(), O_RDONLY | O_CLOEXEC));
        if (!source) return Error::from_errno(errno, "opening " + file.source);
        return source;
    }
    UniqueFd memory(::memfd_create("banger-install", MFD_CLOEXEC));
    if (!memory) return Error::from_errno(errno, "memfd_create");
    BANGER_TRY(write_all(memory.get(), file.content));
    return memory;
}

struct ShellPlace {
    std::string_view shell;
    std::string_view path;  ///< below /usr/local/share
};
/// Where each shell looks by itself.
constexpr ShellPlace shell_places[] = {
    {"bash", "/bash-completion/completions/banger"},
    {"zsh", "/zsh/site-functions/_banger"},
    {"fish", "/fish/vendor_completions.d/banger.fish"},
};

std::string man_folder(const Layout& layout) { return layout.share + "/man/man1"; }

/// An empty folder, or none, is gone afterwards; one in use stays.
void remove_folder_if_empty(const std::string& path) { (void)::rmdir(path.c_str()); }

Result<void> remove_for_people(const Layout& layout) {
    ErrorCollector errors;
    // zsh brings its folder along, empty.
    const bool has_zsh = path_exists(layout.root + "/usr/bin/zsh");
    for (const ShellPlace& place : shell_places) {
        const std::string path = layout.share + std::string(place.path);
        errors.add(remove_file(path));
        errors.add(remove_file(temporary_of(path)));
        if (place.shell == "zsh" && has_zsh) continue;
        remove_folder_if_empty(parent_path(path));
        remove_folder_if_empty(parent_path(parent_path(path)));
    }
    const Result<std::vector<std::string>> pages = list_folder(man_folder(layout));
    for (const std::string& name : pages.value_or({}))
        if (name == "banger.1" || name.starts_with("banger-") || name.starts_with(".banger"))
            errors.add(remove_file(man_folder(layout) + "/" + name));
    remove_folder_if_empty(man_folder(layout));
    return errors.result();
}

}  // namespace

Result<std::vector<std::string>> missing_libraries(const std::string& file) {
    Command command;
    // The linker itself, asked as ldd asks it (a shell script): its --list stops with an error at
    // the first that is missing.
    command.program = "/lib64/ld-linux-x86-64.so.2";
    command.arguments = {file};
    command.environment = {{"LC_ALL", "C"}, {"LD_TRACE_LOADED_OBJECTS", "1"}};
    const CommandOutput output =
        BANGER_TRY(run_command(std::move(command), 20s, ByteCount::mib(1), {}));
    std::vector<std::string> missing;
    for (std::size_t at = 0; at < output.standard_output.size();) {
        const std::size_t end =
            std::min(output.standard_output.find('\n', at), output.standard_output.size());
        const std::string line = output.standard_output.substr(at, end - at);
        at = end + 1;
        const std::size_t arrow = line.find(" => not found");
        if (arrow == std::string::npos) continue;
        const std::size_t begin = line.find_first_not_of(" \t");
        missing.push_back(line.substr(begin, arrow - begin));
    }
    return missing;
}

std::string packages_of(const std::vector<std::string>& sonames) {
    std::set<std::string> names;
    for (const std::string& soname : sonames) {
        const auto* const known = std::ranges::find_if(
            packages, [&](const Package& package) { return soname.starts_with(package.soname); });
        names.insert(known == std::end(packages) ? soname : std::string(known->package));
    }
    std::string text;
    for (const std::string& name : names)
        text += (text.empty() ? "" : " ") + name;
    return text;
}

Result<Release> find_release(const std::string& program) {
    Release release;
    release.binaries = parent_path(program);
    const std::string library = parent_path(release.binaries) + "/lib/banger";
    release.plugins = library + "/plugins";
    release.agent = release.binaries + "/banger-vsock-agent";
    if (!path_exists(release.agent)) release.agent = library + "/banger-vsock-agent";
    release.plugin_host = release.binaries + "/banger-plugin-host";
    if (!path_exists(release.plugin_host)) release.plugin_host = library + "/banger-plugin-host";
    std::vector<std::string> files;
    for (const char* name : programs) {
        files.push_back(release.binaries + "/" + name);
        if (!path_exists(files.back())) return not_there(files.back());
    }
    if (!path_exists(release.agent)) return not_there(release.agent);
    if (!path_exists(release.plugin_host)) return not_there(release.plugin_host);
    files.push_back(release.plugin_host);
    if (!path_exists(release.plugins)) return not_there(release.plugins);
    release.manifests = BANGER_TRY(read_manifests(release.plugins));
    for (const Manifest& manifest : release.manifests)
        files.push_back(release.plugins + "/" + manifest.name.str() + ".so");
    BANGER_TRY(check_libraries(files));
    return release;
}

std::vector<PlannedFile> plan_files(const Release& release, const Layout& layout,
                                    const Owner& owner, const std::string& helper_config,
                                    bool has_kvm_group) {
    std::vector<PlannedFile> files;
    for (const char* name : programs)
        files.push_back({layout.binaries + "/" + name, 0755, release.binaries + "/" + name, {}});
    files.push_back({layout.library + "/banger-vsock-agent", 0755, release.agent, {}});
    files.push_back({layout.library + "/banger-plugin-host", 0755, release.plugin_host, {}});
    for (const Manifest& manifest : release.manifests)
        for (const char* suffix : {".so", ".toml"}) {
            const std::string name = "/" + manifest.name.str() + suffix;
            files.push_back({layout.plugins + name, 0644, release.plugins + name, {}});
        }
    files.push_back({layout.helper_config, 0644, {}, helper_config});
    files.push_back({layout.tmpfiles, 0644, {}, tmpfiles_text(owner)});
    files.push_back({layout.udev_rules, 0644, {}, std::string(udev_rules_text)});
    for (const char* unit : unit_names) {
        files.push_back({layout.units + "/" + unit, 0644, {}, std::string(unit_text(unit))});
        const std::string drop_in = owner_drop_in(unit, owner, has_kvm_group);
        if (!drop_in.empty())
            files.push_back({drop_in_folder(layout, unit) + "/owner.conf", 0644, {}, drop_in});
    }
    return files;
}

PlannedFile completion_file(const Layout& layout, std::string_view shell, std::string script) {
    const auto* const place = std::ranges::find(shell_places, shell, &ShellPlace::shell);
    return {layout.share + std::string(place->path), 0644, {}, std::move(script)};
}

PlannedFile man_file(const Layout& layout, const std::string& name, std::string page) {
    return {man_folder(layout) + "/" + name, 0644, {}, std::move(page)};
}

Result<bool> put_file(const PlannedFile& file) {
    const UniqueFd content = BANGER_TRY(open_content(file));
    if (BANGER_TRY(is_same(content.get(), file.path, file.mode))) return false;
    const std::string folder = parent_path(file.path);
    BANGER_TRY(ensure_folder(folder, 0755));
    const std::string temporary = temporary_of(file.path);
    BANGER_TRY(remove_file(temporary));
    UniqueFd target(
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!target) return Error::from_errno(errno, "making " + temporary);
    const auto write = [&]() -> Result<void> {
        BANGER_TRY(copy_all(content.get(), target.get(), temporary));
        if (::fchmod(target.get(), file.mode) != 0 || ::fsync(target.get()) != 0)
            return Error::from_errno(errno, "writing " + temporary);
        if (::rename(temporary.c_str(), file.path.c_str()) != 0)
            return Error::from_errno(errno, "renaming " + temporary);
        return sync_folder(folder);
    };
    Result<void> written = write();
    if (written) return true;
    (void)remove_file(temporary);
    return std::move(written).error().context("installing " + file.path);
}

Result<void> check_folders(const Layout& layout) {
    for (const std::string& wanted : {layout.binaries, layout.plugins, layout.etc, layout.units}) {
        for (std::string folder = wanted; folder.size() > layout.root.size() && folder != "/";
             folder = parent_path(folder)) {
            struct stat status {};
            if (::lstat(folder.c_str(), &status) != 0) {
                if (errno == ENOENT) continue;
                return Error::from_errno(errno, "looking at " + folder);
            }
            // The likes of /usr/local -> elsewhere are an administrator's choice.
            if (S_ISLNK(status.st_mode) && ::stat(folder.c_str(), &status) != 0)
                return Error::from_errno(errno, "looking at " + folder);
            if (!S_ISDIR(status.st_mode))
                return Error(Errc::already_exists, folder + " is not a folder", "Move it away.");
            if (status.st_uid != ::geteuid() || (status.st_mode & 022) != 0)
                return Error(
                    Errc::permission_denied,
                    folder +
                        " can be changed by others than root, and programs that run "
                        "as root would lie below it",
                    "Run: sudo chown root:root " + folder + " && sudo chmod go-w " + folder);
        }
    }
    return ok();
}

Result<void> remove_files(const Layout& layout) {
    ErrorCollector errors;
    errors.add(remove_for_people(layout));
    const auto remove = [&](const std::string& path) {
        errors.add(remove_file(path));
        errors.add(remove_file(temporary_of(path)));
    };
    for (const char* unit : unit_names) {
        remove(drop_in_folder(layout, unit) + "/owner.conf");
        remove_folder_if_empty(drop_in_folder(layout, unit));
        remove(layout.units + "/" + unit);
    }
    remove(layout.tmpfiles);
    remove(layout.udev_rules);
    errors.add(remove_tree(layout.library));
    for (const char* name : programs)
        remove(layout.binaries + "/" + name);
    remove(layout.helper_config);
    return errors.result();
}

Result<void> remove_state(const Layout& layout) {
    ErrorCollector errors;
    for (const std::string& folder : {layout.state, layout.root_state, layout.cache,
                                      layout.build_cache, layout.run, layout.root_run, layout.etc})
        errors.add(remove_tree(folder));
    return errors.result();
}

}  // namespace banger::system
