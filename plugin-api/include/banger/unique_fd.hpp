#pragma once

#include <utility>

namespace banger {

/// Owns one file descriptor and closes it when it goes out of scope. Moves, never copies.
class UniqueFd {
public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        if (this != &other) reset(std::exchange(other.fd_, -1));
        return *this;
    }
    UniqueFd(const UniqueFd&) = delete;
    UniqueFd& operator=(const UniqueFd&) = delete;
    ~UniqueFd() { reset(); }

    /// The number, or -1. Ownership stays here.
    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] bool is_valid() const { return fd_ >= 0; }
    explicit operator bool() const { return is_valid(); }
    /// Gives ownership away.
    [[nodiscard]] int release() { return std::exchange(fd_, -1); }
    /// Closes what it owns and takes `fd` instead.
    void reset(int fd = -1);
    /// A second descriptor of the same open file, close-on-exec; invalid when the process has none
    /// left (errno says why).
    [[nodiscard]] UniqueFd duplicate() const;

private:
    int fd_ = -1;
};

}  // namespace banger
