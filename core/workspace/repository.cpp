#include "core/workspace/repository.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <unordered_set>

#include "core/base/file.hpp"

namespace banger::workspace {

namespace {

Error not_a_repository(const std::string& path) {
    return {Errc::not_found, path + " is not in a git repository",
            "Give a folder of one, or make one: git init && git commit"};
}

/// The field before the next space; takes it away.
std::string_view next_field(std::string_view& line) {
    const std::size_t end = line.find(' ');
    const std::string_view field = line.substr(0, end);
    line.remove_prefix(end == line.npos ? line.size() : end + 1);
    return field;
}

/// Content decides whether a repository has moved on, not cryptography.
class Fingerprint {
public:
    void add(std::string_view bytes) {
        for (const char c : bytes) {
            value_ ^= static_cast<unsigned char>(c);
            value_ *= 1099511628211u;
        }
    }
    void add(std::int64_t number) {
        add(std::string_view(reinterpret_cast<const char*>(&number), sizeof number));
    }
    [[nodiscard]] std::string text() const {
        std::array<char, 17> out{};
        std::snprintf(out.data(), out.size(), "%016llx", static_cast<unsigned long long>(value_));
        return out.data();
    }

private:
    std::uint64_t value_ = 14695981039346656037u;
};

/// One entry of `status --porcelain=v2`: "1 XY sub mH mI mW hH hI path" or "u XY …".
Result<ChangedPath> read_change(std::string_view line) {
    const bool is_unmerged = line.starts_with("u ");
    std::array<std::string_view, 10> fields;
    const std::size_t count = is_unmerged ? 10 : 8;
    for (std::size_t i = 0; i < count; ++i)
        fields[i] = next_field(line);
    if (line.empty() || fields[1].size() != 2)
        return Error(Errc::corrupt, "git status said something that is not understood");
    ChangedPath change{std::string(line), {}};
    if (is_unmerged || fields[1][0] == '.') return change;
    change.staged =
        fields[4] == "000000" ? "0" : std::string(fields[4]) + " " + std::string(fields[7]);
    return change;
}

void add_stat(Fingerprint& print, int root, const std::string& path) {
    struct stat status {};
    print.add(path);
    if (::fstatat(root, path.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return;
    print.add(status.st_size);
    print.add(status.st_mtim.tv_sec);
    print.add(status.st_mtim.tv_nsec);
    print.add(static_cast<std::int64_t>(status.st_mode));
}

/// Paths whose content a filter or an encoding changes on its way into the working tree.
Result<std::vector<std::string>> filtered_paths(const HostGit& git, const Repository& repository,
                                                const std::vector<std::string>& tracked,
                                                std::stop_token stop) {
    const bool has_attributes =
        path_exists(repository.common_dir + "/info/attributes") ||
        std::ranges::any_of(tracked, [](const std::string& path) {
            return path == ".gitattributes" || path.ends_with("/.gitattributes");
        });
    std::vector<std::string> filtered;
    if (!has_attributes) return filtered;
    std::string input;
    for (const std::string& path : tracked)
        input += path + '\0';
    const std::string output = BANGER_TRY(
        git.run(repository.root, {"check-attr", "-z", "--stdin", "filter", "working-tree-encoding"},
                stop, input));
    const std::vector<std::string> words = split_nul(output);
    for (std::size_t i = 0; i + 2 < words.size(); i += 3)
        if (words[i + 2] != "unspecified" && words[i + 2] != "unset") filtered.push_back(words[i]);
    return filtered;
}

}  // namespace

std::vector<std::string> split_nul(std::string_view text) {
    std::vector<std::string> parts;
    while (!text.empty()) {
        const std::size_t end = text.find('\0');
        parts.emplace_back(text.substr(0, end));
        text.remove_prefix(end == text.npos ? text.size() : end + 1);
    }
    return parts;
}

std::optional<std::string> public_url(const std::string& url) {
    const std::size_t scheme = url.find("://");
    if (scheme == url.npos) {
        // host:path, as scp has it; a user name there is part of the address, not a secret.
        const std::size_t colon = url.find(':');
        if (colon == url.npos || colon == 0 || url.find('/') < colon) return std::nullopt;
        return url;
    }
    if (url.starts_with("file:")) return std::nullopt;
    const std::size_t begin = scheme + 3;
    const std::size_t end = std::min(url.find_first_of("/?#", begin), url.size());
    const std::size_t at = url.rfind('@', end);
    std::string out = url;
    if (at != url.npos && at >= begin && at < end) out.erase(begin, at + 1 - begin);
    // ssh needs its user; what follows the name is a password.
    if (url.starts_with("ssh://") && at != url.npos && at >= begin && at < end)
        out.insert(begin, url.substr(begin, std::min(url.find(':', begin), at) - begin) + "@");
    // Tokens are also passed as a query.
    out.erase(std::min(out.find_first_of("?#"), out.size()));
    return out;
}

Result<Repository> open_repository(const HostGit& git, const std::string& path,
                                   std::stop_token stop) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return Error::from_errno(errno, "looking at " + path);
    if (!S_ISDIR(status.st_mode))
        return Error(Errc::invalid_argument, path + " is not a folder",
                     "Give a folder of a git repository.");
    const auto ask = [&](std::vector<std::string> words) {
        words.insert(words.begin(), "rev-parse");
        return git.ask(path, std::move(words), stop);
    };
    Repository repository;
    const std::optional<std::string> inside = BANGER_TRY(ask({"--is-inside-work-tree"}));
    if (!inside) {
        // For its sentence: "dubious ownership" is another matter than "not a repository".
        const Result<std::string> said = git.run(path, {"rev-parse"}, stop);
        if (!said && said.error().message.find("not a git repository") == std::string::npos)
            return said.error();
        return not_a_repository(path);
    }
    if (*inside != "true")
        return Error(Errc::unsupported, path + " is in a bare repository, or inside .git",
                     "Give a folder of a checkout.");
    repository.root = BANGER_TRY(ask({"--show-toplevel"})).value_or("");
    repository.git_dir = BANGER_TRY(ask({"--absolute-git-dir"})).value_or("");
    repository.common_dir =
        BANGER_TRY(ask({"--path-format=absolute", "--git-common-dir"})).value_or("");
    if (repository.root.empty() || repository.git_dir.empty() || repository.common_dir.empty())
        return not_a_repository(path);
    const std::optional<std::string> head =
        BANGER_TRY(ask({"--verify", "--quiet", "HEAD^{commit}"}));
    if (!head)
        return Error(Errc::wrong_state, repository.root + " has no commit yet",
                     "Commit something first: git commit");
    repository.head = *head;
    const std::optional<std::string> branch =
        BANGER_TRY(git.ask(path, {"symbolic-ref", "--quiet", "--short", "HEAD"}, stop));
    repository.branch = branch.value_or("");
    return repository;
}

Result<std::string> find_commit(const HostGit& git, const Repository& repository,
                                const std::string& revision, std::stop_token stop) {
    const std::optional<std::string> commit = BANGER_TRY(git.ask(
        repository.root,
        {"rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}"}, stop));
    if (commit && commit->find_first_not_of("0123456789abcdef") == commit->npos) return *commit;
    return Error(Errc::not_found, "there is no commit \"" + revision + "\" in " + repository.root,
                 "Name a branch, a tag or a commit: git log --oneline --all");
}

Result<Listing> status_of(const HostGit& git, const Repository& repository, bool with_untracked,
                          std::stop_token stop) {
    const std::string output = BANGER_TRY(
        git.run(repository.root,
                {"status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=all",
                 with_untracked ? "--untracked-files=all" : "--untracked-files=no"},
                stop));
    const UniqueFd root(::open(repository.root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) return Error::from_errno(errno, "opening " + repository.root);
    Listing listing;
    Fingerprint print;
    print.add(repository.head);
    Fingerprint untracked_print;
    for (const std::string& line : split_nul(output)) {
        const bool is_untracked = line.starts_with("? ");
        (is_untracked ? untracked_print : print).add(line);
        if (is_untracked) {
            std::string path = line.substr(2);
            if (path.ends_with('/')) {
                ++listing.nested;
                continue;
            }
            add_stat(untracked_print, root.get(), path);
            listing.untracked.push_back(std::move(path));
        } else if (line.starts_with("1 ") || line.starts_with("u ")) {
            ChangedPath change = BANGER_TRY(read_change(line));
            add_stat(print, root.get(), change.path);
            listing.changed.push_back(std::move(change));
        }
    }
    listing.fingerprint = print.text();
    listing.untracked_fingerprint = untracked_print.text();
    return listing;
}

Result<Listing> list_repository(const HostGit& git, const Repository& repository,
                                std::stop_token stop) {
    Listing listing = BANGER_TRY(status_of(git, repository, true, stop));
    const std::string output = BANGER_TRY(git.run(repository.root, {"ls-files", "-s", "-z"}, stop));
    for (std::string& entry : split_nul(output)) {
        const std::size_t tab = entry.find('\t');
        if (tab == entry.npos) return Error(Errc::corrupt, "git ls-files is not understood");
        std::string path = entry.substr(tab + 1);
        if (entry.starts_with("160000 ")) {
            listing.submodules.push_back(std::move(path));
        } else if (listing.tracked.empty() || listing.tracked.back() != path) {
            listing.tracked.push_back(std::move(path));  // a conflict has several entries
        }
    }
    std::unordered_set<std::string> changed;
    for (const ChangedPath& change : listing.changed)
        changed.insert(change.path);
    for (std::string& path : BANGER_TRY(filtered_paths(git, repository, listing.tracked, stop)))
        if (changed.insert(path).second) listing.changed.push_back({std::move(path), {}, true});
    return listing;
}

}  // namespace banger::workspace
