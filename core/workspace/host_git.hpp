#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "banger/result.hpp"
#include "core/base/child.hpp"

namespace banger::workspace {

/// The git of this host, run by argument list: no shell, no pager, no hook, no file system monitor,
/// no external diff, no prompt, no optional lock. Only ever run in a repository of the user's own,
/// never in one that a guest has written. Safe from any thread.
class HostGit {
public:
    /// Errc::unavailable when there is none.
    static Result<HostGit> find();

    /// `git WORDS…` in this folder. Pure.
    [[nodiscard]] Command command(const std::string& folder, std::vector<std::string> words) const;

    /// What it wrote to standard output. A bad exit status is an Error with what git said.
    /// `input` is its standard input.
    Result<std::string> run(const std::string& folder, std::vector<std::string> words,
                            std::stop_token stop, const std::string& input = {}) const;
    /// The same without the last newline; nothing when git says no.
    Result<std::optional<std::string>> ask(const std::string& folder,
                                           std::vector<std::string> words,
                                           std::stop_token stop) const;

private:
    explicit HostGit(std::string program) : program_(std::move(program)) {}
    Result<CommandOutput> output_of(const std::string& folder, std::vector<std::string> words,
                                    const std::string& input, std::stop_token stop) const;
    std::string program_;
};

}  // namespace banger::workspace
