#include "core/plugins/manifest.hpp"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "core/base/names.hpp"

namespace banger {

namespace {

constexpr std::array<std::string_view, 2> privilege_words{"none", "root"};
constexpr std::array<std::string_view, 4> setting_type_words{"bool", "integer", "string", "list"};
constexpr std::array<Role, 5> all_roles{Role::network, Role::dns, Role::storage, Role::image_source,
                                        Role::vm_backend};

using Words = std::vector<std::string>;

std::string joined(const Words& words) {
    std::string text;
    for (const std::string& word : words)
        text += (text.empty() ? "" : ", ") + word;
    return text;
}

std::string nearest_remedy(std::string_view word, const Words& candidates) {
    if (const std::optional<std::string> near = nearest_word(word, candidates))
        return "Did you mean " + *near + "?";
    return candidates.empty() ? "Remove it." : "Known here: " + joined(candidates) + ".";
}

/// One table of the manifest, with where it stands for messages.
class ManifestTable {
public:
    ManifestTable(const toml::table& table, std::string_view file, std::string where)
        : table_(table), file_(file), where_(std::move(where)) {}

    [[nodiscard]] Error error(const toml::node& node, const std::string& message,
                              std::string remedy) const {
        return {Errc::invalid_argument, place(node) + message, std::move(remedy)};
    }

    [[nodiscard]] Result<void> only_known(const Words& keys) const {
        for (const auto& [key, node] : table_)
            if (std::ranges::find(keys, key.str()) == keys.end())
                return error(node, "unknown key " + named(key.str()),
                             nearest_remedy(key.str(), keys));
        return ok();
    }

    [[nodiscard]] const toml::node* find(std::string_view key) const { return table_.get(key); }

    [[nodiscard]] Result<const toml::node*> required(std::string_view key) const {
        if (const toml::node* node = table_.get(key)) return node;
        return error(table_, "the key " + named(key) + " is missing", "Add it to the manifest.");
    }

    [[nodiscard]] Result<std::string> text(std::string_view key) const {
        const toml::node* node = BANGER_TRY(required(key));
        if (const toml::value<std::string>* value = node->as_string();
            value && !value->get().empty())
            return value->get();
        return wrong_type(*node, key, "a string that is not empty");
    }

    [[nodiscard]] Result<std::int64_t> integer(const toml::node& node, std::string_view key) const {
        if (const toml::value<std::int64_t>* value = node.as_integer()) return value->get();
        return wrong_type(node, key, "an integer");
    }

    [[nodiscard]] Result<Words> words(const toml::node& node, std::string_view key) const {
        Words words;
        const toml::array* array = node.as_array();
        if (!array) return wrong_type(node, key, "a list of strings");
        for (const toml::node& element : *array) {
            const toml::value<std::string>* value = element.as_string();
            if (!value) return wrong_type(element, key, "a list of strings");
            words.push_back(value->get());
        }
        return words;
    }

    [[nodiscard]] Error wrong_type(const toml::node& node, std::string_view key,
                                   std::string_view wanted) const {
        return error(node, named(key) + " must be " + std::string(wanted), "Correct the manifest.");
    }

    [[nodiscard]] std::string named(std::string_view key) const {
        return quoted(where_ + std::string(key));
    }

private:
    [[nodiscard]] std::string place(const toml::node& node) const {
        return std::string(file_) + ":" + std::to_string(node.source().begin.line) + ": ";
    }
    const toml::table& table_;
    std::string_view file_;
    std::string where_;
};

bool fits(const SettingValue& value, SettingType type) {
    return value.index() == static_cast<std::size_t>(type);
}
static_assert(std::is_same_v<std::variant_alternative_t<2, SettingValue>, std::string>);
static_assert(static_cast<std::size_t>(SettingType::list) == 3);

std::string_view noun(SettingType type) {
    switch (type) {
        case SettingType::boolean:
            return "true or false";
        case SettingType::integer:
            return "an integer";
        case SettingType::string:
            return "a string";
        case SettingType::list:
            return "a list of strings";
    }
    return "";
}

/// What is wrong with a value, as the end of a sentence that begins with its key; empty: nothing.
struct Complaint {
    std::string message;
    std::string remedy;
};
std::optional<Complaint> complaint(const SettingSchema& schema, const SettingValue& value) {
    if (!fits(value, schema.type))
        return Complaint{"must be " + std::string(noun(schema.type)), "Correct the value."};
    if (const std::int64_t* number = std::get_if<std::int64_t>(&value)) {
        const std::string shown = "is " + std::to_string(*number);
        if (schema.minimum && *number < *schema.minimum)
            return Complaint{shown, "Use at least " + std::to_string(*schema.minimum) + "."};
        if (schema.maximum && *number > *schema.maximum)
            return Complaint{shown, "Use at most " + std::to_string(*schema.maximum) + "."};
    }
    if (schema.allowed.empty()) return std::nullopt;
    const Words one = fits(value, SettingType::string) ? Words{std::get<std::string>(value)}
                                                       : std::get<Words>(value);
    for (const std::string& word : one)
        if (std::ranges::find(schema.allowed, word) == schema.allowed.end())
            return Complaint{"cannot be " + quoted(word), nearest_remedy(word, schema.allowed)};
    return std::nullopt;
}

Result<SettingValue> read_value(const ManifestTable& table, const toml::node& node,
                                SettingType type) {
    switch (type) {
        case SettingType::boolean:
            if (const toml::value<bool>* value = node.as_boolean())
                return SettingValue(value->get());
            return table.wrong_type(node, "default", noun(type));
        case SettingType::integer:
            return SettingValue(BANGER_TRY(table.integer(node, "default")));
        case SettingType::string:
            if (const toml::value<std::string>* value = node.as_string())
                return SettingValue(value->get());
            return table.wrong_type(node, "default", noun(type));
        case SettingType::list:
            return SettingValue(BANGER_TRY(table.words(node, "default")));
    }
    return Error(Errc::internal, "a setting type without a reader");
}

Result<SettingSchema> read_setting(const ManifestTable& table) {
    BANGER_TRY(
        table.only_known({"type", "default", "description", "minimum", "maximum", "allowed"}));
    SettingSchema schema;
    const std::string type = BANGER_TRY(table.text("type"));
    const auto word = std::ranges::find(setting_type_words, type);
    if (word == setting_type_words.end())
        return table.error(*table.find("type"), table.named("type") + " is " + quoted(type),
                           "Use bool, integer, string or list.");
    schema.type = static_cast<SettingType>(word - setting_type_words.begin());
    schema.description = BANGER_TRY(table.text("description"));

    const std::pair<const char*, std::optional<std::int64_t>*> bounds[] = {
        {"minimum", &schema.minimum}, {"maximum", &schema.maximum}};
    for (const auto& [key, bound] : bounds) {
        const toml::node* node = table.find(key);
        if (!node) continue;
        if (schema.type != SettingType::integer)
            return table.error(*node, table.named(key) + " is for integers", "Remove it.");
        *bound = BANGER_TRY(table.integer(*node, key));
    }
    if (const toml::node* node = table.find("allowed")) {
        if (schema.type != SettingType::string && schema.type != SettingType::list)
            return table.error(*node, table.named("allowed") + " is for strings and lists",
                               "Remove it.");
        schema.allowed = BANGER_TRY(table.words(*node, "allowed"));
    }

    const toml::node* value = BANGER_TRY(table.required("default"));
    schema.default_value = BANGER_TRY(read_value(table, *value, schema.type));
    if (const std::optional<Complaint> wrong = complaint(schema, schema.default_value))
        return table.error(*value, table.named("default") + " " + wrong->message, wrong->remedy);
    return schema;
}

Result<SettingsSchema> read_settings(const ManifestTable& root, std::string_view file) {
    SettingsSchema schema;
    const toml::node* node = root.find("settings");
    if (!node) return schema;
    const toml::table* settings = node->as_table();
    if (!settings) return root.wrong_type(*node, "settings", "a table");
    for (const auto& [key, entry] : *settings) {
        const toml::table* table = entry.as_table();
        if (!table) return root.wrong_type(entry, "settings." + std::string(key.str()), "a table");
        const ManifestTable setting(*table, file, "settings." + std::string(key.str()) + ".");
        schema.emplace(key.str(), BANGER_TRY(read_setting(setting)));
    }
    return schema;
}

Result<std::vector<Role>> read_roles(const ManifestTable& root) {
    const toml::node* node = BANGER_TRY(root.required("roles"));
    const Words words = BANGER_TRY(root.words(*node, "roles"));
    Words known;
    for (const Role role : all_roles)
        known.emplace_back(to_string(role));
    for (const std::string& word : words) {
        if (!parse_role(word))
            return root.error(*node, quoted(word) + " is no role", nearest_remedy(word, known));
        if (std::ranges::count(words, word) > 1)
            return root.error(*node, "the role " + quoted(word) + " stands twice", "Name it once.");
    }
    if (words.empty())
        return root.error(*node, "the plugin fills no role", "Name one of " + joined(known) + ".");
    std::vector<Role> roles;
    for (const Role role : all_roles)
        if (std::ranges::find(words, to_string(role)) != words.end()) roles.push_back(role);
    return roles;
}

bool is_plain_path(std::string_view path) {
    if (!path.starts_with('/') || (std::string(path) + "/").find("/../") != std::string::npos)
        return false;
    return std::ranges::none_of(
        path, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

/// The key in "{KEY}"; empty: it is something else.
std::string_view key_of(std::string_view path) {
    if (path.size() < 3 || !path.starts_with('{') || !path.ends_with('}')) return {};
    return path.substr(1, path.size() - 2);
}

/// Those of one key of the sandbox; what a setting's default holds is seen when it is used.
Result<Words> read_paths(const ManifestTable& table, std::string_view key,
                         const SettingsSchema& settings) {
    const toml::node* node = table.find(key);
    if (!node) return Words{};
    Words paths = BANGER_TRY(table.words(*node, key));
    for (const std::string& path : paths) {
        if (is_plain_path(path)) continue;
        const std::string_view setting = key_of(path);
        const auto schema = settings.find(setting);
        if (schema != settings.end() && (schema->second.type == SettingType::string ||
                                         schema->second.type == SettingType::list))
            continue;
        return table.error(*node, table.named(key) + " has " + quoted(path),
                           "Write absolute paths without \"..\", or {KEY} for a setting that is a "
                           "string or a list.");
    }
    return paths;
}

Result<Sandbox> read_sandbox(const ManifestTable& root, std::string_view file,
                             const SettingsSchema& settings) {
    Sandbox sandbox;
    const toml::node* node = root.find("sandbox");
    if (!node) return sandbox;
    if (!node->as_table()) return root.wrong_type(*node, "sandbox", "a table");
    const ManifestTable table(*node->as_table(), file, "sandbox.");
    BANGER_TRY(table.only_known({"read", "write", "network", "memory"}));
    sandbox.read = BANGER_TRY(read_paths(table, "read", settings));
    sandbox.write = BANGER_TRY(read_paths(table, "write", settings));
    if (const toml::node* network = table.find("network")) {
        if (!network->as_boolean())
            return table.wrong_type(*network, "network", noun(SettingType::boolean));
        sandbox.network = network->as_boolean()->get();
    }
    if (const toml::node* memory = table.find("memory")) {
        const Result<ByteCount> size = ByteCount::parse(BANGER_TRY(table.text("memory")));
        if (!size)
            return table.error(*memory, table.named("memory") + ": " + size.error().message,
                               size.error().remedy);
        if (*size < ByteCount::mib(64) || *size > ByteCount::gib(64))
            return table.error(*memory, table.named("memory") + " is " + size->text(),
                               "Use 64M to 64G.");
        sandbox.memory = *size;
    }
    return sandbox;
}

/// Only a name: it lies beside the manifest.
Result<std::string> read_executable(const ManifestTable& root) {
    const toml::node* node = root.find("executable");
    if (!node) return std::string();
    std::string name = BANGER_TRY(root.text("executable"));
    const bool is_name = name.size() <= 64 && !name.starts_with('.') && !name.starts_with('-') &&
                         std::ranges::all_of(name, [](char c) {
                             return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                    (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                         });
    if (!is_name || name.ends_with(".so") || name.ends_with(".toml"))
        return root.error(*node, root.named("executable") + " is " + quoted(name),
                          "Name a program beside the manifest: letters, digits, '.', '_' and '-'.");
    return name;
}

Result<Manifest> read_manifest(const toml::table& table, std::string_view file) {
    const ManifestTable root(table, file, "");
    BANGER_TRY(root.only_known({"name", "version", "summary", "roles", "privilege", "api_version",
                                "settings", "executable", "sandbox"}));
    const std::string name_text = BANGER_TRY(root.text("name"));
    Result<PluginName> name = PluginName::parse(name_text);
    if (!name) return root.error(*root.find("name"), name.error().message, name.error().remedy);

    Manifest manifest{*name, {}, {}, {}, Privilege::none, 0, {}};
    manifest.version = BANGER_TRY(root.text("version"));
    manifest.summary = BANGER_TRY(root.text("summary"));
    manifest.roles = BANGER_TRY(read_roles(root));

    const std::string privilege = BANGER_TRY(root.text("privilege"));
    const auto word = std::ranges::find(privilege_words, privilege);
    if (word == privilege_words.end())
        return root.error(*root.find("privilege"), "the privilege is " + quoted(privilege),
                          "Use none or root.");
    manifest.privilege = static_cast<Privilege>(word - privilege_words.begin());

    const toml::node* api = BANGER_TRY(root.required("api_version"));
    const std::int64_t version = BANGER_TRY(root.integer(*api, "api_version"));
    if (version < 1 || version > UINT32_MAX)
        return root.error(*api, "the api_version is " + std::to_string(version),
                          "Use the number of plugin-api, which is " +
                              std::to_string(BANGER_PLUGIN_API_VERSION) + ".");
    manifest.api_version = static_cast<std::uint32_t>(version);
    manifest.settings = BANGER_TRY(read_settings(root, file));
    manifest.executable = BANGER_TRY(read_executable(root));
    manifest.sandbox = BANGER_TRY(read_sandbox(root, file, manifest.settings));
    if (manifest.privilege == Privilege::root)
        for (const char* key : {"executable", "sandbox"})
            if (const toml::node* extra = root.find(key))
                return root.error(*extra, root.named(key) + " is not for a plugin that needs root",
                                  "It is a library, and runs in bangerd-root.");
    return manifest;
}

}  // namespace

std::string_view to_string(Privilege privilege) {
    return privilege_words[static_cast<std::size_t>(privilege)];
}

std::vector<std::string> words_of(const Sandbox& sandbox) {
    std::vector<std::string> words;
    for (const std::string& path : sandbox.read)
        words.push_back("reading " + path);
    for (const std::string& path : sandbox.write)
        words.push_back("writing " + path);
    if (sandbox.network) words.emplace_back("the web");
    if (sandbox.memory != Sandbox{}.memory) words.push_back(sandbox.memory.text() + " of memory");
    return words;
}

std::string_view to_string(SettingType type) {
    return setting_type_words[static_cast<std::size_t>(type)];
}

Result<Manifest> parse_manifest(std::string_view text, std::string_view file) {
    try {
        const toml::table table = toml::parse(text, file);
        return read_manifest(table, file);
    } catch (const toml::parse_error& failure) {
        return Error(Errc::corrupt,
                     std::string(file) + ":" + std::to_string(failure.source().begin.line) + ": " +
                         std::string(failure.description()),
                     "Correct the manifest; it is TOML.");
    }
}

Result<std::vector<std::string>> resolve_paths(const std::vector<std::string>& declared,
                                               const Settings& settings) {
    std::vector<std::string> paths;
    for (const std::string& path : declared) {
        const std::string_view key = key_of(path);
        const auto setting = settings.find(key);
        if (key.empty() || setting == settings.end()) {
            paths.push_back(path);
            continue;
        }
        Words written;
        if (const std::string* one = std::get_if<std::string>(&setting->second))
            written.push_back(*one);
        else if (const Words* list = std::get_if<Words>(&setting->second))
            written = *list;
        for (std::string& word : written) {
            if (word.empty()) continue;
            if (!is_plain_path(word))
                return Error(Errc::invalid_argument,
                             quoted(key) + " is " + quoted(word) + ", which is no absolute path",
                             "Begin it with a slash, and leave \"..\" out.");
            paths.push_back(std::move(word));
        }
    }
    return paths;
}

Result<Settings> check_settings(const Manifest& manifest, const Settings& written) {
    const std::string prefix = "plugin." + manifest.name.str() + ".";
    Words keys;
    for (const auto& [key, schema] : manifest.settings)
        keys.push_back(key);
    for (const auto& [key, value] : written) {
        const auto schema = manifest.settings.find(key);
        if (schema == manifest.settings.end())
            return Error(Errc::invalid_argument, "unknown key " + quoted(prefix + key),
                         nearest_remedy(key, keys));
        if (const std::optional<Complaint> wrong = complaint(schema->second, value))
            return Error(Errc::invalid_argument, quoted(prefix + key) + " " + wrong->message,
                         wrong->remedy);
    }
    Settings settings = written;
    for (const auto& [key, schema] : manifest.settings)
        settings.try_emplace(key, schema.default_value);
    return settings;
}

}  // namespace banger
