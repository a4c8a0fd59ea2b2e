#include "cli/report.hpp"

#include <pwd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "banger/values.hpp"
#include "cli/config.hpp"
#include "cli/render/text.hpp"
#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/version.hpp"

namespace banger::cli {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t log_lines = 100;
constexpr std::size_t longest_line = 600;
constexpr ByteCount log_limit = ByteCount::mib(16);

struct Rule {
    std::regex pattern;
    const char* instead;
};

/// In this order: what has a name before what only looks random.
const std::vector<Rule>& rules() {
    static const auto flags = std::regex::ECMAScript | std::regex::icase | std::regex::optimize;
    static const std::vector<Rule> list = {
        {std::regex(R"((ssh-[a-z0-9-]+|ecdsa-[a-z0-9-]+|sk-[a-z0-9@.-]+) AAAA[A-Za-z0-9+/=]+)",
                    flags),
         "$1 [key]"},
        // user:password@ in an address, and what follows its question mark
        {std::regex(R"((://)[^/@\s"']*@)", flags), "$1[removed]@"},
        {std::regex(R"((://[^\s"'?]*\?)[^\s"']+)", flags), "$1[removed]"},
        {std::regex(R"((authorization"?\s*[:=]\s*"?)[^"\r\n]+)", flags), "$1[removed]"},
        {std::regex(R"(\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{6,})", flags), "$1 [removed]"},
        // password = "…", API_TOKEN=…, "secret": "…"
        {std::regex(
             R"(((?:password|passwd|passphrase|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key|cookie)[a-z0-9_-]*["']?\s*(?:[=:]|\s)\s*)("[^"]*"|'[^']*'|[^\s"',;]+))",
             flags),
         "$1[removed]"},
        {std::regex(
             R"(\b(?:gh[a-z]_|github_pat_|glpat-|xox[a-z]-|sk-|pk_|rk_|npm_|pypi-|AKIA|ASIA|eyJ)[A-Za-z0-9+/=._-]{8,})",
             std::regex::ECMAScript | std::regex::optimize),
         "[removed]"},
        {std::regex(R"([A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z0-9.-]+)", flags), "[address]"},
    };
    return list;
}

bool is_word_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/// Long runs of letters and digits are keys, tokens or digests: none is needed.
std::string without_random_words(const std::string& line) {
    constexpr std::size_t suspicious = 24;
    std::string out;
    for (std::size_t at = 0; at < line.size();) {
        std::size_t end = at;
        bool has_digit = false;
        bool has_letter = false;
        while (end < line.size() &&
               (is_word_character(line[end]) || line[end] == '+' || line[end] == '=')) {
            has_digit |= line[end] >= '0' && line[end] <= '9';
            has_letter |= line[end] >= 'A';
            ++end;
        }
        if (end - at >= suspicious && has_digit && has_letter)
            out += "[removed]";
        else
            out.append(line, at, end - at);
        if (end < line.size()) out += line[end++];
        at = end;
    }
    return out;
}

std::string replaced(std::string text, const std::string& word, const std::string& instead,
                     bool is_whole_word) {
    if (word.size() < 2) return text;
    for (std::size_t at = 0; (at = text.find(word, at)) != text.npos;) {
        const std::size_t end = at + word.size();
        const bool is_whole = (at == 0 || !is_word_character(text[at - 1])) &&
                              (end == text.size() || !is_word_character(text[end]));
        if (is_whole_word && !is_whole) {
            at = end;
            continue;
        }
        text.replace(at, word.size(), instead);
        at += instead.size();
    }
    return text;
}

/// What many hosts and users are called, and what our own text is full of.
bool says_nothing(std::string_view name) {
    return name == "root" || name == "localhost" || name == "debian" || name == "banger";
}

std::string clean_line(std::string line, const PrivateWords& words) {
    if (line.size() > longest_line) line = line.substr(0, longest_line) + " …";
    for (const Rule& rule : rules())
        line = std::regex_replace(line, rule.pattern, rule.instead);
    line = without_random_words(line);
    line = replaced(std::move(line), words.home, "~", false);
    if (!says_nothing(words.user)) line = replaced(std::move(line), words.user, "USER", true);
    if (!says_nothing(words.host) && words.host.size() > 3)
        line = replaced(std::move(line), words.host, "HOST", true);
    return line;
}

// ---- facts ----

/// The value of a line "key: value" or "key=value" of a small file of /proc or /etc.
std::string fact(const std::string& path, const std::string& key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        const std::size_t sign = line.find_first_of(":=");
        if (sign == line.npos) continue;
        std::string name = line.substr(0, sign);
        while (!name.empty() && (name.back() == '\t' || name.back() == ' '))
            name.pop_back();
        if (name != key) continue;
        std::string value = line.substr(sign + 1);
        std::erase(value, '"');
        return value.substr(std::min(value.find_first_not_of(" \t"), value.size()));
    }
    return "unknown";
}

std::string host_section() {
    utsname host{};
    static_cast<void>(::uname(&host));
    const std::string flags = " " + fact("/proc/cpuinfo", "flags") + " ";
    const auto has = [&](const std::string& flag) {
        return flags.find(" " + flag + " ") != flags.npos ? " " + flag : "";
    };
    std::string text;
    text += "system: " + fact("/etc/os-release", "PRETTY_NAME") + "\n";
    text += "kernel: " + std::string(host.sysname) + " " + host.release + " " + host.version + " " +
            host.machine + "\n";
    text += "cpu: " + fact("/proc/cpuinfo", "model name") + ", " +
            std::to_string(::sysconf(_SC_NPROCESSORS_ONLN)) + " online, flags:" + has("vmx") +
            has("svm") + has("hypervisor") + "\n";
    text += "memory: " + fact("/proc/meminfo", "MemTotal") + ", available " +
            fact("/proc/meminfo", "MemAvailable") + "\n";
    text += std::string("/dev/kvm: ") +
            (path_exists("/dev/kvm")
                 ? ::access("/dev/kvm", R_OK | W_OK) == 0 ? "there, usable" : "there, not ours"
                 : "not there") +
            "\n";
    return text;
}

std::string version_section(Session& session) {
    const Version own = version();
    std::string text = "banger " + std::string(own.number) + " (" + std::string(own.commit) + ")\n";
    const Result<protocol::SystemInfoReply> info = session.daemon.call<protocol::SystemInfoReply>(
        "io.banger.System.Info", protocol::NoParameters{}, {.timeout = 5s});
    if (!info) return text + "bangerd: " + info.error().text() + "\n";
    return text + "bangerd " + info->version + " (" + info->commit + "), " + info->mode +
           " mode, up " + std::to_string(info->uptime_seconds) + " s\n";
}

std::string check_section(const protocol::DoctorReply& doctor) {
    std::string text;
    for (const Check& check : doctor.checks) {
        text += check.status == CheckStatus::pass   ? "PASS  "
                : check.status == CheckStatus::warn ? "WARN  "
                                                    : "FAIL  ";
        text += check.name + ": " + check.detail + "\n";
        if (!check.remedy.empty()) text += "      -> " + check.remedy + "\n";
    }
    return text;
}

std::string settings_section(const protocol::DoctorReply& doctor) {
    std::string text;
    for (const protocol::Setting& setting : doctor.settings)
        text += setting.key + " = " + setting.value + "   # " + setting.source + "\n";
    return text;
}

std::string machine_section(Session& session) {
    const Result<protocol::ListVmsReply> reply = session.daemon.call<protocol::ListVmsReply>(
        "io.banger.Vm.List", protocol::ListVms{}, {.timeout = 5s});
    if (!reply) return reply.error().text() + "\n";
    std::map<std::string, int> states;
    for (const protocol::Vm& vm : reply->vms)
        ++states[vm.state + ", " + vm.backend + ", " + vm.network + ", " + vm.storage];
    std::string text;
    for (const auto& [state, count] : states)
        text += std::to_string(count) + " x " + state + "\n";
    return text.empty() ? "none\n" : text;
}

std::string last_lines(const std::string& text) {
    std::size_t begin = text.size();
    for (std::size_t line = 0; line <= log_lines && begin > 0; ++line)
        begin = text.rfind('\n', begin - 1) == text.npos ? 0 : text.rfind('\n', begin - 1);
    return text.substr(begin == 0 ? 0 : begin + 1);
}

std::string log_section(const Paths& paths) {
    if (paths.mode == RunMode::user) {
        const Result<std::string> log = read_file(paths.log, log_limit);
        return log ? last_lines(*log) : log.error().message + "\n";
    }
    Result<std::string> journalctl = find_program("journalctl");
    if (!journalctl) return journalctl.error().message + "\n";
    Command command;
    command.program = *journalctl;
    command.arguments = {"--no-pager", "--no-hostname",           "-o", "short-iso",
                         "-n",         std::to_string(log_lines), "-u", "bangerd.service",
                         "-u",         "bangerd-root.service"};
    command.environment = minimal_environment();
    const Result<CommandOutput> output = run_command(command, 10s, log_limit, {});
    return output ? output->standard_output + output->standard_error
                  : output.error().message + "\n";
}

PrivateWords words_of_this_host(const Session& session) {
    PrivateWords words;
    words.home = session.user_paths.home;
    if (const passwd* entry = ::getpwuid(::getuid())) words.user = entry->pw_name;  // NOLINT
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) == 0) words.host = name;
    return words;
}

}  // namespace

std::string without_secrets(const std::string& text, const PrivateWords& words) {
    std::istringstream lines(text);
    std::string out;
    bool is_in_key = false;
    for (std::string line; std::getline(lines, line);) {
        // A key in several lines, or in one with \n spelled out.
        const bool begins = line.find("-----BEGIN") != line.npos;
        const bool ends = line.find("-----END") != line.npos;
        if (begins || is_in_key) {
            if (begins) out += line.substr(0, line.find("-----BEGIN")) + "[key removed]\n";
            is_in_key = !ends;
            continue;
        }
        out += clean_line(line, words) + "\n";
    }
    return out;
}

std::string bug_report(Session& session, const protocol::DoctorReply& doctor) {
    const auto section = [](const std::string& title, const std::string& text) {
        return "\n## " + title + "\n\n" + text;
    };
    const std::string text =
        "# banger: report of " + time_text(now_seconds()) + "\n" +
        section("Versions", version_section(session)) + section("Host", host_section()) +
        section("Checks", check_section(doctor)) + section("Settings", settings_section(doctor)) +
        section("Machines", machine_section(session)) +
        section("Last lines of the log", log_section(session.daemon.place().paths));
    return printable(without_secrets(text, words_of_this_host(session)), Newlines::kept);
}

}  // namespace banger::cli
