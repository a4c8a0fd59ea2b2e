#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "cli/commands.hpp"
#include "cli/render/progress.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "core/base/file.hpp"
#include "core/base/rollback.hpp"
#include "core/protocol/catalog_fields.hpp"

namespace banger::cli {

namespace {

using protocol::Published;

bool is_folder(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

Error is_there(const std::string& path) {
    return {Errc::already_exists, path + " is there already",
            "Choose another name, or replace it with --force."};
}

/// Gives a finished file its name. Without `force` it never replaces one, also not one that came
/// into being just now.
Result<void> give_name(const std::string& from, const std::string& to, bool force) {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), force ? 0 : RENAME_NOREPLACE) ==
        0)
        return ok();
    const int why = errno;
    if (why == EEXIST) return is_there(to);
    // A file system that does not know NOREPLACE: link(2) does not replace either, nor does it
    // exist on vfat, where there is no better way than to look first.
    if (why == EINVAL && !force) {
        if (path_exists(to)) return is_there(to);
        if (::rename(from.c_str(), to.c_str()) == 0) return ok();
    }
    return Error::from_errno(why, "writing " + to);
}

/// To another file system: beside its place first, so that nobody sees half of it.
Result<void> copy_to(const std::string& from, const std::string& to, bool force, std::uint64_t size,
                     int stop_fd) {
    const UniqueFd source = BANGER_TRY(open_read(from));
    const std::string partial = to + ".partial";
    Rollback rollback({});
    rollback.add("removing " + partial, [&] { return remove_file(partial); });
    const UniqueFd target(
        ::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (!target) return Error::from_errno(errno, "making " + partial);
    constexpr std::uint64_t step = std::uint64_t{16} << 20;
    std::string buffer(1 << 20, '\0');
    for (std::uint64_t at = 0; at < size;) {
        pollfd interrupted{stop_fd, POLLIN, 0};
        if (::poll(&interrupted, 1, 0) > 0) return Error(Errc::cancelled, "cancelled");
        const std::uint64_t end = std::min(at + step, size);
        while (at < end) {
            const ssize_t count =
                ::pread(source.get(), buffer.data(), buffer.size(), static_cast<off_t>(at));
            if (count < 0) return Error::from_errno(errno, "reading the bundle");
            if (count == 0) return Error(Errc::corrupt, "bangerd's bundle ended too early");
            BANGER_TRY(write_all(target.get(), std::string_view(buffer).substr(
                                                   0, static_cast<std::size_t>(count)))
                           .context("writing " + partial));
            at += static_cast<std::uint64_t>(count);
        }
    }
    if (::fsync(target.get()) != 0) return Error::from_errno(errno, "writing " + partial);
    BANGER_TRY(give_name(partial, to, force));
    rollback.commit();
    return ok();
}

/// From bangerd's folder to where the user wants it: as this user, who may write there where
/// bangerd may not.
Result<void> take(const Published& published, const std::string& to, bool force, int stop_fd) {
    const mode_t mask = ::umask(0);
    ::umask(mask);
    const Result<void> moved = [&]() -> Result<void> {
        const int flags = force ? 0 : RENAME_NOREPLACE;
        if (::renameat2(AT_FDCWD, published.path.c_str(), AT_FDCWD, to.c_str(), flags) == 0) {
            if (::chmod(to.c_str(), 0666 & ~mask) != 0)
                return Error::from_errno(errno, "giving " + to + " its mode");
            return ok();
        }
        if (errno == EEXIST) return is_there(to);
        // Another file system, or one that cannot do that.
        return copy_to(published.path, to, force, published.size, stop_fd);
    }();
    if (moved) return sync_folder(parent_path(to));
    Error error = moved.error();
    if (error.code == Errc::no_space && error.remedy.empty())
        error.remedy = "Free some space there, or choose another place with -o.";
    return error;
}

/// Where the bundle goes: the file that was named, or a name that says what is in it.
std::string target_of(const std::string& output, const Published& published) {
    if (!is_folder(output)) return output;
    return output + (output.ends_with('/') ? "" : "/") + published.file_name;
}

void show(const Published& published, const std::string& target, const Arguments& arguments,
          Terminal& terminal, const std::string& list) {
    if (wants_json(arguments)) {
        terminal.out(json_text(Published{target, published.file_name, published.digest,
                                         published.size, published.entry, published.notes}));
        return;
    }
    if (arguments.has("quiet")) {
        terminal.out(target + "\n");
        return;
    }
    terminal.note("wrote " + target + " (" + size_text(published.size) + ", " + published.digest +
                  ")\n");
    for (const std::string& note : published.notes)
        terminal.note("  " + note + "\n");
    terminal.note("\nFor a catalog in the same folder, under `" + list + ":`\n");
    std::string entry = published.entry;
    // Called differently than by its content.
    const std::string name = target.substr(target.rfind('/') + 1);
    if (const std::size_t at = entry.find("url: " + published.file_name); at != entry.npos)
        entry.replace(at + 5, published.file_name.size(), name);
    terminal.out(entry);
}

Result<int> publish(protocol::PublishBundle request, const std::string& list,
                    const Arguments& arguments, Context& context) {
    request.name = arguments.value("name");
    request.description = arguments.value("description");
    const std::string output = arguments.value("output").value_or(".");
    const bool force = arguments.has("force");
    if (!is_folder(output)) {
        if (output.ends_with('/') || !is_folder(parent_path(output)))
            return Error(Errc::not_found, "there is no folder for " + output,
                         "Make it first, or choose another place with -o.");
        // Told before the work, not after it.
        if (path_exists(output) && !force) return is_there(output);
    }
    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    std::optional<Result<void>> taken;
    std::optional<Published> made;
    std::string target;
    Result<void> done = [&] {
        ProgressView progress(context.terminal, arguments.has("quiet"));
        return session.daemon.stream<protocol::PublishBundleReply>(
            "io.banger.Bundle.Publish", request,
            [&](const protocol::PublishBundleReply& reply) -> Result<void> {
                if (!reply.published) return ok();
                made = reply.published;
                target = target_of(output, *made);
                progress.show({"writing " + target, 0, 0, Progress::Unit::none});
                taken = take(*made, target, force, interrupts.fd());
                // Ends the call, and with it bangerd's file.
                return Error(Errc::cancelled, "done");
            },
            {.on_progress = [&](const Progress& now) { progress.show(now); },
             .stop_fd = interrupts.fd()});
    }();
    if (taken) done = *taken;
    if (!done)
        return report_failure(done.error(), context, interrupts, "cancelled; nothing is left",
                              exit_failed);
    if (!made) return Error(Errc::corrupt, "bangerd made a bundle, but did not say where");
    show(*made, target, arguments, context.terminal, list);
    return 0;
}

Result<int> publish_image(const Arguments& arguments, Context& context) {
    const std::optional<std::string> vm = arguments.value("vm");
    if (vm.has_value() == !arguments.words.empty())
        return usage_error(
            context, Error(Errc::invalid_argument, "publish either an image or a machine",
                           "Try `banger image publish debian-bookworm` or `banger image publish "
                           "--vm sandbox`."));
    protocol::PublishBundle request;
    request.vm = vm;
    if (!vm) request.image = arguments.words[0];
    return publish(std::move(request), "images", arguments, context);
}

Result<int> publish_kernel(const Arguments& arguments, Context& context) {
    protocol::PublishBundle request;
    request.kernel = arguments.words[0];
    return publish(std::move(request), "kernels", arguments, context);
}

std::vector<Option> options(bool with_vm) {
    std::vector<Option> all{
        {"-o,--output", "PATH", "the file to write, or a folder for it", "this folder", {}},
        {"--name", "NAME", "what to call it", "as it is called here", {}},
        {"--description", "TEXT", "one line about it", "as it is described here", {}},
        {"--force", "", "replace a file that is there", "", {}},
        format_option(),
        quiet_option("print the path alone")};
    if (with_vm)
        all.insert(all.begin(), {"--vm", "VM", "the root disk of this stopped machine", "", {}});
    return all;
}

}  // namespace

void add_publish_commands(CommandTable& table) {
    table.commands.push_back(
        {"image",
         "publish",
         {},
         "make one into a file to hand around",
         "Writes a bundle: one compressed file with the root file system and what belongs to it,\n"
         "named by its content, and prints its lines for a catalog.\n\n"
         "With --vm it is the root disk of a stopped machine, without /root, which is a disk of\n"
         "its own, and without its private ssh host key. Anything else on it is handed on, "
         "secrets\n"
         "too: look first. Host key, machine-id and name are made anew by each new machine.",
         {"IMAGE", 0, 1},
         false,
         options(true),
         {{"banger image publish debian-bookworm", "into this folder"},
          {"banger image publish --vm sandbox --name team-base", "a machine as you prepared it"}},
         publish_image,
         nullptr});
    table.commands.push_back(
        {"kernel",
         "publish",
         {},
         "make one into a file to hand around",
         "Writes a bundle: one compressed file with the kernel and its modules, named by its\n"
         "content, and prints its lines for a catalog.",
         {"KERNEL", 1, 1},
         false,
         options(false),
         {{"banger kernel publish debian-cloud", "into this folder"}},
         publish_kernel,
         nullptr});
}

}  // namespace banger::cli
