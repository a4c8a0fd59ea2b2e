#include "core/images/modules.hpp"

#include <algorithm>
#include <sstream>
#include <utility>

namespace banger::images {

namespace {

bool is_relative_path(std::string_view path) {
    return !path.empty() && path.front() != '/' && path != ".." && !path.starts_with("../") &&
           !path.ends_with("/..") && path.find("/../") == std::string_view::npos;
}

}  // namespace

std::string module_name(std::string_view path) {
    std::string name(path.substr(path.rfind('/') + 1));
    name.resize(std::min(name.size(), name.find(".ko")));
    std::ranges::replace(name, '-', '_');
    return name;
}

Result<ModuleDependencies> ModuleDependencies::parse(std::string_view modules_dep) {
    ModuleDependencies dependencies;
    while (!modules_dep.empty()) {
        const std::size_t end = std::min(modules_dep.find('\n'), modules_dep.size());
        const std::string_view line = modules_dep.substr(0, end);
        modules_dep.remove_prefix(std::min(end + 1, modules_dep.size()));
        if (line.empty()) continue;
        const std::size_t colon = line.find(':');
        const std::string path(line.substr(0, colon));
        if (colon == std::string_view::npos || !is_relative_path(path))
            return Error(Errc::corrupt, "modules.dep has a line that is no dependency");
        std::vector<std::string>& needs = dependencies.needs_[path];
        std::istringstream words{std::string(line.substr(colon + 1))};
        for (std::string word; words >> word;) {
            if (!is_relative_path(word))
                return Error(Errc::corrupt, "modules.dep names a path outside its folder");
            needs.push_back(word);
        }
        dependencies.path_of_.insert_or_assign(module_name(path), path);
    }
    return dependencies;
}

bool ModuleDependencies::contains(std::string_view name) const {
    return path_of_.contains(module_name(name));
}

Result<std::vector<std::string>> ModuleDependencies::load_order(
    std::span<const std::string_view> names) const {
    enum class Mark { open, done };
    std::map<std::string, Mark, std::less<>> marks;
    std::vector<std::string> order;
    // Depth first with a stack of our own: the file is foreign and may describe a long chain.
    std::vector<std::pair<std::string, std::size_t>> stack;
    for (const std::string_view name : names) {
        const auto found = path_of_.find(module_name(name));
        if (found == path_of_.end() || marks.contains(found->second)) continue;
        marks[found->second] = Mark::open;
        stack.emplace_back(found->second, 0);
        while (!stack.empty()) {
            const std::string path = stack.back().first;
            const auto needs = needs_.find(path);
            if (needs == needs_.end())
                return Error(Errc::corrupt, "modules.dep needs " + path + " but does not list it");
            // depmod lists what is needed last first.
            const std::size_t index = stack.back().second++;
            if (index == needs->second.size()) {
                marks[path] = Mark::done;
                order.push_back(path);
                stack.pop_back();
                continue;
            }
            const std::string& need = needs->second[needs->second.size() - 1 - index];
            const auto mark = marks.find(need);
            if (mark != marks.end() && mark->second == Mark::open)
                return Error(Errc::corrupt, "modules.dep has a circle around " + need);
            if (mark != marks.end()) continue;
            marks[need] = Mark::open;
            stack.emplace_back(need, 0);
        }
    }
    return order;
}

}  // namespace banger::images
