#pragma once

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/images/tar_builder.hpp"
#include "tests/images/tree.hpp"

namespace banger::images {

/// What an image is after some entries, by the rules of ext4_image.hpp. A value, so that an entry
/// can be tried on a copy.
class Model {
public:
    void begin_layer() { ++layer_; }

    /// False: the entry is not possible, and the model may be half changed.
    bool apply(const TarBuilder::Item& item) {
        std::vector<std::string> parts = split(item.path);
        if (parts.empty()) return item.type == AE_IFDIR && (set(0, item), true);
        const std::string name = parts.back();
        parts.pop_back();
        if (name.starts_with(".wh.")) return whiteout(parts, name);
        if (!item.hard_link.empty()) return link(parts, name, item);
        const int folder = walk(parts, true);
        if (folder < 0) return false;
        touch(folder);
        const std::map<std::string, Name>::iterator old = nodes_[folder].names.find(name);
        if (item.type == AE_IFDIR && old != nodes_[folder].names.end() &&
            nodes_[old->second.node].is_folder()) {
            set(old->second.node, item);
            touch(old->second.node);
            return true;
        }
        const int made = make(folder);
        set(made, item);
        nodes_[folder].names[name] = {.node = made, .layer = layer_};
        if (item.type == AE_IFDIR) touch(made);
        return true;
    }

    [[nodiscard]] Tree tree() const {
        Tree tree;
        std::map<std::string, int> inodes;
        std::map<int, std::uint32_t> links;
        visit(0, "", [&](const std::string& path, int number) {
            tree[path] = nodes_[number].node;
            inodes[path] = number;
            ++links[number];
        });
        for (auto& [path, node] : tree)
            if (!S_ISDIR(node.mode)) node.links = links[inodes[path]];
        name_links(tree, inodes);
        return tree;
    }

    /// Everything as one layer.
    [[nodiscard]] std::string flat() const {
        TarBuilder tar;
        std::map<int, std::string> seen;
        visit(0, "", [&](const std::string& path, int number) {
            if (!seen.emplace(number, path).second) {
                tar.hard_link(path, seen[number]);
                return;
            }
            const Node& node = nodes_[number];
            tar.add({.path = path.empty() ? "./" : path,
                     .type = node.node.mode & S_IFMT,
                     .content = node.content,
                     .target = node.node.target,
                     .mode = node.node.mode & 07777,
                     .uid = node.node.uid,
                     .seconds = node.node.seconds,
                     .attributes = node.node.attributes});
        });
        return tar.finish();
    }

    /// Paths of what is no folder, as they are without any symbolic link.
    [[nodiscard]] std::vector<std::string> files() const {
        std::vector<std::string> paths;
        visit(0, "", [&](const std::string& path, int number) {
            if (!nodes_[number].is_folder()) paths.push_back(path);
        });
        return paths;
    }

private:
    struct Name {
        int node = 0;
        int layer = 0;  ///< that gave the name last
    };
    struct Node {
        TreeNode node{};
        std::string content{};
        std::map<std::string, Name> names{};
        int parent = 0;
        int touched = 0;  ///< the last layer that named it or something in it
        [[nodiscard]] bool is_folder() const { return S_ISDIR(node.mode); }
    };

    static std::vector<std::string> split(const std::string& path) {
        std::vector<std::string> parts;
        for (std::size_t at = 0; at < path.size();) {
            const std::size_t end = std::min(path.find('/', at), path.size());
            const std::string part = path.substr(at, end - at);
            if (!part.empty() && part != ".") parts.push_back(part);
            at = end + 1;
        }
        return parts;
    }

    int make(int parent) {
        nodes_.push_back(
            {.node = {.mode = S_IFDIR | 0755, .seconds = 1'000'000'000}, .parent = parent});
        return static_cast<int>(nodes_.size()) - 1;
    }

    void set(int number, const TarBuilder::Item& item) {
        Node& node = nodes_[number];
        node.node = {.mode = item.type | item.mode,
                     .uid = static_cast<std::uint32_t>(item.uid),
                     .seconds = item.seconds,
                     .size = item.type == AE_IFREG ? item.content.size() : 0,
                     .content = content_or_hash(item.content),
                     .target = item.target,
                     .attributes = item.attributes};
        node.content = item.content;
    }

    void touch(int folder) {
        for (; nodes_[folder].touched != layer_; folder = nodes_[folder].parent)
            nodes_[folder].touched = layer_;
    }

    /// The folder, -1 for none, -2 for what cannot be.
    int walk(std::vector<std::string> parts, bool makes) {
        std::reverse(parts.begin(), parts.end());  // a stack
        int at = 0;
        int symlinks = 0;
        while (!parts.empty()) {
            const std::string part = parts.back();
            parts.pop_back();
            if (part == "..") {
                at = nodes_[at].parent;
                continue;
            }
            const std::map<std::string, Name>::iterator found = nodes_[at].names.find(part);
            const bool is_there = found != nodes_[at].names.end();
            if (is_there && S_ISLNK(nodes_[found->second.node].node.mode)) {
                if (++symlinks > 40) return -2;
                const std::string& target = nodes_[found->second.node].node.target;
                if (target.starts_with('/')) at = 0;
                const std::vector<std::string> more = split(target);
                parts.insert(parts.end(), more.rbegin(), more.rend());
            } else if (is_there && nodes_[found->second.node].is_folder()) {
                at = found->second.node;
            } else if (!makes) {
                return -1;
            } else if (is_there) {
                return -2;
            } else {
                const int made = make(at);
                nodes_[at].names[part] = {.node = made, .layer = layer_};
                at = made;
            }
        }
        return at;
    }

    bool link(const std::vector<std::string>& parts, const std::string& name,
              const TarBuilder::Item& item) {
        std::vector<std::string> to = split(item.hard_link);
        if (to.empty()) return false;
        const std::string last = to.back();
        to.pop_back();
        const int from = walk(to, false);
        if (from < 0 || !nodes_[from].names.contains(last)) return false;
        const int target = nodes_[from].names[last].node;
        if (nodes_[target].is_folder()) return false;
        const int folder = walk(parts, true);
        if (folder < 0) return false;
        touch(folder);
        nodes_[folder].names[name] = {.node = target, .layer = layer_};
        return true;
    }

    [[nodiscard]] bool is_lower(const Name& name) const {
        return nodes_[name.node].is_folder() ? nodes_[name.node].touched != layer_
                                             : name.layer != layer_;
    }

    void remove_lower(int folder) {
        std::map<std::string, Name>& names = nodes_[folder].names;
        std::erase_if(names, [this](const auto& each) { return is_lower(each.second); });
        for (const auto& [name, each] : names)
            if (nodes_[each.node].is_folder()) remove_lower(each.node);
    }

    bool whiteout(const std::vector<std::string>& parts, const std::string& whole) {
        const int folder = walk(parts, false);
        if (folder < 0) return folder == -1;
        if (whole == ".wh..wh..opq") return remove_lower(folder), true;
        const std::map<std::string, Name>::iterator old =
            nodes_[folder].names.find(whole.substr(4));
        if (old == nodes_[folder].names.end()) return true;
        if (is_lower(old->second))
            nodes_[folder].names.erase(old);
        else if (nodes_[old->second.node].is_folder())
            remove_lower(old->second.node);
        return true;
    }

    template <class Visitor>
    void visit(int number, const std::string& path, Visitor visitor) const {
        visitor(path, number);
        for (const auto& [name, each] : nodes_[number].names)
            visit(each.node, path.empty() ? name : path + "/" + name, visitor);
    }

    int layer_ = 0;
    std::vector<Node> nodes_{{.node = {.mode = S_IFDIR | 0755, .seconds = 1'000'000'000}}};
};

/// Stacks that meet themselves often: few names, many whiteouts, links every way.
class Stacks {
public:
    explicit Stacks(unsigned seed) : random_(seed) {}

    struct Stack {
        std::vector<std::string> layers;
        Model model;
        bool is_possible = true;
    };

    Stack make() {
        Stack stack;
        const int layers = pick(1, 5);
        for (int layer = 0; layer < layers; ++layer) {
            TarBuilder tar;
            stack.model.begin_layer();
            for (int left = pick(0, 14); left > 0 && stack.is_possible; --left) {
                const TarBuilder::Item item = make_item(stack.model);
                Model after = stack.model;
                const bool is_possible = after.apply(item);
                // Most entries that cannot be are left out, so that most stacks are possible.
                if (!is_possible && pick(0, 9) > 0) continue;
                stack.is_possible = is_possible;
                stack.model = std::move(after);
                tar.add(item);
            }
            stack.layers.push_back(tar.finish());
        }
        return stack;
    }

    int pick(int least, int most) {
        return std::uniform_int_distribution<int>(least, most)(random_);
    }

private:
    std::string name() { return std::string(1, static_cast<char>('a' + pick(0, 3))); }
    std::string path() {
        std::string path = pick(0, 9) == 0 ? "./" : "";
        for (int depth = pick(0, 2); depth > 0; --depth)
            path += name() + "/";
        return path + name();
    }
    std::string folder_of(const std::string& path) {
        const std::size_t slash = path.find_last_of('/');
        return slash == std::string::npos ? "" : path.substr(0, slash + 1);
    }

    TarBuilder::Item make_item(const Model& model) {
        const std::vector<std::string> files = model.files();
        // Often where something is already.
        const std::string where =
            !files.empty() && pick(0, 2) == 0
                ? files[static_cast<std::size_t>(pick(0, static_cast<int>(files.size()) - 1))]
                : path();
        TarBuilder::Item item{.path = where, .uid = pick(0, 3), .seconds = pick(1, 2'000'000'000)};
        if (pick(0, 9) == 0) item.attributes = {{"user.number", std::to_string(pick(0, 99))}};
        switch (pick(0, 11)) {
            case 0:
            case 1: {
                const std::string folder = folder_of(where);
                item.path = folder + ".wh." + where.substr(folder.size());
                item.attributes.clear();
                break;
            }
            case 2:
                item.path = folder_of(where) + ".wh..wh..opq";
                item.attributes.clear();
                break;
            case 3:
            case 4:
                item.type = AE_IFDIR;
                item.mode = pick(0, 1) ? 0755 : 0700;
                break;
            case 5: {
                static const std::vector<std::string> targets = {
                    "a", "b", "/c", "../a", "b/c", "/a/b", "../../d", "nowhere", "/"};
                item.type = AE_IFLNK;
                item.mode = 0777;
                item.attributes.clear();
                item.target = targets[static_cast<std::size_t>(
                    pick(0, static_cast<int>(targets.size()) - 1))];
                break;
            }
            case 6:
            case 7:
                item.hard_link = files.empty() ? path()
                                               : files[static_cast<std::size_t>(
                                                     pick(0, static_cast<int>(files.size()) - 1))];
                item.attributes.clear();
                break;
            case 8:
                item.type = AE_IFIFO;
                item.attributes.clear();  // Linux lets files and folders alone have user.*
                break;
            default:
                item.content = std::string(static_cast<std::size_t>(pick(0, 3) * 3000),
                                           static_cast<char>('a' + pick(0, 25)));
                item.content += std::to_string(pick(0, 1'000'000));
                break;
        }
        return item;
    }

    std::mt19937 random_;
};

}  // namespace banger::images
