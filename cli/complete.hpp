#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cli/command.hpp"

/// What could stand where the cursor is. Made from the same table as the parser and the help.
namespace banger::cli {

struct Candidate {
    std::string word;  ///< the whole word, as it would stand
    std::string help;  ///< a few words for shells that show them; may be empty
};

struct Candidates {
    std::vector<Candidate> words;
    /// What the shell itself is to look for besides.
    enum class Paths { none, files, folders } paths = Paths::none;
};

/// What has live names. Plugins are those of one role ("network"), or all of them.
enum class Living { vms, images, kernels, plugins, catalogs, image_references, kernel_references };
/// Asks the daemon; gives nothing when it does not run, or not at once.
using AskNames = std::function<std::vector<Candidate>(Living kind, const std::string& role)>;

/// `words` are those after "banger", up to the cursor; the last one is the one that is being
/// typed, and may be empty. Pure but for `ask`, which is called only where names are wanted.
Candidates complete(const CommandTable& table, std::span<const std::string> words,
                    const AskNames& ask);

/// `banger __complete -- WORD...`: prints a line a candidate, "word TAB help", and last ":files" or
/// ":folders". Never fails, never starts a daemon, says nothing on standard error.
int print_candidates(const CommandTable& table, std::span<const std::string> words,
                     Terminal& terminal, const std::string& program);

}  // namespace banger::cli
