#include "plugins/image-debian/source.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "plugins/image-debian/build_folder.hpp"
#include "plugins/image-debian/build_output.hpp"
#include "plugins/image-debian/recipe.hpp"
#include "plugins/image-debian/user_unit.hpp"

namespace banger::image_debian {

namespace {

constexpr std::string_view architecture = "amd64";

ArtifactManifest manifest_of(const Recipe& recipe) {
    const bool is_image = recipe.kind == ArtifactKind::image;
    ArtifactManifest manifest;
    manifest.kind = recipe.kind;
    manifest.reference = recipe.reference;
    manifest.suggested_name = suggested_name(recipe);
    manifest.distro = recipe.distro;
    manifest.architecture = architecture;
    manifest.description = recipe.description;
    manifest.provenance = "packages of the signed Debian archive";
    if (is_image)
        manifest.kernel_reference = "debian-kernel:" + std::string(recipe.release) + "-cloud";
    manifest.parts.push_back({is_image ? PartFormat::tar_layer : PartFormat::kernel_tree,
                              {},
                              {},
                              std::string(recipe.reference)});
    return manifest;
}

/// The folder of downloaded packages for one kind, while it is ours.
class PackageCache {
public:
    /// Holds nothing when another build has it.
    PackageCache(const std::string& cache_folder, ArtifactKind kind)
        : folder_(cache_folder + "/packages-" + std::string(to_string(kind))) {
        Result<UniqueFd> lock = try_lock_file(folder_ + ".lock");
        if (!lock) return;
        lock_ = *std::move(lock);
        if (!remove_tree(fresh()) || !ensure_folder(fresh(), 0700) || !ensure_folder(folder_, 0700))
            lock_.reset();
    }
    [[nodiscard]] bool is_ours() const { return lock_.is_valid(); }
    [[nodiscard]] const std::string& folder() const { return folder_; }
    /// Takes the packages of this build.
    [[nodiscard]] std::string fresh() const { return folder_ + ".new"; }
    /// Puts them in the place of the old ones, so that obsolete versions go.
    Result<void> keep_fresh() {
        BANGER_TRY(remove_tree(folder_));
        if (std::rename(fresh().c_str(), folder_.c_str()) != 0)
            return Error::from_errno(errno, "keeping the downloaded packages");
        return ok();
    }
    Result<void> drop() { return remove_tree(folder_); }

private:
    std::string folder_;
    UniqueFd lock_;
};

bool reader_is_gone(const UniqueFd& sink) {
    pollfd state{sink.get(), POLLOUT, 0};
    return ::poll(&state, 1, 0) > 0 && (state.revents & POLLERR) != 0;
}

struct Pipe {
    UniqueFd read;
    UniqueFd write;
};

Result<Pipe> make_pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
    Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
    // The parent's end only: the child writes as it likes.
    if (::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK) != 0)
        return Error::from_errno(errno, "fcntl");
    return pipe;
}

/// Passes on what can be read now. False at the end.
bool pump(const UniqueFd& from, BuildOutput& output, Call& call) {
    char buffer[16384];
    for (;;) {
        const ssize_t count = ::read(from.get(), buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno == EAGAIN;
        if (count == 0) return false;
        const std::string_view bytes(buffer, static_cast<std::size_t>(count));
        if (const std::optional<Progress> progress = output.add(bytes)) call.report(*progress);
    }
}

/// Until the child ended and everything that it printed was read. A grandchild that keeps the pipe
/// open does not hold it up.
Result<ExitStatus> follow(Child& child, const UniqueFd& errors, BuildOutput& output, Call& call) {
    const UniqueFd both(::epoll_create1(EPOLL_CLOEXEC));
    epoll_event on_output{EPOLLIN, {}};
    epoll_event on_exit{EPOLLIN, {}};
    if (!both || ::epoll_ctl(both.get(), EPOLL_CTL_ADD, errors.get(), &on_output) != 0 ||
        ::epoll_ctl(both.get(), EPOLL_CTL_ADD, child.pidfd().get(), &on_exit) != 0)
        return Error::from_errno(errno, "epoll");
    for (;;) {
        BANGER_TRY(poll_fd(both.get(), POLLIN, std::chrono::milliseconds(-1), call.stop()));
        pollfd exited{child.pidfd().get(), POLLIN, 0};
        const bool is_over = ::poll(&exited, 1, 0) > 0;
        const bool is_open = pump(errors, output, call);
        if (is_over || !is_open) return child.wait(call.stop());
    }
}

/// Everything is dead when nobody holds the pipe any more; before, files still come and go.
void await_silence(const UniqueFd& errors) {
    char buffer[4096];
    constexpr std::chrono::seconds patience(10);
    while (poll_fd(errors.get(), POLLIN, patience, {}).value_or(0) > 0)
        if (const ssize_t count = ::read(errors.get(), buffer, sizeof buffer);
            count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
            return;
}

Error not_installed(const std::string& name) {
    return Error(Errc::unavailable, name + " is not installed", "Run sudo apt install mmdebstrap.");
}

}  // namespace

Roles DebianSource::roles() {
    Roles roles;
    roles.image_source = this;
    return roles;
}

Result<Resolution> DebianSource::resolve(const ResolveRequest& request, Call& call) {
    if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
    if (request.architecture != architecture)
        return Error(Errc::not_found, "only amd64 is built here");
    const Recipe* recipe = BANGER_TRY(find_recipe(request.kind, request.reference));
    return Resolution(manifest_of(*recipe));
}

Result<void> DebianSource::fetch(const ArtifactManifest& manifest, std::size_t part,
                                 std::uint64_t resume_from, const UniqueFd& sink, Call& call) {
    if (part >= manifest.parts.size())
        return Error(Errc::invalid_argument, "there is no part " + std::to_string(part));
    const Result<const Recipe*> recipe = find_recipe(manifest.kind, manifest.parts[part].locator);
    if (!recipe) return Error(Errc::invalid_argument, "the part's locator is not a recipe");
    if (resume_from > 0) return Error(Errc::unsupported, "a build cannot go on in the middle");
    if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
    const Result<std::string> program = find_program(options_.mmdebstrap);
    if (!program) return not_installed(options_.mmdebstrap);
    return build(**recipe, *program, sink, call)
        .context("building " + std::string((*recipe)->reference));
}

Result<void> DebianSource::build(const Recipe& recipe, const std::string& program,
                                 const UniqueFd& sink, Call& call) {
    PackageCache cache(host_.cache_folder(), recipe.kind);
    // A folder that cannot be removed now is a row of a later day, not a reason to build nothing.
    const Result<int> reaped =
        reap_build_folders(options_.work_folder, program, cache.is_ours() ? cache.folder() : "");
    if (!reaped) host_.log(LogLevel::warning, reaped.error().text());

    BuildFolder folder = BANGER_TRY(BuildFolder::make(options_.work_folder, program));
    BuildFolders folders{folder.path(), "", ""};
    if (cache.is_ours()) {
        folders.packages_in = cache.folder();
        folders.packages_out = cache.fresh();
    }
    Pipe errors = BANGER_TRY(make_pipe());
    Command command = build_command(recipe, program, options_, folders);
    const std::string unit = is_confined() ? unit_of(folder.path()) : "";
    if (!unit.empty()) command = as_user_unit(command, unit);
    command.standard_output = sink.get();
    command.standard_error = errors.write.get();
    call.report({"starting mmdebstrap", 0, 0, Progress::Unit::none});
    Child child = BANGER_TRY(spawn(command));
    errors.write.reset();
    BANGER_TRY(folder.record(child.id()));

    BuildOutput output;
    const Result<ExitStatus> status = follow(child, errors.read, output, call);
    if (status && status->is_success()) {
        if (cache.is_ours())
            if (const Result<void> kept = cache.keep_fresh(); !kept)
                host_.log(LogLevel::warning, kept.error().text());
        return folder.remove();
    }
    // No time to tidy up: whatever it leaves is ours to remove, and its packages ours to keep.
    child.terminate(std::chrono::milliseconds(0));
    if (!unit.empty())
        if (const Result<void> stopped = stop_unit(unit); !stopped)
            host_.log(LogLevel::warning, stopped.error().text());
    await_silence(errors.read);
    if (cache.is_ours() && output.blames_packages())
        BANGER_TRY(cache.drop());
    else if (cache.is_ours())
        rescue_packages(folder.path(), cache.folder());
    if (const Result<void> removed = folder.remove(); !removed)
        host_.log(LogLevel::warning, removed.error().text());
    if (!status) return status.error();
    if (reader_is_gone(sink)) return Error(Errc::cancelled, "the reader of the image went away");
    return output.explain(*status);
}

Result<std::vector<AvailableArtifact>> DebianSource::available(Call&) {
    std::vector<AvailableArtifact> list;
    for (const Recipe& recipe : recipes())
        if (recipe.is_listed)
            list.push_back({recipe.kind, std::string(recipe.reference), std::string(recipe.distro),
                            std::string(architecture), std::string(recipe.description)});
    return list;
}

bool has_subordinate_ids(std::string_view table, std::string_view user) {
    while (!table.empty()) {
        const std::size_t end = std::min(table.find('\n'), table.size());
        const std::string_view line = table.substr(0, end);
        table.remove_prefix(std::min(end + 1, table.size()));
        const std::size_t last = line.rfind(':');
        if (user.empty() || !line.starts_with(std::string(user) + ":") ||
            last == std::string_view::npos)
            continue;
        std::uint64_t count = 0;
        std::from_chars(line.data() + last + 1, line.data() + line.size(), count);
        return count >= 65536;  // mmdebstrap takes the first line of a user
    }
    return false;
}

namespace {

Check check_program(const std::string& name, const std::string& what, const std::string& package) {
    const Result<std::string> found = find_program(name);
    if (found) return {what, CheckStatus::pass, *found, ""};
    return {what, CheckStatus::fail, found.error().message,
            "Run sudo apt install " + package + "."};
}

Check check_keys() {
    for (const char* path : {"/usr/share/keyrings/debian-archive-keyring.gpg",
                             "/etc/apt/trusted.gpg.d/debian-archive-bookworm-stable.asc"})
        if (path_exists(path)) return {"debian archive keys", CheckStatus::pass, path, ""};
    return {"debian archive keys", CheckStatus::fail, "no keyring of the Debian archive",
            "Run sudo apt install debian-archive-keyring."};
}

std::string user_name() {
    char buffer[16384];
    passwd entry{};
    passwd* found = nullptr;
    if (::getpwuid_r(::getuid(), &entry, buffer, sizeof buffer, &found) != 0 || !found) return "";
    return found->pw_name;
}

Check check_namespaces() {
    const std::string name = "user namespaces";
    if (::geteuid() == 0) return {name, CheckStatus::pass, "not needed by root", ""};
    const std::string user = user_name();
    for (const char* path : {"/etc/subuid", "/etc/subgid"})
        if (!has_subordinate_ids(read_file(path, ByteCount::mib(1)).value_or(""), user))
            return {name, CheckStatus::fail, std::string(path) + " gives " + user + " no ids",
                    "Run sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " +
                        user + "."};
    const Result<std::string> found = find_program("newuidmap");
    if (!found)
        return {name, CheckStatus::fail, "newuidmap is not installed",
                "Run sudo apt install uidmap."};
    const Result<std::string> limit =
        read_file("/proc/sys/user/max_user_namespaces", ByteCount::kib(1));
    const Result<std::string> allowed =
        read_file("/proc/sys/kernel/unprivileged_userns_clone", ByteCount::kib(1));
    if ((limit && limit->starts_with("0\n")) || (allowed && allowed->starts_with("0")))
        return {
            name, CheckStatus::fail, "this host does not let users make namespaces",
            "Run sudo sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000."};
    return {name, CheckStatus::pass, "ids of " + user + " and newuidmap are there", ""};
}

}  // namespace

std::vector<Check> DebianSource::checks(std::stop_token) {
    return {check_program(options_.mmdebstrap, "mmdebstrap", "mmdebstrap"),
            check_program("depmod", "depmod", "kmod"), check_keys(), check_namespaces()};
}

Result<std::unique_ptr<Plugin>> make_image_debian(Host& host) {
    Options options = BANGER_TRY(read_options(host.settings()));
    end_orphaned_builds(options.work_folder);
    return std::unique_ptr<Plugin>(std::make_unique<DebianSource>(host, std::move(options)));
}

}  // namespace banger::image_debian

BANGER_PLUGIN("image-debian", banger::image_debian::make_image_debian);
