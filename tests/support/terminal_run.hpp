#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "banger/unique_fd.hpp"

namespace banger {

/// A program in a terminal of 40 rows and 120 columns, and whoever sits at it.
class TerminalRun {
public:
    TerminalRun(const std::string& program, const std::vector<std::string>& words,
                const std::map<std::string, std::string>& environment) {
        master_ = UniqueFd(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
        EXPECT_EQ(::grantpt(master_.get()) + ::unlockpt(master_.get()), 0);
        resize(40, 120);
        const std::string slave = ::ptsname(master_.get());
        pid_ = ::fork();
        if (pid_ != 0) return;
        ::setsid();
        const int fd = ::open(slave.c_str(), O_RDWR);
        for (int stream = 0; stream < 3; ++stream)
            ::dup2(fd, stream);
        std::vector<std::string> texts;
        for (const auto& [name, value] : environment)
            texts.push_back(name + "=" + value);
        std::vector<char*> variables;
        for (std::string& text : texts)
            variables.push_back(text.data());
        variables.push_back(nullptr);
        std::vector<std::string> copy = words;
        std::vector<char*> arguments = {const_cast<char*>(program.c_str())};
        for (std::string& word : copy)
            arguments.push_back(word.data());
        arguments.push_back(nullptr);
        ::execve(program.c_str(), arguments.data(), variables.data());
        ::_exit(99);
    }
    ~TerminalRun() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    TerminalRun(const TerminalRun&) = delete;
    TerminalRun& operator=(const TerminalRun&) = delete;

    void resize(unsigned short rows, unsigned short columns) {
        const winsize size{rows, columns, 0, 0};
        EXPECT_EQ(::ioctl(master_.get(), TIOCSWINSZ, &size), 0);
    }
    void type(std::string_view keys) {
        EXPECT_EQ(::write(master_.get(), keys.data(), keys.size()),
                  static_cast<ssize_t>(keys.size()));
    }
    void wait_for(const std::string& text) {
        std::array<char, 4096> buffer{};
        while (seen_.find(text) == seen_.npos) {
            pollfd ready{master_.get(), POLLIN, 0};
            ASSERT_EQ(::poll(&ready, 1, 60'000), 1) << seen_;
            const ssize_t count = ::read(master_.get(), buffer.data(), buffer.size());
            ASSERT_GT(count, 0) << seen_;
            seen_.append(buffer.data(), static_cast<std::size_t>(count));
        }
        seen_.erase(0, seen_.find(text) + text.size());
    }
    [[nodiscard]] bool is_raw() const {
        termios modes{};
        ::tcgetattr(master_.get(), &modes);
        return (modes.c_lflag & ICANON) == 0;
    }
    void signal(int number) const {
        if (pid_ > 0) ::kill(pid_, number);
    }
    int wait() {
        int status = 0;
        ::waitpid(pid_, &status, 0);
        pid_ = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    }

private:
    UniqueFd master_;
    pid_t pid_ = -1;
    std::string seen_;
};

}  // namespace banger
