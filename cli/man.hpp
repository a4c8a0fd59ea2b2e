#pragma once

#include <string>
#include <vector>

#include "cli/command.hpp"

/// Manual pages, of section 1, in the roff of man(7). Made from the same table as the help.
namespace banger::cli {

struct ManPage {
    std::string name;  ///< "banger-vm-run.1"
    std::string text;
};

/// One for banger itself, one a group, one a command. Pure: no defaults of this host.
std::vector<ManPage> man_pages(const CommandTable& table);

/// `banger __man FOLDER`, which the build calls: the pages as files; the folder must be there.
int write_man_pages(const CommandTable& table, const std::string& folder, Terminal& terminal);

}  // namespace banger::cli
