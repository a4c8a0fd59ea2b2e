#include "cli/complete.hpp"

#include <algorithm>
#include <optional>
#include <set>

#include "cli/parse.hpp"
#include "cli/render/text.hpp"
#include "cli/session.hpp"
#include "core/protocol/catalog_fields.hpp"

namespace banger::cli {

namespace {

using namespace std::chrono_literals;

/// A daemon that is slower is as good as none: somebody waits with a finger on the Tab key.
constexpr std::chrono::milliseconds patience = 400ms;

struct LivingWord {
    std::string_view word;
    Living kind;
};
/// What help texts call them.
constexpr LivingWord living_words[] = {
    {"VM", Living::vms},         {"IMAGE", Living::images},     {"KERNEL", Living::kernels},
    {"PLUGIN", Living::plugins}, {"CATALOG", Living::catalogs},
};

/// "[VM...]" → "VM".
std::string bare(std::string word) {
    std::erase_if(word, [](char c) { return c == '[' || c == ']' || c == '.'; });
    return word;
}

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find(' ', begin), text.size());
        if (end > begin) parts.push_back(bare(text.substr(begin, end - begin)));
        begin = end + 1;
    }
    return parts;
}

/// Fills in what one word may be.
class Completer {
public:
    Completer(const CommandTable& table, const AskNames& ask, std::string current)
        : table_(table), ask_(ask), current_(std::move(current)) {}

    Candidates take() { return std::move(found_); }

    void add(const std::string& word, const std::string& help) {
        const std::string whole = prefix_ + word;
        if (whole.starts_with(current_)) found_.words.push_back({whole, help});
    }

    void commands_of(const std::string& group) {
        const std::string prefix = group.empty() ? "" : group + " ";
        for (const Group& each : table_.groups)
            if (each.name.starts_with(prefix) && each.name.find(' ', prefix.size()) == prefix.npos)
                add(each.name.substr(prefix.size()), each.summary);
        for (const CommandSpec& command : table_.commands)
            if (command.group == group) add(command.name, command.summary);
        if (current_.starts_with('-')) {
            add("--help", "print help");
            if (group.empty()) add("--version", "print the version");
        }
    }

    /// What stands where help says `kind`, as the value of `flag` or as a word.
    void value(const std::string& kind, const std::vector<std::string>& choices,
               const CommandSpec& command, const std::string& flag,
               const std::set<std::string>& used) {
        if (!choices.empty()) {
            for (const std::string& choice : choices)
                add(choice, "");
            return;
        }
        if (kind == "REFERENCE") {
            living(command.group == "kernel" ? Living::kernel_references : Living::image_references,
                   {}, used);
            return;
        }
        for (const LivingWord& each : living_words)
            if (each.word == kind) living(each.kind, role_of(flag), used);
        if (kind == "SRC" || kind == "DST") {
            // Either end of a copy: a file here, or VM:PATH.
            if (current_.find(':') != current_.npos) return;
            for (const Candidate& each : ask_(Living::vms, {}))
                add(each.word + ":", each.help);
            found_.paths = Candidates::Paths::files;
        }
        if (kind == "FILE") found_.paths = Candidates::Paths::files;
        if (kind == "PATH" || kind == "FOLDER" || kind == "PLACE")
            found_.paths = Candidates::Paths::folders;
    }

    void flags_of(const CommandSpec& command, const std::set<std::string>& used) {
        for (const Option& option : command.options) {
            const std::vector<std::string> names = option_names(option);
            if (used.contains(names.back())) continue;
            // One name is enough, and the long one says more.
            const bool wants_short = !current_.starts_with("--") && current_.size() > 1;
            add(wants_short ? names.front() : names.back(), option.help);
        }
        add("--help", "print help");
        if (command.takes_guest_command && current_.size() <= 2)
            add("--", "the command for the guest follows");
    }

    /// "--format=js": what is completed stands after the equals sign.
    void set_prefix(std::string prefix) { prefix_ = std::move(prefix); }

private:
    static std::string role_of(const std::string& flag) {
        if (flag == "--backend") return "vm-backend";
        if (flag == "--network") return "network";
        if (flag == "--storage") return "storage";
        return {};
    }

    void living(Living kind, const std::string& role, const std::set<std::string>& used) {
        for (const Candidate& each : ask_(kind, role))
            if (!used.contains(each.word)) add(each.word, each.help);
    }

    const CommandTable& table_;
    const AskNames& ask_;
    std::string current_;
    std::string prefix_;
    Candidates found_;
};

const Option* find_option(const CommandSpec& command, const std::string& name) {
    for (const Option& option : command.options)
        if (std::ranges::count(option_names(option), name) > 0) return &option;
    return nullptr;
}

/// What the words before the cursor said to one command.
struct Before {
    std::set<std::string> used;           ///< long names of flags, and words
    std::size_t words = 0;                ///< how many
    const Option* wants_value = nullptr;  ///< the last one was a flag whose value is to come
    bool has_separator = false;           ///< `--` was among them
};

Before read_before(const CommandSpec& command, std::span<const std::string> words) {
    Before before;
    for (const std::string& word : words) {
        if (before.wants_value) {
            before.wants_value = nullptr;
            continue;
        }
        if (word == "--") {
            before.has_separator = true;
            return before;
        }
        if (!word.starts_with('-')) {
            before.used.insert(word);
            ++before.words;
            continue;
        }
        const std::size_t equals = word.find('=');
        const Option* const option = find_option(command, word.substr(0, equals));
        if (!option) continue;
        before.used.insert(option_names(*option).back());
        if (!option->value.empty() && equals == word.npos) before.wants_value = option;
    }
    return before;
}

void complete_command(Completer& completer, const CommandSpec& command,
                      std::span<const std::string> words) {
    const std::string& current = words.back();
    const Before before = read_before(command, words.first(words.size() - 1));
    if (before.has_separator) return;  // the guest's words
    if (before.wants_value) {
        const Option& option = *before.wants_value;
        completer.value(option.value, option.choices, command, option_names(option).back(), {});
        return;
    }
    if (const std::size_t equals = current.find('=');
        current.starts_with("--") && equals != current.npos) {
        const Option* const option = find_option(command, current.substr(0, equals));
        if (!option || option->value.empty()) return;
        completer.set_prefix(current.substr(0, equals + 1));
        completer.value(option->value, option->choices, command, option_names(*option).back(), {});
        return;
    }
    if (current.starts_with('-')) {
        completer.flags_of(command, before.used);
        return;
    }
    const std::vector<std::string> kinds = split(command.words.name);
    if (before.words < command.words.maximum && !kinds.empty()) {
        completer.value(kinds[std::min(before.words, kinds.size() - 1)], command.words.choices,
                        command, {}, before.used);
    } else if (current.empty()) {
        completer.flags_of(command, before.used);
    }
}

/// Names from a daemon that runs.
class DaemonNames {
public:
    explicit DaemonNames(const std::string& program) : program_(program) {}

    std::vector<Candidate> operator()(Living kind, const std::string& role) {
        std::vector<Candidate> names;
        if (!connect()) return names;
        const client::CallOptions options{.timeout = patience};
        if (kind == Living::vms) {
            for (const protocol::Vm& vm :
                 ask<protocol::ListVmsReply>("io.banger.Vm.List", options).vms)
                names.push_back({vm.name, vm.state + ", " + vm.image});
        } else if (kind == Living::images) {
            for (const protocol::Image& image :
                 ask<protocol::ListImagesReply>("io.banger.Image.List", options).images)
                names.push_back({image.name, image.description});
        } else if (kind == Living::kernels) {
            for (const protocol::Kernel& kernel :
                 ask<protocol::ListKernelsReply>("io.banger.Kernel.List", options).kernels)
                names.push_back({kernel.name, kernel.version});
        } else if (kind == Living::plugins) {
            for (const protocol::PluginInfo& plugin :
                 ask<protocol::PluginsReply>("io.banger.System.Plugins", options).plugins)
                if (role.empty() || std::ranges::count(plugin.roles, role) > 0)
                    names.push_back({plugin.name, plugin.summary});
        } else if (kind == Living::catalogs) {
            for (const protocol::Catalog& catalog :
                 ask<protocol::ListCatalogsReply>("io.banger.Catalog.List", options).catalogs)
                names.push_back({catalog.name, catalog.place});
        } else {
            const char* method = kind == Living::image_references ? "io.banger.Image.Available"
                                                                  : "io.banger.Kernel.Available";
            for (const protocol::Available& each :
                 ask<protocol::AvailableReply>(method, options).available)
                names.push_back({each.reference, each.description});
        }
        return names;
    }

private:
    bool connect() {
        const Result<PathEnvironment> environment = PathEnvironment::from_process();
        if (!environment) return false;
        const Result<client::DaemonPlace> place = client::find_daemon(*environment, program_);
        if (!place) return false;
        Result<client::Connection> connection =
            client::Connection::connect(place->paths.socket, patience);
        if (connection) connection_.emplace(std::move(*connection));
        return connection_.has_value();
    }

    template <class Reply>
    Reply ask(const char* method, const client::CallOptions& options) {
        return connection_->call<Reply>(method, protocol::NoParameters{}, options)
            .value_or(Reply{});
    }

    const std::string& program_;
    std::optional<client::Connection> connection_;
};

}  // namespace

Candidates complete(const CommandTable& table, std::span<const std::string> words,
                    const AskNames& ask) {
    if (words.empty()) return {};
    Completer completer(table, ask, words.back());
    // A group may lie in another: "vm", "vm workspace".
    const Group* group = nullptr;
    std::size_t at = 0;
    std::string name;
    for (std::size_t count = 1; count < words.size(); ++count) {
        name += (name.empty() ? "" : " ") + words[count - 1];
        const Group* const found = table.find_group(name);
        if (!found) break;
        group = found;
        at = count;
    }
    if (words.size() == at + 1) {
        completer.commands_of(group ? group->name : "");
        return completer.take();
    }
    const CommandSpec* const command = table.find(group ? group->name : "", words[at]);
    if (command) complete_command(completer, *command, words.subspan(at + 1));
    return completer.take();
}

int print_candidates(const CommandTable& table, std::span<const std::string> words,
                     Terminal& terminal, const std::string& program) {
    DaemonNames names(program);
    const Candidates found = complete(
        table, words, [&](Living kind, const std::string& role) { return names(kind, role); });
    std::string text;
    for (const Candidate& each : found.words) {
        text += printable(each.word);
        if (!each.help.empty()) text += "\t" + printable(each.help);
        text += "\n";
    }
    if (found.paths == Candidates::Paths::files) text += ":files\n";
    if (found.paths == Candidates::Paths::folders) text += ":folders\n";
    terminal.out(text);
    return 0;
}

}  // namespace banger::cli
