#include "tests/net-bridge/namespace.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "core/base/child.hpp"
#include "core/base/file.hpp"

namespace banger {

namespace {

void write_map(const std::string& path, const std::string& text) {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    (void)write_all(fd.get(), text);
}

}  // namespace

std::string enter_new_namespace() {
    if (::unshare(CLONE_NEWNET) == 0) return {};
    const std::string uid = std::to_string(::geteuid());
    const std::string gid = std::to_string(::getegid());
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return std::string("needs root or user namespaces: ") + std::strerror(errno);
    write_map("/proc/self/setgroups", "deny");
    write_map("/proc/self/uid_map", "0 " + uid + " 1");
    write_map("/proc/self/gid_map", "0 " + gid + " 1");
    return {};
}

void NamespaceTest::enter() {
    ASSERT_EQ(enter_new_namespace(), "");
    run({"ip", "link", "set", "lo", "up"});
}

namespace {

/// Why no test of this program can run here, or empty. Asked in a child, which may change itself.
std::string why_not() {
    if (::access("/dev/net/tun", R_OK | W_OK) != 0) return "needs to open /dev/net/tun";
    const pid_t child = ::fork();
    if (child == 0) ::_exit(enter_new_namespace().empty() ? 0 : 1);
    int status = 0;
    ::waitpid(child, &status, 0);
    return status == 0 ? "" : "needs root or user namespaces";
}

class NamespaceEnvironment : public testing::Environment {
    void SetUp() override {
        const std::string reason = why_not();
        if (reason.empty()) return;
        const char* const required = std::getenv("BANGER_REQUIRE");
        if (required && std::string(required).find("netns") != std::string::npos) FAIL() << reason;
        GTEST_SKIP() << reason;
    }
};

const testing::Environment* const registered =
    testing::AddGlobalTestEnvironment(new NamespaceEnvironment);

}  // namespace

OtherNamespace::OtherNamespace() {
    std::thread([this] {
        EXPECT_EQ(::unshare(CLONE_NEWNET), 0);
        fd_.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    }).join();
    run([] { banger::run({"ip", "link", "set", "lo", "up"}); });
}

void OtherNamespace::run(const std::function<void()>& job) const {
    std::thread([&] {
        ASSERT_EQ(::setns(fd_.get(), CLONE_NEWNET), 0);
        job();
    }).join();
}

std::string OtherNamespace::path() const {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_.get());
}

std::string run(const std::vector<std::string>& words) {
    const UniqueFd output(::memfd_create("output", MFD_CLOEXEC));
    Command command;
    for (const char* const folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"})
        if (command.program.empty() && path_exists(folder + words[0]))
            command.program = folder + words[0];
    command.arguments.assign(words.begin() + 1, words.end());
    command.standard_output = output.get();
    command.standard_error = output.get();
    Result<Child> child = spawn(command);
    EXPECT_TRUE(child) << command.text();
    if (!child) return {};
    const Result<ExitStatus> status = child->wait({});
    ::lseek(output.get(), 0, SEEK_SET);
    std::string text = read_all(output.get(), ByteCount::mib(4)).value_or("");
    EXPECT_TRUE(status && status->is_success()) << command.text() << ": " << text;
    return text;
}

}  // namespace banger
