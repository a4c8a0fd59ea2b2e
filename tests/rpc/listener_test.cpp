#include "core/rpc/listener.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "core/base/file.hpp"
#include "core/rpc/peer.hpp"

namespace banger::rpc {
namespace {

using testing::ElementsAre;

class ListenerTest : public testing::Test {
protected:
    void SetUp() override {
        char name[] = "/tmp/banger-listener-XXXXXX";
        ASSERT_NE(::mkdtemp(name), nullptr);
        folder_ = name;
        path_ = folder_ + "/socket";
    }
    void TearDown() override { EXPECT_TRUE(remove_tree(folder_)); }
    std::string folder_;
    std::string path_;
};

mode_t mode_of(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0);
    return status.st_mode;
}

TEST_F(ListenerTest, IsPrivateAndLeavesNothingElse) {
    const mode_t before = ::umask(0);
    const Result<UniqueFd> listener = listen_at(path_);
    ::umask(before);
    ASSERT_TRUE(listener) << listener.error().text();
    EXPECT_EQ(mode_of(path_), static_cast<mode_t>(S_IFSOCK | 0600));
    EXPECT_THAT(list_folder(folder_).value(), ElementsAre("socket"));
    EXPECT_NE(::fcntl(listener->get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(::fcntl(listener->get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(ListenerTest, OneThatAnswersIsKept) {
    for (const SocketKind kind : {SocketKind::stream, SocketKind::packets}) {
        const Result<UniqueFd> first = listen_at(path_, SocketKind::stream);
        ASSERT_TRUE(first) << first.error().text();
        const Result<UniqueFd> second = listen_at(path_, kind);
        ASSERT_FALSE(second);
        EXPECT_EQ(second.error().code, Errc::in_use);
        EXPECT_THAT(list_folder(folder_).value(), ElementsAre("socket"));
    }
}

TEST_F(ListenerTest, ADeadOneIsReplaced) {
    { ASSERT_TRUE(listen_at(path_)); }
    ASSERT_TRUE(path_exists(path_));
    EXPECT_TRUE(listen_at(path_));
    EXPECT_THAT(list_folder(folder_).value(), ElementsAre("socket"));
}

TEST_F(ListenerTest, AnythingElseOfThatNameIsKept) {
    std::ofstream(path_) << "precious";
    const Result<UniqueFd> listener = listen_at(path_);
    ASSERT_FALSE(listener);
    EXPECT_EQ(listener.error().code, Errc::already_exists);
    EXPECT_TRUE(S_ISREG(mode_of(path_)));
    ASSERT_EQ(::unlink(path_.c_str()), 0);
    ASSERT_EQ(::symlink("/dev/null", path_.c_str()), 0);
    EXPECT_EQ(listen_at(path_).error().code, Errc::already_exists);
    EXPECT_TRUE(S_ISLNK(mode_of(path_)));
}

TEST_F(ListenerTest, AFolderThatOthersMayWriteIsRefused) {
    ASSERT_EQ(::chmod(folder_.c_str(), 0770), 0);
    EXPECT_EQ(listen_at(path_).error().code, Errc::permission_denied);
    EXPECT_EQ(listen_at("/tmp/banger-must-not-be-made").error().code, Errc::permission_denied);
    EXPECT_EQ(listen_at(folder_ + "/missing/socket").error().code, Errc::not_found);
    EXPECT_EQ(listen_at(folder_ + "/" + std::string(120, 'x')).error().code,
              Errc::invalid_argument);
}

TEST_F(ListenerTest, PeersAreKnown) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const UniqueFd one(ends[0]);
    const UniqueFd two(ends[1]);
    const Result<PeerCredentials> peer = peer_credentials(one.get());
    ASSERT_TRUE(peer) << peer.error().text();
    EXPECT_EQ(peer->pid, ::getpid());
    EXPECT_EQ(peer->uid, ::geteuid());
    EXPECT_EQ(peer->gid, ::getegid());
    const Result<UniqueFd> pidfd = peer_pidfd(one.get());
    ASSERT_TRUE(pidfd) << pidfd.error().text();
    EXPECT_NE(::fcntl(pidfd->get(), F_GETFD) & FD_CLOEXEC, 0);

    const UniqueFd lonely(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_FALSE(peer_credentials(lonely.get()));
    const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    EXPECT_FALSE(peer_credentials(file.get()));
}

/// Runs `check` in a child whose descriptor 3 is `fd`, as systemd starts a service; true when it
/// says so.
bool in_service(int fd, const char* pid, const char* count, const std::function<bool()>& check) {
    const pid_t child = ::fork();
    if (child == 0) {
        if (fd >= 0 && fd != 3) ::dup2(fd, 3);
        const std::string own = std::to_string(::getpid());
        ::setenv("LISTEN_PID", pid != nullptr ? pid : own.c_str(), 1);
        ::setenv("LISTEN_FDS", count, 1);
        ::_exit(check() ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_F(ListenerTest, TakesSocketsFromSystemd) {
    const Result<UniqueFd> listener = listen_at(path_);
    ASSERT_TRUE(listener);
    EXPECT_TRUE(in_service(listener->get(), nullptr, "1", [] {
        const Result<std::vector<UniqueFd>> passed = inherited_listeners();
        return passed && passed->size() == 1 && passed->front().get() == 3 &&
               (::fcntl(3, F_GETFD) & FD_CLOEXEC) != 0 && std::getenv("LISTEN_FDS") == nullptr;
    }));
    // Meant for another process, or nonsense.
    EXPECT_TRUE(in_service(listener->get(), "1", "1", [] {
        const Result<std::vector<UniqueFd>> passed = inherited_listeners();
        return passed && passed->empty();
    }));
    for (const char* count : {"0", "-1", "x", "1x", "", "99999999999999999999"})
        EXPECT_TRUE(in_service(listener->get(), nullptr, count, [] {
            const Result<std::vector<UniqueFd>> passed = inherited_listeners();
            return passed && passed->empty();
        })) << count;
    // Not a socket of that kind.
    EXPECT_TRUE(in_service(listener->get(), nullptr, "1",
                           [] { return !inherited_listeners(SocketKind::packets); }));
    const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(in_service(file.get(), nullptr, "1", [] { return !inherited_listeners(); }));
    EXPECT_TRUE(in_service(listener->get(), nullptr, "17", [] { return !inherited_listeners(); }));
}

}  // namespace
}  // namespace banger::rpc
