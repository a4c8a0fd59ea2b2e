// An image source that does what a plugin should not, at the word in the reference: "wild:crash".
// What it tried and was refused is the message of the error.

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>
#include <thread>

#include "banger/plugin.hpp"
#include "banger/web.hpp"

namespace {

using namespace banger;

/// 0, or the errno of what was refused.
using Deed = std::function<int(const std::string& argument)>;

int errno_of(long result) { return result < 0 ? errno : 0; }

int write_to(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    return errno_of(file.get());
}

int read_from(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    return errno_of(file.get());
}

int open_socket(const std::string& family) {
    const UniqueFd socket(
        ::socket(family == "unix" ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return errno_of(socket.get());
}

int fork_one(const std::string&) {
    const pid_t child = ::fork();
    if (child < 0) return errno;
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);
    return 0;
}

/// Writes what is no answer on every socket it has.
int say_garbage(const std::string&) {
    for (int fd = 3; fd < 64; ++fd)
        static_cast<void>(::send(fd, "no answer", 9, MSG_NOSIGNAL | MSG_DONTWAIT));
    std::this_thread::sleep_for(std::chrono::hours(1));
    return 0;
}

int allocate(const std::string&) {
    for (;;)
        std::memset(new char[1 << 20], 1, 1 << 20);
}

int crash(const std::string&) {
    // Not undefined behaviour, which a sanitizer would take for its own business.
    ::signal(SIGSEGV, SIG_DFL);
    ::raise(SIGSEGV);
    return 0;
}

int chatter(const std::string&) {
    for (int i = 0; i < 5'000; ++i)
        static_cast<void>(!::write(STDERR_FILENO, "<4>chatter\033[2J\n", 15));
    return 0;
}

const std::map<std::string, Deed> deeds{
    {"crash", crash},
    {"abort", [](const std::string&) -> int { std::abort(); }},
    {"exit", [](const std::string&) -> int { ::_exit(7); }},
    {"throw", [](const std::string&) -> int { throw std::runtime_error("lost its temper"); }},
    {"allocate", allocate},
    {"garbage", say_garbage},
    {"chatter", chatter},
    {"fork", fork_one},
    {"write", write_to},
    {"read", read_from},
    {"socket", open_socket},
    {"chmod", [](const std::string& path) { return errno_of(::chmod(path.c_str(), 0666)); }},
    {"link",
     [](const std::string& path) { return errno_of(::symlink("/etc/shadow", path.c_str())); }},
    {"kill", [](const std::string&) { return errno_of(::kill(::getppid(), 0)); }},
    {"outlive", [](const std::string&) { return errno_of(::prctl(PR_SET_PDEATHSIG, 0)); }},
    {"sleep",
     [](const std::string&) -> int {
         std::this_thread::sleep_for(std::chrono::hours(1));
         return 0;
     }},
};

class WildSource final : public ImageSource {
public:
    explicit WildSource(Host& host) : host_(host) {}

    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override {
        const std::string& reference = request.reference;
        if (!reference.starts_with("wild:")) return Error(Errc::not_found, "not mine");
        const std::size_t equals = reference.find('=');
        const std::string word =
            reference.substr(5, equals == reference.npos ? equals : equals - 5);
        const std::string argument = equals == reference.npos ? "" : reference.substr(equals + 1);
        if (word == "web") return web(argument, call);
        if (const auto deed = deeds.find(word); deed != deeds.end())
            if (const int refused = deed->second(argument); refused != 0)
                return Error::from_errno(refused, word);
        ArtifactManifest manifest;
        manifest.kind = request.kind;
        manifest.reference = reference;
        manifest.suggested_name = "wild";
        manifest.architecture = request.architecture;
        manifest.provenance = "none at all";
        manifest.description = "pid " + std::to_string(::getpid());
        manifest.parts.push_back({PartFormat::tar_layer, std::nullopt, std::nullopt, word});
        return Resolution(std::move(manifest));
    }

    Result<void> fetch(const ArtifactManifest& manifest, std::size_t, std::uint64_t,
                       const UniqueFd& sink, Call&) override {
        static_cast<void>(!::write(sink.get(), "bytes", 5));
        // Kept for ever, and written to when nobody asks any more.
        if (manifest.parts.at(0).locator == "leak") {
            const int kept = ::dup(sink.get());
            if (kept < 0) return Error::from_errno(errno, "dup");
            std::thread([kept] {
                for (;;) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(1));
                    static_cast<void>(!::write(kept, "more", 4));
                }
            }).detach();
        }
        return ok();
    }

    Result<std::vector<AvailableArtifact>> available(Call&) override {
        return std::vector<AvailableArtifact>{};
    }
    std::vector<Check> checks(std::stop_token) override {
        return {{"wild", CheckStatus::pass, "as ever", ""}};
    }

private:
    Result<Resolution> web(const std::string& url, Call& call) {
        HttpRequest request;
        request.url = url;
        const HttpResponse response = BANGER_TRY(host_.http_get(request, call));
        const UniqueFd file(::memfd_create("download", MFD_CLOEXEC));
        const HttpResponse download = BANGER_TRY(host_.http_download(request, file.get(), call));
        struct stat status {};
        ::fstat(file.get(), &status);
        return Error(Errc::wrong_state, std::to_string(response.status) + " " +
                                            std::to_string(response.body.size()) + " " +
                                            std::to_string(download.status) + " " +
                                            std::to_string(status.st_size));
    }
    Host& host_;
};

class WildPlugin final : public Plugin {
public:
    explicit WildPlugin(Host& host) : source_(host) {}
    Roles roles() override {
        Roles roles;
        roles.image_source = &source_;
        return roles;
    }

private:
    WildSource source_;
};

Result<std::unique_ptr<Plugin>> make(Host& host) {
    host.log(LogLevel::info, "wild is being made");
    const std::string& word = std::get<std::string>(host.settings().at("start"));
    const std::string& argument = std::get<std::string>(host.settings().at("folder"));
    if (const auto deed = deeds.find(word); deed != deeds.end())
        if (const int refused = deed->second(argument); refused != 0)
            return Error::from_errno(refused, word);
    return std::unique_ptr<Plugin>(std::make_unique<WildPlugin>(host));
}

}  // namespace

BANGER_PLUGIN("wild", make);
