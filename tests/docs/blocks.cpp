#include "tests/docs/blocks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "core/base/file.hpp"

namespace banger::docs {

namespace fs = std::filesystem;

std::string text_of(const std::string& path) {
    return read_file(path, ByteCount::mib(4)).value_or("");
}

std::vector<std::string> documents(const std::string& source) {
    std::vector<std::string> paths = {"README.md"};
    for (const fs::directory_entry& entry : fs::directory_iterator(source + "/docs"))
        if (entry.path().extension() == ".md")
            paths.push_back("docs/" + entry.path().filename().string());
    std::ranges::sort(paths);
    return paths;
}

std::vector<Block> blocks_of(const std::string& source, const std::string& document) {
    std::vector<Block> blocks;
    std::istringstream lines(text_of(source + "/" + document));
    bool is_inside = false;
    bool is_ours = false;
    bool goes_on = false;
    int number = 0;
    std::string section;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        if (line.starts_with("```")) {
            is_inside = !is_inside;
            const std::string info = line.substr(3);
            is_ours = is_inside && (info == "sh" || info.starts_with("sh "));
            if (is_ours)
                blocks.push_back({document + ":" + std::to_string(number), info, section, {}});
            goes_on = false;
            continue;
        }
        if (!is_inside && line.starts_with('#'))
            section = line.substr(std::min(line.find(' '), line.size() - 1) + 1);
        if (!is_ours || line.empty()) continue;
        if (goes_on)
            blocks.back().lines.back() += line;
        else
            blocks.back().lines.push_back(line);
        std::string& last = blocks.back().lines.back();
        goes_on = last.ends_with('\\');
        if (goes_on) last.pop_back();
    }
    EXPECT_FALSE(is_inside) << document << " has a block that does not end";
    return blocks;
}

std::vector<Block> all_blocks(const std::string& source) {
    std::vector<Block> all;
    for (const std::string& document : documents(source))
        for (Block& block : blocks_of(source, document))
            all.push_back(std::move(block));
    return all;
}

}  // namespace banger::docs
