#pragma once

#include <string>
#include <vector>

/// The command blocks of README.md and docs/*.md.
namespace banger::docs {

struct Block {
    std::string place;               ///< "docs/config.md:12"
    std::string kind;                ///< "sh", "sh guest"; docs_test.cpp has all
    std::string section;             ///< the heading above it, without its #
    std::vector<std::string> lines;  ///< a command each; one that a backslash continues is one
};

std::string text_of(const std::string& path);
/// Relative to the source folder, by name.
std::vector<std::string> documents(const std::string& source);
/// A block that does not end is a test failure.
std::vector<Block> blocks_of(const std::string& source, const std::string& document);
std::vector<Block> all_blocks(const std::string& source);

}  // namespace banger::docs
