#include "core/workspace/copy_in.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <unordered_set>

#include "core/base/file.hpp"
#include "core/workspace/conversation.hpp"
#include "core/workspace/full_copy.hpp"
#include "core/workspace/guest_git.hpp"
#include "core/workspace/scripts.hpp"
#include "core/workspace/tar_stream.hpp"

namespace banger::workspace {

namespace {

/// Opens below `root` without following any link; with O_PATH a link itself.
UniqueFd open_beneath(int root, const std::string& path, std::uint64_t flags) {
    open_how how{};
    how.flags = flags | O_NOFOLLOW | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    return UniqueFd(static_cast<int>(::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
}

/// What lies at a path of the working tree.
struct Found {
    struct stat status {};
    bool is_there = false;
};

Found look(int root, const std::string& path) {
    Found found;
    const UniqueFd fd = open_beneath(root, path, O_PATH);
    found.is_there = fd && ::fstat(fd.get(), &found.status) == 0 &&
                     (S_ISREG(found.status.st_mode) || S_ISLNK(found.status.st_mode));
    return found;
}

Result<UniqueFd> open_root(const Repository& repository) {
    UniqueFd root(::open(repository.root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) return Error::from_errno(errno, "opening " + repository.root);
    return root;
}

bool is_tool_file(const std::string& path) {
    return path == ".mise.toml" || path == "mise.toml" || path == ".tool-versions";
}

Result<void> check_branch(const HostGit& git, const std::string& root, const std::string& name,
                          std::stop_token stop) {
    const bool fits = !name.starts_with('-') &&
                      BANGER_TRY(git.ask(root, {"check-ref-format", "refs/heads/" + name}, stop));
    if (fits) return ok();
    return Error(Errc::invalid_argument, "\"" + name + "\" cannot be the name of a branch",
                 "Give one such as fix/readme: no spaces, no \"..\", no \"~^:?*[\\\".");
}

Result<void> check_submodules(const CopyPlan& plan) {
    if (plan.listing.submodules.empty() || plan.request.mode == Mode::full_copy) return ok();
    return Error(Errc::unsupported,
                 plan.repository.root + " has submodules (" + plan.listing.submodules.front() +
                     (plan.listing.submodules.size() > 1 ? ", …)" : ")"),
                 "Copy the tree as it is: --mode full-copy");
}

/// Which files the guest gets, and which of them the base commit has.
Result<void> choose_files(const HostGit& git, CopyPlan& plan, std::stop_token stop) {
    const UniqueFd root = BANGER_TRY(open_root(plan.repository));
    std::unordered_set<std::string> changed;
    const auto add_if_there = [&](const std::string& path) {
        if (look(root.get(), path).is_there) plan.files.push_back(path);
    };
    for (const ChangedPath& change : plan.listing.changed) {
        changed.insert(change.path);
        // Taken out of the index and nothing else: now it is an untracked file.
        if (change.staged != "0") add_if_there(change.path);
    }
    if (plan.request.mode == Mode::full_copy) {
        for (const std::string& path : plan.listing.tracked)
            if (!changed.contains(path)) plan.files.push_back(path);
    } else {
        const std::string listed = BANGER_TRY(
            git.run(plan.repository.root, {"ls-tree", "-r", "-z", "--name-only", plan.base}, stop));
        for (std::string& path : split_nul(listed))
            if (!changed.contains(path)) plan.in_base.push_back(std::move(path));
        plan.files.insert(plan.files.end(), plan.in_base.begin(), plan.in_base.end());
    }
    const bool takes_all = plan.request.with_untracked || plan.request.mode == Mode::full_copy;
    if (takes_all) std::ranges::for_each(plan.listing.untracked, add_if_there);
    plan.left_out = takes_all ? 0 : plan.listing.untracked.size();
    plan.wants_tools = std::ranges::any_of(plan.files, is_tool_file);
    return ok();
}

// ---- sending ----

/// One copy on its way.
class Sending {
public:
    Sending(const HostGit& git, const CopyPlan& plan, Conversation& guest, bool is_gzipped,
            const std::function<void(const Progress&)>& on_progress, std::stop_token stop)
        : git_(git),
          plan_(plan),
          tar_([&guest](std::string_view bytes) { return guest.write(bytes); }, is_gzipped),
          on_progress_(on_progress),
          stop_(std::move(stop)) {}

    /// Without a pack the tree and .git are sent as they are.
    Result<void> run(const Pack* pack, bool guest_checks_out);
    CopyResult result;

private:
    Result<void> send_overlay(const Pack& pack, bool guest_checks_out);
    Result<void> send_full();
    Result<void> send_git_file(const GitFile& file);
    Result<void> send_paths(const std::vector<std::string>& paths);
    Result<void> send_path(const std::string& path);
    Result<void> send_index(const Pack& pack);
    Result<void> send_host_file(const std::string& from, const std::string& to, bool is_packed);
    void report(std::uint64_t more);

    const HostGit& git_;
    const CopyPlan& plan_;
    TarStream tar_;
    const std::function<void(const Progress&)>& on_progress_;
    std::stop_token stop_;
    UniqueFd root_;
    std::uint64_t done_ = 0;
    std::uint64_t total_ = 0;
    std::uint64_t reported_ = 0;
};

std::string joined(const std::vector<std::string>& paths) {
    std::string out;
    for (const std::string& path : paths)
        out += path + '\0';
    return out;
}

void Sending::report(std::uint64_t more) {
    done_ += more;
    if (!on_progress_ || (done_ - reported_ < (64 << 10) && done_ < total_)) return;
    reported_ = done_;
    on_progress_({"copying " + plan_.repository.root, done_, std::max(total_, done_),
                  Progress::Unit::bytes});
}

Result<void> Sending::send_host_file(const std::string& from, const std::string& to,
                                     bool is_packed) {
    const UniqueFd fd(::open(from.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0) return Error::from_errno(errno, "opening " + from);
    bool is_torn = false;
    const auto size = static_cast<std::uint64_t>(status.st_size);
    BANGER_TRY(tar_.add_descriptor(to, fd.get(), size, (status.st_mode & 0100) != 0,
                                   status.st_mtim.tv_sec, is_packed, is_torn, stop_));
    report(size);
    return ok();
}

Result<void> Sending::send_path(const std::string& path) {
    const auto gone = [&] {
        result.notes.push_back(path + " vanished while it was copied, and is left out");
        return ok();
    };
    const Found found = look(root_.get(), path);
    if (!found.is_there) return gone();
    const std::int64_t time = found.status.st_mtim.tv_sec;
    if (S_ISLNK(found.status.st_mode)) {
        const UniqueFd link = open_beneath(root_.get(), path, O_PATH);
        std::array<char, 4096> target{};
        const ssize_t length =
            link ? ::readlinkat(link.get(), "", target.data(), target.size()) : -1;
        if (length < 0) return gone();
        BANGER_TRY(tar_.add_link(path, {target.data(), static_cast<std::size_t>(length)}, time));
        ++result.files;
        return ok();
    }
    const UniqueFd fd = open_beneath(root_.get(), path, O_RDONLY | O_NONBLOCK);
    struct stat status {};
    if (!fd && errno == EACCES)
        return Error(Errc::permission_denied,
                     plan_.repository.root + "/" + path + " cannot be read",
                     "Make it readable for you.");
    if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return gone();
    bool is_torn = false;
    const auto size = static_cast<std::uint64_t>(status.st_size);
    BANGER_TRY(tar_.add_descriptor(path, fd.get(), size, (status.st_mode & 0100) != 0,
                                   status.st_mtim.tv_sec, false, is_torn, stop_));
    if (is_torn) result.notes.push_back(path + " changed while it was copied");
    ++result.files;
    report(size);
    return ok();
}

Result<void> Sending::send_paths(const std::vector<std::string>& paths) {
    for (const std::string& path : paths)
        BANGER_TRY(send_path(path));
    return ok();
}

/// For a guest that has no git to make one.
Result<void> Sending::send_index(const Pack& pack) {
    const std::string path = pack.path + ".index";
    Command git = git_.command(plan_.repository.root, {"read-tree", plan_.base});
    git.environment["GIT_INDEX_FILE"] = path;
    const CommandOutput output =
        BANGER_TRY(run_command(git, std::chrono::minutes(10), ByteCount::mib(1), stop_));
    if (!output.status.is_success())
        return Error(Errc::wrong_state, "git read-tree: " + output.standard_error);
    return send_host_file(path, ".git/index", false);
}

Result<void> Sending::send_overlay(const Pack& pack, bool guest_checks_out) {
    BANGER_TRY(add_git_files(git_, plan_, tar_, stop_));
    std::string staged;
    for (const ChangedPath& change : plan_.listing.changed) {
        // With another base the difference to HEAD says nothing.
        if (change.staged.empty() || plan_.base != plan_.repository.head) continue;
        const std::string entry =
            change.staged == "0" ? "0 " + std::string(plan_.base.size(), '0') : change.staged;
        staged += entry + "\t" + change.path + '\0';
    }
    BANGER_TRY(tar_.add_file(".git/banger/staged", staged, false));

    std::vector<std::string> sent = plan_.files;
    if (guest_checks_out) {
        const std::unordered_set<std::string> made(plan_.in_base.begin(), plan_.in_base.end());
        std::erase_if(sent, [&](const std::string& path) { return made.contains(path); });
        BANGER_TRY(tar_.add_file(".git/banger/checkout", joined(plan_.in_base), false));
        result.files = plan_.in_base.size();
    } else {
        BANGER_TRY(send_index(pack));
    }
    total_ = pack.size;
    for (const std::string& path : sent) {
        const Found found = look(root_.get(), path);
        if (found.is_there) total_ += static_cast<std::uint64_t>(found.status.st_size);
    }
    for (const char* suffix : {".pack", ".idx"})
        if (!pack.name.empty())
            BANGER_TRY(send_host_file(pack.path + suffix, ".git/objects/pack/" + pack.name + suffix,
                                      true));
    return send_paths(sent);
}

Result<void> Sending::send_git_file(const GitFile& file) {
    struct stat status {};
    if (::lstat(file.from.c_str(), &status) != 0) return ok();  // git has tidied up
    if (S_ISLNK(status.st_mode)) return ok();
    if (file.is_config)
        return tar_.add_file(file.to, BANGER_TRY(public_config(git_, file.from, stop_)), false);
    return send_host_file(file.from, file.to, file.to.starts_with(".git/objects/"));
}

Result<void> Sending::send_full() {
    const std::vector<GitFile> inside = BANGER_TRY(list_git_files(plan_));
    for (const GitFile& file : inside) {
        struct stat status {};
        if (::lstat(file.from.c_str(), &status) == 0)
            total_ += static_cast<std::uint64_t>(status.st_size);
    }
    for (const std::string& path : plan_.files) {
        const Found found = look(root_.get(), path);
        if (found.is_there) total_ += static_cast<std::uint64_t>(found.status.st_size);
    }
    const std::optional<std::string>& branch = plan_.request.branch;
    for (const GitFile& file : inside)
        if (!branch || file.to != ".git/HEAD") BANGER_TRY(send_git_file(file));
    BANGER_TRY(tar_.add_folder(".git/refs/heads"));
    if (branch) {
        BANGER_TRY(tar_.add_file(".git/HEAD", "ref: refs/heads/" + *branch + "\n", false));
        BANGER_TRY(tar_.add_file(".git/refs/heads/" + *branch, plan_.base + "\n", false));
    }
    for (const std::string& path : plan_.listing.submodules)
        BANGER_TRY(tar_.add_folder(path));
    return send_paths(plan_.files);
}

Result<void> Sending::run(const Pack* pack, bool guest_checks_out) {
    root_ = BANGER_TRY(open_root(plan_.repository));
    BANGER_TRY(pack ? send_overlay(*pack, guest_checks_out) : send_full());
    // Last: its presence tells that everything has arrived.
    BANGER_TRY(tar_.add_file(".git/banger/files", joined(plan_.files), false));
    return tar_.finish();
}

/// What an overlay sends besides the pack, in bytes.
Result<std::uint64_t> bytes_over_base(const CopyPlan& plan) {
    const UniqueFd root = BANGER_TRY(open_root(plan.repository));
    const std::unordered_set<std::string> made(plan.in_base.begin(), plan.in_base.end());
    std::uint64_t bytes = 0;
    for (const std::string& path : plan.files) {
        if (made.contains(path)) continue;
        const Found found = look(root.get(), path);
        if (found.is_there) bytes += static_cast<std::uint64_t>(found.status.st_size);
    }
    return bytes;
}

// ---- the guest's side ----

struct GuestState {
    std::string state;
    bool has_git = false;
    bool has_gzip = false;
    std::string have;  ///< a commit whose files it says it has; or empty
};

Result<GuestState> read_state(const std::string& line) {
    const auto words = [&] {
        std::vector<std::string> out;
        std::size_t begin = 0;
        for (std::size_t end = 0; end != line.npos; begin = end + 1) {
            end = line.find(' ', begin);
            out.push_back(line.substr(begin, end == line.npos ? end : end - begin));
        }
        return out;
    }();
    const auto is_commit = [](const std::string& word) {
        return (word.size() == 40 || word.size() == 64) &&
               word.find_first_not_of("0123456789abcdef") == word.npos;
    };
    if (words.size() != 5 || words[0] != "banger" || (words[4] != "-" && !is_commit(words[4])))
        return Error(Errc::corrupt, "the guest's answer is not understood");
    return GuestState{words[1], words[2] == "git", words[3] == "gzip",
                      words[4] == "-" ? std::string() : words[4]};
}

Result<void> check_state(const GuestState& guest, const CopyPlan& plan) {
    const std::string& path = plan.request.guest_path;
    if (guest.state == "changed")
        return Error(
            Errc::wrong_state, path + " was changed in the guest since it was prepared",
            "Get the changes first: banger vm workspace export; or replace them: banger vm "
            "workspace prepare --force");
    if (guest.state == "foreign")
        return Error(Errc::wrong_state, path + " in the guest holds something else",
                     "Choose another place with --guest-path, or remove it there.");
    if (guest.state == "new" || guest.state == "incomplete" || guest.state == "prepared")
        return ok();
    return Error(Errc::corrupt, "the guest's answer is not understood");
}

std::string printable(std::string text) {
    text.resize(std::min<std::size_t>(text.size(), 500));
    for (char& c : text)
        if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
    return text;
}

/// Why a conversation broke off, in the guest's words if it has any.
Error what_failed(Conversation& guest, const Error& error) {
    if (error.code != Errc::unreachable) return error;
    const Result<std::string> line = guest.read_line();
    std::string why =
        line && line->starts_with("banger failed ") ? printable(line->substr(14)) : "";
    static_cast<void>(guest.finish());
    if (why.empty()) why = guest.complaint();
    return {Errc::unreachable,
            "the guest did not take the files" + (why.empty() ? std::string() : ": " + why)};
}

Result<void> wait_until_done(Conversation& guest,
                             const std::function<void(const Progress&)>& on_progress,
                             std::size_t files) {
    for (;;) {
        const std::string line = BANGER_TRY(guest.read_line());
        if (line == "banger done") return ok();
        if (line.starts_with("banger failed ")) {
            static_cast<void>(guest.finish());
            std::string why = printable(line.substr(14));
            if (!guest.complaint().empty()) why += " (" + guest.complaint() + ")";
            return Error(Errc::wrong_state, why);
        }
        if (line != "banger checkout")
            return Error(Errc::corrupt, "the guest's answer is not understood");
        if (on_progress)
            on_progress(
                {"checking out " + std::to_string(files) + " files", 0, 0, Progress::Unit::none});
    }
}

/// A folder of this copy, gone with it.
class Scratch {
public:
    static Result<Scratch> make(const std::string& parent) {
        BANGER_TRY(ensure_private_folder(parent));
        std::string path = parent + "/pack-XXXXXX";
        if (::mkdtemp(path.data()) == nullptr) return Error::from_errno(errno, "making " + path);
        return Scratch(path);
    }
    Scratch(Scratch&& other) noexcept : path_(std::exchange(other.path_, {})) {}
    Scratch& operator=(Scratch&&) = delete;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() {
        // In a cache: what stays is found by whoever tidies that.
        if (!path_.empty()) static_cast<void>(remove_tree(path_));
    }
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    explicit Scratch(std::string path) : path_(std::move(path)) {}
    std::string path_;
};

}  // namespace

std::string to_string(Mode mode) { return mode == Mode::overlay ? "overlay" : "full-copy"; }

std::optional<Mode> parse_mode(const std::string& word) {
    if (word == "overlay") return Mode::overlay;
    if (word == "full-copy") return Mode::full_copy;
    return std::nullopt;
}

std::string CopyPlan::fingerprint() const {
    return request.with_untracked ? listing.fingerprint + "-" + listing.untracked_fingerprint
                                  : listing.fingerprint;
}

Result<void> check_guest_path(const std::string& path) {
    static constexpr std::array<const char*, 18> taken = {
        "/",    "/bin", "/boot", "/dev",  "/etc", "/home", "/lib", "/lib64", "/media",
        "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys",   "/var"};
    static constexpr std::array<const char*, 5> below = {"/dev/", "/proc/", "/sys/", "/usr/",
                                                         "/run/"};
    const bool is_plain = path.starts_with('/') && path.size() <= 1024 && !path.ends_with('/') &&
                          path.find("//") == path.npos && (path + "/").find("/../") == path.npos &&
                          (path + "/").find("/./") == path.npos &&
                          std::ranges::none_of(path, [](unsigned char c) {
                              return c < ' ' || c == 0x7f || c == ':' || c == '"' || c == '\\';
                          });
    const bool is_free =
        std::ranges::none_of(taken, [&](const char* each) { return path == each; }) &&
        path != "/usr" && path != "/tmp" && path.find("/.git/") == path.npos &&
        std::ranges::none_of(below, [&](const char* each) { return path.starts_with(each); });
    if (is_plain && is_free) return ok();
    return Error(Errc::invalid_argument, "a repository cannot be copied to \"" + path + "\"",
                 "Give an absolute path of its own, such as /root/repo.");
}

Result<CopyPlan> plan_copy(const HostGit& git, const CopyRequest& request, std::stop_token stop) {
    BANGER_TRY(check_guest_path(request.guest_path));
    CopyPlan plan;
    plan.request = request;
    plan.repository = BANGER_TRY(open_repository(git, request.source, stop));
    const std::string& root = plan.repository.root;
    if (request.branch) BANGER_TRY(check_branch(git, root, *request.branch, stop));
    plan.base = request.from ? BANGER_TRY(find_commit(git, plan.repository, *request.from, stop))
                             : plan.repository.head;
    if (request.mode == Mode::full_copy && plan.base != plan.repository.head)
        return Error(Errc::unsupported,
                     "a full copy is of what is checked out, not of another commit",
                     "Leave --from out, or use --mode overlay.");
    plan.listing = BANGER_TRY(list_repository(git, plan.repository, stop));
    BANGER_TRY(check_submodules(plan));
    BANGER_TRY(choose_files(git, plan, stop));
    if (request.mode == Mode::full_copy) {
        BANGER_TRY(add_submodules(git, plan, stop));
        BANGER_TRY(list_git_files(plan));
    }
    std::ranges::sort(plan.files);
    return plan;
}

Result<CopyResult> copy_in(const HostGit& git, const CopyPlan& plan, const GuestShell& shell,
                           const std::string& scratch,
                           const std::function<void(const Progress&)>& on_progress,
                           std::stop_token stop) {
    const Identity user = BANGER_TRY(global_identity(git, stop));
    Conversation guest = BANGER_TRY(Conversation::start(
        shell(prepare_script({plan.request.guest_path, plan.base, plan.request.is_forced,
                              plan.request.is_readonly, user.name, user.email})),
        stop));
    const Result<std::string> line = guest.read_line();
    if (!line) return what_failed(guest, line.error());
    const GuestState state = BANGER_TRY(read_state(*line));
    BANGER_TRY(check_state(state, plan));

    const Scratch folder = BANGER_TRY(Scratch::make(scratch));
    // What it says it has is of use only where we have it too, to tell what it lacks.
    std::optional<std::string> had;
    if (plan.request.mode == Mode::overlay && !state.have.empty())
        had = BANGER_TRY(git.ask(plan.repository.root, listing_of(state.have), stop));
    std::optional<Pack> pack;
    if (plan.request.mode == Mode::overlay) {
        if (on_progress)
            on_progress({"packing " + plan.repository.root, 0, 0, Progress::Unit::none});
        pack = BANGER_TRY(make_pack(git, plan, had.value_or(""), folder.path(), stop));
    }
    const bool checks_out = pack && state.has_git;
    // A pack is compressed already: where little else is sent, gzip would only be in the way.
    const bool is_packed =
        checks_out && BANGER_TRY(bytes_over_base(plan)) < pack->size / 4 + (64 << 10);
    const bool is_gzipped = state.has_gzip && !is_packed;
    Sending sending(git, plan, guest, is_gzipped, on_progress, stop);
    Result<void> sent =
        guest.write("go " + std::string(is_gzipped ? "gzip" : "plain") + " " +
                    (checks_out ? "checkout" : "all") + (had ? " keep" : " none") + "\n");
    if (sent) sent = sending.run(pack ? &*pack : nullptr, checks_out);
    if (!sent) return what_failed(guest, sent.error());
    guest.close_input();
    const Result<void> done = wait_until_done(guest, on_progress, sending.result.files);
    if (!done) return what_failed(guest, done.error());
    const ExitStatus status = BANGER_TRY(guest.finish());
    if (!status.is_success())
        return Error(Errc::unreachable, "the copy broke off: " + guest.complaint());
    return std::move(sending.result);
}

}  // namespace banger::workspace
