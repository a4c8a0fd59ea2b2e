#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <thread>

#include "cli/commands.hpp"
#include "cli/guest_session.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/copy/unpack_tree.hpp"

namespace banger::cli {

namespace {

/// "sandbox:work/report", or a path of this host.
struct Place {
    std::string vm;  ///< empty: this host
    std::string path;
    [[nodiscard]] bool is_remote() const { return !vm.empty(); }
    [[nodiscard]] bool is_stream() const { return vm.empty() && path == "-"; }
};

/// As scp has it: what has a slash before the first colon is a path of this host.
Place read_place(const std::string& word) {
    const std::size_t colon = word.find(':');
    if (colon == word.npos || colon == 0 || word.find('/') < colon) return {{}, word};
    return {word.substr(0, colon), word.substr(colon + 1)};
}

std::string without_last_slashes(std::string path) {
    while (path.size() > 1 && path.ends_with('/'))
        path.pop_back();
    return path;
}

/// What a path names in the folder above it; "." for a folder's content (`path/.`).
std::string last_name(const std::string& path) {
    const std::string plain = without_last_slashes(path);
    const std::string name = plain.substr(plain.rfind('/') + 1);
    return name.empty() ? "." : name;
}

/// Below the login folder unless absolute; no word of it is anything but a path to the shell.
std::string guest_path(const std::string& path) {
    std::string plain = without_last_slashes(path);
    if (plain == "~" || plain.empty()) plain = ".";
    if (plain.starts_with("~/")) plain = plain.substr(2);
    return shell_quote(plain.starts_with('-') ? "./" + plain : plain);
}

Error nameless() {
    return {Errc::invalid_argument, "a copy of \"..\" has no name", "Name the folder."};
}

/// The guest's tar speaks on standard error, and all of it is foreign.
class Complaint {
public:
    static Result<Complaint> open() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
        return Complaint(UniqueFd(ends[0]), UniqueFd(ends[1]));
    }
    [[nodiscard]] int fd() const { return write_.get(); }
    /// Call it once the child has the other end.
    void listen() {
        write_.reset();
        reader_ = std::jthread([this] {
            char buffer[4096];
            for (ssize_t count = 0; (count = ::read(read_.get(), buffer, sizeof buffer)) > 0;)
                if (text_->size() < limit) text_->append(buffer, static_cast<std::size_t>(count));
        });
    }
    std::string text() {
        if (reader_.joinable()) reader_.join();
        std::string out = printable(*text_, Newlines::kept);
        while (out.ends_with('\n'))
            out.pop_back();
        return out;
    }

private:
    static constexpr std::size_t limit = 8192;
    Complaint(UniqueFd read, UniqueFd write) : read_(std::move(read)), write_(std::move(write)) {}
    UniqueFd read_;
    UniqueFd write_;
    std::unique_ptr<std::string> text_ = std::make_unique<std::string>();
    std::jthread reader_;
};

/// One copy: the machine is running, and known by its id.
class Copy {
public:
    Copy(const Context& context, const protocol::Vm& vm) : context_(context), vm_(vm) {}

    Result<int> to_guest(const std::string& source, const std::string& target);
    Result<int> from_guest(const std::string& source, const std::string& target, bool is_many);

private:
    /// `banger vm ssh`: one connection, kept or new, with all that it knows about keys and waiting.
    [[nodiscard]] Command script(const std::string& text) const {
        Command command = script_by_banger(context_, vm_, text);
        command.new_session = false;  // Ctrl-C is for all of us
        return command;
    }
    Result<void> check(Child& child, Complaint& complaint, const std::string& what) const {
        const ExitStatus status = BANGER_TRY(child.wait({}));
        if (status.is_success()) return ok();
        const std::string said = complaint.text();
        return Error(Errc::unreachable, what + (said.empty() ? ": " + status.text() : ": " + said),
                     "");
    }
    Result<int> unpack(int stream, const std::string& name, const std::string& target,
                       bool is_many) const;

    const Context& context_;
    const protocol::Vm& vm_;
};

/// Packs on this host, unpacks in the guest. `cp -a` decides where: a folder that is there gets the
/// source into it, any other name becomes the source.
Result<int> Copy::to_guest(const std::string& source, const std::string& target) {
    const bool is_stream = source == "-";
    const std::string name = is_stream ? "." : last_name(source);
    if (name == "..") return nameless();
    const std::string quoted = shell_quote(name);
    // A slash at the end wants a folder that is there.
    const std::string here =
        guest_path(target.size() > 1 && target.ends_with('/') ? target + "." : target);
    std::string text = "cd || exit 1; d=" + here + "; ";
    if (is_stream)
        text += "cd -- \"$d\" && exec tar -xopf -";
    else if (name == ".")
        text += "{ [ -d \"$d\" ] || mkdir -- \"$d\"; } && cd -- \"$d\" && exec tar -xopf -";
    else
        // Beside its place first, so that another name is one rename.
        text +=
            "if [ -d \"$d\" ]; then cd -- \"$d\" && exec tar -xopf -; fi; "
            "t=$(dirname -- \"$d\")/.banger-copy-$$ && mkdir -- \"$t\" && "
            "{ tar -C \"$t\" -xopf - && mv -f -- \"$t\"/" +
            quoted + " \"$d\"; s=$?; rm -rf -- \"$t\"; exit $s; }";

    Complaint complaint = BANGER_TRY(Complaint::open());
    Command remote = script(text);
    remote.standard_error = complaint.fd();
    if (is_stream) {
        remote.standard_input = STDIN_FILENO;
        Child child = BANGER_TRY(spawn(remote));
        complaint.listen();
        BANGER_TRY(check(child, complaint, "copying to " + vm_.name));
        return 0;
    }
    struct stat status {};
    if (::lstat(source.c_str(), &status) != 0) return Error::from_errno(errno, source);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
    UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    const std::string plain = without_last_slashes(source);
    Command local;
    local.program = BANGER_TRY(find_program("tar"));
    local.environment = minimal_environment();
    local.arguments = {"--create",
                       "--file=-",
                       "--format=gnu",
                       "--directory",
                       name == "." ? plain : parent_path(plain),
                       "--",
                       name};
    if (!plain.starts_with('/')) {
        // A Command starts at /; a relative path is the user's.
        char folder[4096];
        if (::getcwd(folder, sizeof folder) == nullptr) return Error::from_errno(errno, "getcwd");
        local.working_folder = folder;
    }
    local.new_session = false;
    local.standard_output = write_end.get();
    local.standard_error = STDERR_FILENO;
    remote.standard_input = read_end.get();
    Child child = BANGER_TRY(spawn(remote));
    Child packer = BANGER_TRY(spawn(local));
    read_end.reset();
    write_end.reset();
    complaint.listen();
    const ExitStatus packed = BANGER_TRY(packer.wait({}));
    BANGER_TRY(check(child, complaint, "copying " + source + " to " + vm_.name));
    if (packed.is_success()) return 0;
    return Error(Errc::internal, "tar could not read all of " + source, "");
}

/// Packs in the guest, unpacks here with our own hands.
Result<int> Copy::from_guest(const std::string& source, const std::string& target, bool is_many) {
    const std::string here = guest_path(source);
    const std::string name = last_name(source.empty() || source == "~" ? "." : source);
    if (name == "..") return nameless();
    const bool is_stream = target == "-";
    std::string text = "cd || exit 1; p=" + here + "; ";
    if (name == ".")
        text += "cd -- \"$p\" && exec tar -cf - .";
    else
        text +=
            "if [ ! -e \"$p\" ] && [ ! -L \"$p\" ]; then echo \"there is no $p\" >&2; exit 1; fi; "
            "cd -- \"$(dirname -- \"$p\")\" && exec tar -cf - -- " +
            shell_quote(name);
    Complaint complaint = BANGER_TRY(Complaint::open());
    Command remote = script(text);
    remote.standard_error = complaint.fd();
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
    const UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    remote.standard_output = is_stream ? STDOUT_FILENO : write_end.get();
    Child child = BANGER_TRY(spawn(remote));
    write_end.reset();
    complaint.listen();
    const std::string what = "copying " + source + " from " + vm_.name;
    if (is_stream) {
        BANGER_TRY(check(child, complaint, what));
        return 0;
    }
    const Result<int> unpacked = unpack(read_end.get(), name, target, is_many);
    // What the guest says explains more than a stream that ended.
    if (!unpacked) {
        (void)child.terminate(std::chrono::milliseconds(2000));
        const std::string said = complaint.text();
        if (said.empty()) return unpacked.error();
        return Error(unpacked.error().code, what + ": " + said, "");
    }
    BANGER_TRY(check(child, complaint, what));
    return unpacked;
}

Result<int> Copy::unpack(int stream, const std::string& name, const std::string& target,
                         bool is_many) const {
    const std::string plain = without_last_slashes(target);
    struct stat status {};
    const bool is_folder = ::stat(plain.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
    if (!is_folder && (is_many || target.ends_with('/')))
        return Error(Errc::not_found, "there is no folder " + target, "Make it first.");
    std::string folder = plain;
    std::string to = name;
    if (!is_folder && name == ".") {
        if (::mkdir(plain.c_str(), 0755) != 0) return Error::from_errno(errno, "making " + plain);
    } else if (!is_folder) {
        folder = parent_path(plain);
        to = last_name(plain);
    }
    // The user's own words: a link to a folder is followed here, and never again.
    const UniqueFd destination(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!destination) return Error::from_errno(errno, "opening " + folder);
    const copy::Unpacked done =
        BANGER_TRY(copy::unpack_tree({.stream = stream,
                                      .folder = destination.get(),
                                      .from = name,
                                      .to = to,
                                      .limit = ByteCount::bytes(vm_.disk + vm_.root)}));
    for (const std::string& note : done.notes)
        context_.terminal.note("note: " + printable(note) + "\n");
    if (done.left_out > done.notes.size())
        context_.terminal.note("note: " + std::to_string(done.left_out - done.notes.size()) +
                               " more are left out\n");
    return done.left_out == 0 ? 0 : exit_failed;
}

Result<int> copy_words(const Arguments& arguments, Context& context) {
    std::vector<Place> places;
    for (const std::string& word : arguments.words)
        places.push_back(read_place(word));
    const Place target = places.back();
    places.pop_back();
    for (const Place& source : places)
        if (source.is_remote() == target.is_remote())
            return usage_error(
                context, Error(Errc::invalid_argument,
                               source.is_remote() ? "both ends are in machines"
                                                  : "neither end is in a machine",
                               "Write one of them as VM:PATH; ./a:b is a file of this host."));
    if (places.size() > 1 && (target.is_stream() || places.front().is_stream()))
        return usage_error(context, Error(Errc::invalid_argument, "\"-\" is one tar stream",
                                          "Copy one thing at a time with it."));
    if (target.is_stream() && context.terminal.out_is_terminal())
        return usage_error(context, Error(Errc::invalid_argument, "a terminal takes no tar stream",
                                          "Pipe it into tar, or into a file."));
    Session session = BANGER_TRY(open_session(context));
    int status = 0;
    for (const Place& source : places) {
        const auto copy_one = [&]() -> Result<int> {
            const std::string& name = source.is_remote() ? source.vm : target.vm;
            const protocol::Vm vm = BANGER_TRY(session.daemon.call<protocol::VmReply>(
                                                   "io.banger.Vm.Show", protocol::NamedVm{name}))
                                        .vm;
            if (vm.state != "running")
                return Error(Errc::wrong_state, vm.name + " is not running",
                             "Start it: banger vm start " + vm.name);
            Copy copying(context, vm);
            if (source.is_remote())
                return copying.from_guest(source.path, target.path, places.size() > 1);
            return copying.to_guest(source.path, places.size() > 1 && !target.path.ends_with('/')
                                                     ? target.path + "/."
                                                     : target.path);
        };
        const Result<int> done = copy_one();
        if (!done) context.terminal.error(done.error());
        if (!done || *done != 0) status = exit_failed;
    }
    return status;
}

}  // namespace

void add_vm_copy_command(CommandTable& table) {
    table.commands.push_back(
        {"vm",
         "cp",
         {"copy"},
         "copy files and folders into or out of a machine",
         "One end is VM:PATH; a path there that is not absolute begins at /root. Folders are "
         "copied "
         "with all that is in them, without a flag. As with `cp -a`: what exists as a folder gets "
         "SRC into it, any other DST is SRC's new name; several SRC need a folder; SRC/. is the "
         "content of SRC. Modes and times are kept, owners are not: in the guest all is root's, "
         "here "
         "yours. `-` is a tar stream on standard input or output.\n\nWhat comes out of a machine "
         "is "
         "not trusted: nothing is written outside of DST or through a link, set-user-id bits are "
         "dropped, and devices and links that lead out of what is copied are left out, which is "
         "said "
         "and makes the exit status 1.",
         {"SRC... DST", 2, Words::many},
         false,
         {},
         {{"banger vm cp notes.txt sandbox:", "into /root"},
          {"banger vm cp sandbox:/var/log ./logs", "a folder, with a name of its own"},
          {"banger vm cp sandbox:build/. out", "what is in a folder"},
          {"banger vm cp sandbox:data - | zstd > data.tar.zst", "as a tar stream"}},
         copy_words,
         nullptr});
}

}  // namespace banger::cli
