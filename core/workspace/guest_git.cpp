#include "core/workspace/guest_git.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <unordered_set>

#include "core/base/file.hpp"

namespace banger::workspace {

namespace {

/// A value in git's configuration format.
std::string quoted(const std::string& value) {
    std::string out = "\"";
    for (const char c : value) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '\n')
            out += "\\n";
        else
            out += c;
    }
    return out + "\"";
}

Result<std::string> setting(const HostGit& git, const std::string& folder, const std::string& key,
                            std::stop_token stop) {
    const std::optional<std::string> value =
        BANGER_TRY(git.ask(folder, {"config", "--get", key}, stop));
    return value.value_or("");
}

Result<std::string> user_section(const HostGit& git, const CopyPlan& plan, std::stop_token stop) {
    const Identity global = BANGER_TRY(global_identity(git, stop));
    const std::string& root = plan.repository.root;
    const std::string name = BANGER_TRY(setting(git, root, "user.name", stop));
    const std::string email = BANGER_TRY(setting(git, root, "user.email", stop));
    std::string out;
    if (name != global.name) out += "\tname = " + quoted(name) + "\n";
    if (email != global.email) out += "\temail = " + quoted(email) + "\n";
    return out.empty() ? out : "[user]\n" + out;
}

Result<std::string> overlay_config(const HostGit& git, const CopyPlan& plan, std::stop_token stop) {
    const std::string& root = plan.repository.root;
    const bool is_sha256 = plan.base.size() == 64;
    std::string text = "[core]\n\trepositoryformatversion = " + std::string(is_sha256 ? "1" : "0") +
                       "\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n";
    // They decide what a line end is in the working tree.
    for (const char* key : {"autocrlf", "eol", "safecrlf"}) {
        const std::string value = BANGER_TRY(setting(git, root, "core." + std::string(key), stop));
        if (!value.empty()) text += "\t" + std::string(key) + " = " + quoted(value) + "\n";
    }
    if (is_sha256) text += "[extensions]\n\tobjectformat = sha256\n";
    const std::optional<std::string> url =
        public_url(BANGER_TRY(setting(git, root, "remote.origin.url", stop)));
    if (url)
        text += "[remote \"origin\"]\n\turl = " + quoted(*url) +
                "\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n";
    return text + BANGER_TRY(user_section(git, plan, stop));
}

std::string lines_without(std::string_view lines, std::string_view unwanted) {
    const auto next = [](std::string_view& text) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        return line;
    };
    std::unordered_set<std::string_view> known;
    for (std::string_view rest = unwanted; !rest.empty();)
        known.insert(next(rest));
    std::string out;
    while (!lines.empty()) {
        const std::string_view line = next(lines);
        if (!known.contains(line)) (out += line) += '\n';
    }
    return out;
}

}  // namespace

std::vector<std::string> listing_of(const std::string& commit) {
    return {"rev-list", "--objects", "--no-object-names", "--no-walk", commit, "--"};
}

Result<Pack> make_pack(const HostGit& git, const CopyPlan& plan, const std::string& had,
                       const std::string& folder, std::stop_token stop) {
    const std::string& root = plan.repository.root;
    std::string objects =
        lines_without(BANGER_TRY(git.run(root, listing_of(plan.base), stop)), had);
    for (const ChangedPath& change : plan.listing.changed)
        if (change.staged.size() > 7 && !change.staged.starts_with("160000"))
            objects += change.staged.substr(7) + "\n";
    if (objects.empty()) return Pack{};
    // No search for deltas: those that the repository has are used, and the rest of the time is
    // better spent sending.
    std::string said = BANGER_TRY(
        git.run(root,
                {"-c", "pack.writeReverseIndex=false", "-c", "pack.writeBitmaps=false",
                 "pack-objects", "-q", "--window=0", "--compression=3", folder + "/pack"},
                stop, objects));
    while (said.ends_with('\n'))
        said.pop_back();
    if (said.empty() || said.find_first_not_of("0123456789abcdef") != said.npos)
        return Error(Errc::corrupt, "git pack-objects did not name its pack");
    Pack pack{folder + "/pack-" + said, "pack-" + said, 0};
    struct stat status {};
    if (::stat((pack.path + ".pack").c_str(), &status) != 0)
        return Error::from_errno(errno, "looking at " + pack.path);
    pack.size = static_cast<std::uint64_t>(status.st_size);
    return pack;
}

Result<void> add_git_files(const HostGit& git, const CopyPlan& plan, TarStream& tar,
                           std::stop_token stop) {
    const Repository& repository = plan.repository;
    const std::string branch = plan.request.branch.value_or(repository.branch);
    BANGER_TRY(tar.add_file(".git/HEAD",
                            branch.empty() ? plan.base + "\n" : "ref: refs/heads/" + branch + "\n",
                            false));
    BANGER_TRY(tar.add_folder(".git/refs/heads"));
    BANGER_TRY(tar.add_folder(".git/objects/info"));
    if (!branch.empty())
        BANGER_TRY(tar.add_file(".git/refs/heads/" + branch, plan.base + "\n", false));
    const std::string commit =
        BANGER_TRY(git.run(repository.root, {"cat-file", "commit", plan.base}, stop));
    const bool has_parents = commit.substr(0, commit.find("\n\n")).find("\nparent ") != commit.npos;
    if (has_parents) BANGER_TRY(tar.add_file(".git/shallow", plan.base + "\n", false));
    BANGER_TRY(tar.add_file(".git/config", BANGER_TRY(overlay_config(git, plan, stop)), false));
    for (const char* name : {"info/exclude", "info/attributes"}) {
        const Result<std::string> text =
            read_file(repository.common_dir + "/" + name, ByteCount::mib(1));
        if (text) BANGER_TRY(tar.add_file(".git/" + std::string(name), *text, false));
    }
    return ok();
}

Result<Identity> global_identity(const HostGit& git, std::stop_token stop) {
    return Identity{BANGER_TRY(setting(git, "/", "user.name", stop)),
                    BANGER_TRY(setting(git, "/", "user.email", stop))};
}

Result<std::string> public_config(const HostGit& git, const std::string& path,
                                  std::stop_token stop) {
    const std::string listed =
        BANGER_TRY(git.run("/", {"config", "--file", path, "--no-includes", "--list", "-z"}, stop));
    std::string text;
    for (const std::string& entry : split_nul(listed)) {
        const std::size_t end = entry.find('\n');
        const std::string key = entry.substr(0, end);
        std::string value = end == entry.npos ? "true" : entry.substr(end + 1);
        const std::size_t first = key.find('.');
        const std::size_t last = key.rfind('.');
        if (first == key.npos) continue;
        const std::string section = key.substr(0, first);
        const std::string name = key.substr(last + 1);
        if (section == "credential" || section == "include" || section == "includeif" ||
            section == "http" || section == "https" || section == "sendemail" ||
            section == "filter" ||
            (section == "core" &&
             (name == "worktree" || name == "hookspath" || name == "fsmonitor" ||
              name == "sshcommand" || name == "pager" || name == "editor" || name == "askpass")))
            continue;
        if (name == "url" || name == "pushurl" || name.starts_with("insteadof")) {
            // A submodule's may be relative to that of its parent.
            const bool is_relative = value.starts_with("./") || value.starts_with("../");
            const std::optional<std::string> url =
                is_relative ? std::optional(value) : public_url(value);
            if (!url) continue;
            value = *url;
        }
        std::string subsection;
        if (last > first) subsection = " " + quoted(key.substr(first + 1, last - first - 1));
        text += "[" + section + subsection + "]\n\t" + name + " = " + quoted(value) + "\n";
    }
    return text;
}

}  // namespace banger::workspace
