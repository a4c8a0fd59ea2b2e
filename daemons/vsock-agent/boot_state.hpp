#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace banger::agent {

/// How far the machine is, told by init (PID 1) to its child, the agent, through memory that both
/// share. Init sets, the agent reads; init wakes it through an eventfd.
class BootState {
public:
    enum Step : unsigned { root_mounted, work_mounted, network_up, handed_over, step_count };

    /// In memory that survives fork(); never freed. Null when there is none left.
    static BootState* make();

    void expect(Step step) { expected_.fetch_or(1U << step); }
    [[nodiscard]] bool is_expected(Step step) const { return (expected_ & (1U << step)) != 0; }
    void reach(Step step);
    [[nodiscard]] bool is_reached(Step step) const { return (reached_ & (1U << step)) != 0; }

    /// The image has an sshd, so it is ready only when that listens.
    void set_has_sshd() { has_sshd_ = true; }
    [[nodiscard]] bool has_sshd() const { return has_sshd_; }

    /// Why `step` will not be reached; the machine runs on.
    void set_trouble(Step step, std::string_view why);
    [[nodiscard]] std::string trouble(Step step) const;

    /// The machine cannot start; init powers off once the host knows, or after a moment.
    void fail(std::string_view why);
    [[nodiscard]] std::string failure() const;
    void set_failure_told() { failure_told_ = true; }
    [[nodiscard]] bool is_failure_told() const { return failure_told_; }

    /// Readable when something above changed; the agent reads it.
    [[nodiscard]] int wake_fd() const { return wake_fd_; }

private:
    using Text = std::array<char, 512>;
    static void set(Text& text, std::string_view value);
    void wake() const;

    std::atomic<unsigned> expected_{0};
    std::atomic<unsigned> reached_{0};
    std::atomic<bool> has_sshd_{false};
    std::atomic<bool> failed_{false};
    std::atomic<bool> failure_told_{false};
    std::atomic<unsigned> troubled_{0};
    Text failure_{};
    std::array<Text, step_count> trouble_{};
    int wake_fd_ = -1;
};

}  // namespace banger::agent
