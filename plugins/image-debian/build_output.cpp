#include "plugins/image-debian/build_output.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <vector>

namespace banger::image_debian {

namespace {

constexpr std::size_t kept_lines = 200;
constexpr std::size_t shown_lines = 6;
constexpr std::size_t max_line = 400;

bool has(std::string_view text, std::string_view word) {
    return text.find(word) != std::string_view::npos;
}

std::string printable(std::string_view line) {
    std::string out(line.substr(0, max_line));
    std::ranges::replace_if(
        out, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    return out;
}

/// "…, 240 newly installed, …" → 240.
std::optional<std::uint64_t> newly_installed(std::string_view line) {
    const std::size_t end = line.find(" newly installed");
    if (end == std::string_view::npos) return std::nullopt;
    const std::size_t begin = line.find_last_not_of("0123456789", end - 1);
    std::uint64_t count = 0;
    const char* first = line.data() + (begin == std::string_view::npos ? 0 : begin + 1);
    if (std::from_chars(first, line.data() + end, count).ec != std::errc()) return std::nullopt;
    return count;
}

/// "Get:12 … [37.6 kB]" → the size.
std::optional<std::uint64_t> size_in_brackets(std::string_view line) {
    const std::size_t begin = line.rfind('[');
    if (begin == std::string_view::npos || !line.ends_with(']')) return std::nullopt;
    return parse_apt_size(line.substr(begin + 1, line.size() - begin - 2));
}

/// "Need to get 20.1 MB/29.7 MB of archives." → 20.1 MB: the rest is here already.
std::optional<std::uint64_t> needed(std::string_view line) {
    constexpr std::string_view begin = "Need to get ";
    if (!line.starts_with(begin)) return std::nullopt;
    line.remove_prefix(begin.size());
    return parse_apt_size(line.substr(0, std::min(line.find('/'), line.find(" of archives"))));
}

struct Symptom {
    std::string_view words;
    Errc code;
    std::string_view what;
    std::string_view remedy;
};

constexpr std::string_view check_network =
    "Check the network and, if one is set, the mirror in [plugin.image-debian]; then run the same "
    "command again: what was downloaded is kept.";
constexpr std::string_view free_space =
    "Free some space there, or set work_folder in [plugin.image-debian] to a folder on a larger "
    "disk.";
constexpr std::string_view allow_namespaces =
    "Give your user ids in /etc/subuid and /etc/subgid (sudo usermod --add-subuids 100000-165535 "
    "--add-subgids 100000-165535 \"$USER\") and run sudo apt install uidmap.";
constexpr std::string_view install_keys = "Run sudo apt install debian-archive-keyring.";

// In order: an earlier one is often the reason of a later one.
constexpr Symptom symptoms[] = {
    {"No space left on device", Errc::no_space, "the disk is full", free_space},
    {"You don't have enough free space", Errc::no_space, "the disk is full", free_space},
    {"Disk quota exceeded", Errc::no_space, "the disk quota is used up", free_space},
    {"newuidmap", Errc::unavailable, "this user may not make a user namespace", allow_namespaces},
    {"newgidmap", Errc::unavailable, "this user may not make a user namespace", allow_namespaces},
    {"/etc/subuid", Errc::unavailable, "this user may not make a user namespace", allow_namespaces},
    {"invalid mode for", Errc::unavailable, "this user may not make a user namespace",
     allow_namespaces},
    {"unable to use unshare", Errc::unavailable, "this user may not make a user namespace",
     allow_namespaces},
    {"unshare() failed", Errc::permission_denied, "this host does not allow namespaces",
     "Allow unprivileged user namespaces, or pull the image on another host."},
    {"NO_PUBKEY", Errc::unavailable, "the keys of the Debian archive are missing", install_keys},
    {"cannot find any fitting keyring", Errc::unavailable,
     "the keys of the Debian archive are missing", install_keys},
    {"is not signed", Errc::corrupt, "the archive's signature does not verify",
     "Run sudo apt install debian-archive-keyring; if a mirror is set, check that it is Debian's."},
    {"BADSIG", Errc::corrupt, "the archive's signature does not verify",
     "Try again; if a mirror is set, check that it is Debian's."},
    {"Hash Sum mismatch", Errc::corrupt, "the mirror sent damaged files", "Try again later."},
    {"File has unexpected size", Errc::corrupt, "the mirror sent damaged files",
     "Try again later."},
    {"Could not resolve", Errc::unreachable, "the mirror cannot be reached", check_network},
    {"Temporary failure resolving", Errc::unreachable, "the mirror cannot be reached",
     check_network},
    {"Could not connect", Errc::unreachable, "the mirror cannot be reached", check_network},
    {"Cannot initiate the connection", Errc::unreachable, "the mirror cannot be reached",
     check_network},
    {"Connection failed", Errc::unreachable, "the mirror cannot be reached", check_network},
    {"Connection timed out", Errc::unreachable, "the mirror cannot be reached", check_network},
    {"Network is unreachable", Errc::unreachable, "the mirror cannot be reached", check_network},
    {"Unable to connect", Errc::unreachable, "the mirror cannot be reached", check_network},
    {"does not have a Release file", Errc::unreachable, "the mirror has no such release",
     check_network},
    {"Failed to fetch", Errc::unreachable, "a file could not be fetched", check_network},
    {"Unable to fetch some archives", Errc::unreachable, "a file could not be fetched",
     check_network},
    {"Unable to locate package", Errc::not_found, "the mirror lacks a package",
     "If a mirror is set, check that it carries the whole of Debian main."},
    {"depmod: not found", Errc::unavailable, "depmod is missing", "Run sudo apt install kmod."},
};

bool is_complaint(std::string_view line) {
    return line.starts_with("E: ") || line.starts_with("W: ") || line.starts_with("Err:") ||
           line.starts_with("dpkg: error") || line.starts_with("dpkg-deb: error") ||
           has(line, "rror: ") || has(line, ": not found");
}

}  // namespace

std::optional<std::uint64_t> parse_apt_size(std::string_view text) {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos || space == 0) return std::nullopt;
    double number = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + space, number);
    if (problem != std::errc() || end != text.data() + space || !(number >= 0)) return std::nullopt;
    // apt counts in thousands.
    constexpr std::array<std::pair<std::string_view, double>, 4> units = {
        {{"B", 1}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}}};
    for (const auto& [unit, factor] : units)
        if (text.substr(space + 1) == unit && number * factor < 1e15)
            return static_cast<std::uint64_t>(std::llround(number * factor));
    return std::nullopt;
}

std::optional<Progress> BuildOutput::add(std::string_view bytes) {
    std::optional<Progress> newest;
    for (const char c : bytes) {
        if (c != '\n' && c != '\r') {
            if (partial_.size() < max_line) partial_ += c;
            continue;
        }
        if (partial_.empty()) continue;
        if (std::optional<Progress> progress = take(partial_)) newest = std::move(progress);
        last_lines_.push_back(printable(partial_));
        if (last_lines_.size() > kept_lines) last_lines_.pop_front();
        partial_.clear();
    }
    return newest;
}

std::optional<Progress> BuildOutput::take(std::string_view line) {
    const auto enter = [&](Phase phase, std::string_view stage) {
        phase_ = phase;
        install_stage_ = stage;
        packages_ = phase == Phase::installing ? packages_ : 0;
        steps_done_ = 0;
        download_size_ = downloaded_ = 0;
        return Progress{std::string(stage), 0, 0, Progress::Unit::none};
    };
    // The first hooks fetch the lists already.
    if (line.starts_with("I: running --setup-hook") && phase_ == Phase::preparing)
        return enter(Phase::updating, "reading the list of packages");
    if (line.starts_with("I: running apt-get update"))
        return enter(Phase::updating, "reading the list of packages");
    if (line.starts_with("I: downloading packages"))
        return enter(Phase::downloading, "downloading packages");
    if (line.starts_with("I: extracting archives"))
        return Progress{"unpacking the base system", 0, 0, Progress::Unit::none};
    if (line.starts_with("I: installing essential packages"))
        return enter(Phase::installing, "installing the base system");
    if (line.starts_with("I: installing remaining packages"))
        return enter(Phase::installing, "installing packages");
    if (line.starts_with("I: running --customize-hook") || line.starts_with("I: running --extract"))
        return enter(Phase::finishing, "setting the image up");
    if (line.starts_with("I: creating tarball"))
        return enter(Phase::finishing, "writing the file system");
    if (phase_ == Phase::downloading || phase_ == Phase::installing) return take_package_line(line);
    // The one package that a kernel's own script fetches.
    if (phase_ == Phase::finishing && line.starts_with("Get:"))
        return Progress{"downloading packages", 0, size_in_brackets(line).value_or(0),
                        Progress::Unit::bytes};
    return std::nullopt;
}

std::optional<Progress> BuildOutput::take_package_line(std::string_view line) {
    if (const auto count = newly_installed(line)) {
        packages_ = *count;
        return std::nullopt;
    }
    if (const auto size = needed(line)) {
        download_size_ = *size;
        return std::nullopt;
    }
    if (line.starts_with("Get:")) {
        // Printed when an item begins, so what was begun before it is here.
        const Progress progress{"downloading packages", std::min(downloaded_, download_size_),
                                download_size_, Progress::Unit::bytes};
        downloaded_ += size_in_brackets(line).value_or(0);
        return progress;
    }
    if (phase_ != Phase::installing) return std::nullopt;
    if (!line.starts_with("Unpacking ") && !line.starts_with("Setting up ")) return std::nullopt;
    ++steps_done_;
    return Progress{install_stage_, std::min(steps_done_ / 2, packages_), packages_,
                    Progress::Unit::items};
}

bool BuildOutput::blames_packages() const {
    return std::ranges::any_of(last_lines_, [](const std::string& line) {
        return line.starts_with("dpkg-deb: error") || line.starts_with("dpkg: error processing") ||
               has(line, "Hash Sum mismatch") || has(line, "corrupted package archive");
    });
}

Error BuildOutput::explain(const ExitStatus& status) const {
    std::vector<std::string> shown;
    for (const std::string& line : last_lines_)
        if (is_complaint(line)) shown.push_back(line);
    if (shown.empty()) shown.assign(last_lines_.begin(), last_lines_.end());
    if (shown.size() > shown_lines) shown.erase(shown.begin(), shown.end() - shown_lines);
    std::string lines;
    for (const std::string& line : shown)
        lines += "\n  " + line;

    for (const Symptom& symptom : symptoms)
        if (std::ranges::any_of(last_lines_,
                                [&](const std::string& line) { return has(line, symptom.words); }))
            return Error(symptom.code, std::string(symptom.what) + "; mmdebstrap said:" + lines,
                         std::string(symptom.remedy));
    return Error(
        Errc::unavailable,
        "mmdebstrap failed (" + status.text() + ")" + (lines.empty() ? "" : "; it said:" + lines),
        "Run the same command again; if it fails in the same way, the lines above are "
        "what to search for.");
}

}  // namespace banger::image_debian
