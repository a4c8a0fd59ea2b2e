#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../base/temp_folder.hpp"
#include "core/base/child.hpp"
#include "fake_bangerd.hpp"

namespace banger::cli {

struct Outcome {
    int status = 0;
    std::string out;
    std::string err;
};

/// A banger that runs.
class Running {
public:
    Running(Child child, std::string out_path, std::string err_path)
        : child_(std::move(child)),
          out_path_(std::move(out_path)),
          err_path_(std::move(err_path)) {}
    void signal(int number) const;
    void wait_until_stopped() const;
    Outcome wait();

private:
    Child child_;
    std::string out_path_;
    std::string err_path_;
};

/// The real banger, with folders of the test's own, a bangerd that is fake, and an ssh that runs
/// the remote command right here.
class CliTest : public testing::Test {
protected:
    CliTest();

    /// Serves on the socket where banger looks.
    FakeBangerd& daemon();
    Running start(const std::vector<std::string>& words, const std::string& input = {});
    Outcome run(const std::vector<std::string>& words, const std::string& input = {}) {
        return start(words, input).wait();
    }

    /// The same with standard input on a terminal, where somebody types `typed`; "\4" is Ctrl-D.
    Outcome run_at_terminal(const std::vector<std::string>& words, const std::string& typed);

    /// What ssh does instead: "refuse" (no key fits), "never" (nobody answers; "never-told"
    /// after telling wait_for_ssh()), "lost" (the
    /// connection breaks), "suspend" (stops itself, as on `~^Z`), "hang" (until it gets a signal,
    /// after telling wait_for_ssh()).
    void set_ssh_mode(const std::string& mode);
    /// Blocks until a hanging ssh is connected.
    void wait_for_ssh();
    /// The words of the last ssh.
    [[nodiscard]] std::vector<std::string> ssh_words() const;
    [[nodiscard]] std::string read(const std::string& name) const;

    TempFolder folder_;
    std::map<std::string, std::string> environment_;
    std::string program_;
    std::string socket_;

private:
    Running start_with(const std::vector<std::string>& words, int standard_input);
    std::unique_ptr<FakeBangerd> daemon_;
    int runs_ = 0;
};

}  // namespace banger::cli
