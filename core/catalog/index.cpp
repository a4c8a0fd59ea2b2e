#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <span>
#include <sstream>

#include "core/catalog/index.hpp"

namespace banger::catalog {

namespace {

constexpr std::size_t max_depth = 8;
constexpr std::size_t max_events = 50000;
constexpr std::size_t max_text = 1024;

/// Where an error lies. Lines count from 1.
struct Place {
    std::string_view file;
    int line = 0;
};

Error fail(Place place, std::string message, std::string remedy) {
    return Error(Errc::invalid_argument,
                 std::string(place.file) + ":" + std::to_string(place.line) + ": " + message,
                 std::move(remedy));
}

int line_of(const YAML::Mark& mark) { return mark.is_null() ? 1 : mark.line + 1; }

/// What a hostile file is made of is refused while it is parsed, before any tree is built.
class StructureCheck : public YAML::EventHandler {
public:
    struct Refusal {
        int line;
        std::string what;
    };

    void OnDocumentStart(const YAML::Mark& mark) override {
        if (++documents_ > 1) throw Refusal{line_of(mark), "a second document begins"};
    }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        count(mark, "?", anchor);
    }
    void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
        throw Refusal{line_of(mark), "an alias (*name)"};
    }
    void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  const std::string&) override {
        count(mark, tag, anchor);
    }
    void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                         YAML::EmitterStyle::value) override {
        enter(mark, tag, anchor);
    }
    void OnSequenceEnd() override { --depth_; }
    void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                    YAML::EmitterStyle::value) override {
        enter(mark, tag, anchor);
    }
    void OnMapEnd() override { --depth_; }

private:
    void count(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
        if (anchor != 0) throw Refusal{line_of(mark), "an anchor (&name)"};
        // "?" is a plain node and "!" a quoted one: no tag was written.
        if (!tag.empty() && tag != "?" && tag != "!") throw Refusal{line_of(mark), "a tag (!name)"};
        if (++events_ > max_events) throw Refusal{line_of(mark), "more entries than a catalog has"};
    }
    void enter(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
        count(mark, tag, anchor);
        if (++depth_ > max_depth) throw Refusal{line_of(mark), "deeper nesting than a catalog has"};
    }

    std::size_t documents_ = 0;
    std::size_t depth_ = 0;
    std::size_t events_ = 0;
};

/// The one place where yaml-cpp may throw.
Result<YAML::Node> load(std::string_view text, std::string_view file) {
    try {
        std::istringstream stream{std::string(text)};
        YAML::Parser parser(stream);
        StructureCheck check;
        while (parser.HandleNextDocument(check)) {
        }
        return YAML::Load(std::string(text));
    } catch (const StructureCheck::Refusal& refusal) {
        return fail({file, refusal.line}, refusal.what + " does not belong in a catalog",
                    "Write every entry out in plain YAML; see plugins/catalog/README.md.");
    } catch (const YAML::Exception& failure) {
        return Error(Errc::corrupt,
                     std::string(file) + ":" + std::to_string(line_of(failure.mark)) +
                         ": not YAML: " + failure.msg,
                     "Correct the file; a YAML checker shows what is wrong.");
    } catch (const std::exception& failure) {
        return Error(Errc::corrupt, std::string(file) + ": not YAML: " + failure.what(),
                     "Correct the file; a YAML checker shows what is wrong.");
    }
}

bool is_printable(std::string_view text) {
    return std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text.substr(0, 64))
        out += is_printable({&c, 1}) ? c : '?';
    return out + (text.size() > 64 ? "…\"" : "\"");
}

std::string joined(std::span<const std::string_view> words) {
    std::string out;
    for (const std::string_view word : words)
        out += (out.empty() ? "" : ", ") + std::string(word);
    return out;
}

/// A mapping whose keys are all known and none doubled.
class Table {
public:
    static Result<Table> open(const YAML::Node& node, std::string_view what,
                              std::span<const std::string_view> keys, std::string_view file) {
        const Place place{file, line_of(node.Mark())};
        if (!node.IsMap())
            return fail(place, std::string(what) + " must be a table of keys and values",
                        "It has the keys " + joined(keys) + ".");
        std::set<std::string> seen;
        for (const auto& pair : node) {
            const Place key_place{file, line_of(pair.first.Mark())};
            const std::string key = pair.first.IsScalar() ? pair.first.Scalar() : "";
            if (std::ranges::find(keys, key) == keys.end())
                return fail(key_place, "unknown key " + quoted(key) + " in " + std::string(what),
                            "Use one of: " + joined(keys) + ".");
            if (!seen.insert(key).second)
                return fail(key_place, "the key " + quoted(key) + " is there twice",
                            "Remove one of the two.");
        }
        return Table(node, what, file);
    }

    [[nodiscard]] Place place() const { return {file_, line_of(node_.Mark())}; }
    [[nodiscard]] Place place_of(const char* key) const {
        const YAML::Node value = node_[key];
        return value ? Place{file_, line_of(value.Mark())} : place();
    }
    [[nodiscard]] YAML::Node operator[](const char* key) const { return node_[key]; }
    [[nodiscard]] bool has(const char* key) const { return node_[key].IsDefined(); }

    [[nodiscard]] Result<std::string> text(const char* key) const {
        const YAML::Node value = node_[key];
        if (!value.IsDefined())
            return fail(place(), std::string(what_) + " has no " + quoted(key), "Add it.");
        const Place at{file_, line_of(value.Mark())};
        if (!value.IsScalar() || value.Scalar().empty())
            return fail(at, quoted(key) + " must be a text", "Write one value after the colon.");
        if (value.Scalar().size() > max_text || !is_printable(value.Scalar()))
            return fail(at, quoted(key) + " is too long or has control characters",
                        "Shorten it to one line of plain text.");
        return value.Scalar();
    }

private:
    Table(const YAML::Node& node, std::string_view what, std::string_view file)
        : node_(node), what_(what), file_(file) {}
    const YAML::Node node_;
    std::string_view what_;
    std::string_view file_;
};

/// Letters, digits and what references are written with; never a space or a quote.
bool is_reference(std::string_view text) {
    return !text.empty() && text.size() <= 256 && text.front() != '-' &&
           std::ranges::all_of(text, [](unsigned char c) {
               return std::isalnum(c) || std::string_view("._:/@+-").find(static_cast<char>(c)) !=
                                             std::string_view::npos;
           });
}

Result<std::string> read_reference(const Table& table, const char* key) {
    std::string reference = BANGER_TRY(table.text(key));
    if (!is_reference(reference))
        return fail(table.place_of(key), quoted(reference) + " is not a reference",
                    "Write it as you would give it to `banger image pull`.");
    return reference;
}

bool is_word(std::string_view text) {
    return !text.empty() && text.size() <= 32 && std::ranges::all_of(text, [](unsigned char c) {
        return std::islower(c) || std::isdigit(c) || c == '-' || c == '.';
    });
}

Result<std::string> read_word(const Table& table, const char* key) {
    std::string word = BANGER_TRY(table.text(key));
    if (!is_word(word))
        return fail(table.place_of(key), quoted(word) + " cannot be " + quoted(key),
                    "Use lower-case letters, digits, dots and hyphens.");
    return word;
}

std::optional<std::uint64_t> number_of(std::string_view digits) {
    std::uint64_t number = 0;
    const char* end = digits.data() + digits.size();
    const auto [rest, problem] = std::from_chars(digits.data(), end, number);
    if (problem != std::errc() || rest != end) return std::nullopt;
    return number;
}

Result<Bundle> read_bundle(const YAML::Node& node, std::string_view file) {
    static constexpr std::string_view keys[] = {"url", "sha256", "size"};
    const Table table = BANGER_TRY(Table::open(node, "a bundle", keys, file));
    std::string url = BANGER_TRY(table.text("url"));
    if (!is_fetchable(url) && !is_relative_path(url))
        return fail(table.place_of("url"), quoted(url) + " is not a URL to fetch from",
                    "Use https://, http:// to this host, or a path below the catalog's folder.");
    const std::string hex = BANGER_TRY(table.text("sha256"));
    Result<Digest> digest = Digest::parse("sha256:" + hex);
    if (!digest)
        return fail(table.place_of("sha256"), quoted(hex) + " is not a SHA-256",
                    "Write the 64 lower-case hexadecimal digits that sha256sum prints.");
    const std::string size_text = BANGER_TRY(table.text("size"));
    const std::uint64_t size = number_of(size_text).value_or(0);
    if (size == 0 || size > ByteCount::gib(1024).count())
        return fail(table.place_of("size"), quoted(size_text) + " is not a number of bytes",
                    "Write what `stat -c %s` prints.");
    return Bundle{std::move(url), *std::move(digest), ByteCount::bytes(size)};
}

using Content = std::variant<Bundle, Recipe>;

Result<Content> read_content(const Table& table, const ArtifactName& name, std::string_view file) {
    if (table.has("bundle") == table.has("recipe"))
        return fail(table.place(), quoted(name.str()) + " needs either a bundle or a recipe",
                    "Add `bundle:` or `recipe:`, not both.");
    if (table.has("bundle")) return Content(BANGER_TRY(read_bundle(table["bundle"], file)));
    std::string reference = BANGER_TRY(read_reference(table, "recipe"));
    if (reference == name.str())
        return fail(table.place_of("recipe"), quoted(reference) + " is its own recipe",
                    "Name the reference that another source builds.");
    return Content(Recipe{std::move(reference)});
}

Result<Entry> read_entry(const YAML::Node& node, ArtifactKind kind, std::string_view file) {
    static constexpr std::string_view keys[] = {"name",   "distro", "arch",  "description",
                                                "bundle", "recipe", "kernel"};
    const bool is_image = kind == ArtifactKind::image;
    const std::span<const std::string_view> known(keys, is_image ? 7 : 6);
    const Table table =
        BANGER_TRY(Table::open(node, is_image ? "an image" : "a kernel", known, file));
    const std::string name_text = BANGER_TRY(table.text("name"));
    Result<ArtifactName> name = ArtifactName::parse(name_text);
    if (!name) return fail(table.place_of("name"), name.error().message, name.error().remedy);
    std::string architecture = BANGER_TRY(read_word(table, "arch"));
    std::string distro = BANGER_TRY(read_word(table, "distro"));
    std::string description = BANGER_TRY(table.text("description"));
    std::string kernel;
    if (is_image && table.has("kernel")) kernel = BANGER_TRY(read_reference(table, "kernel"));
    Content content = BANGER_TRY(read_content(table, *name, file));
    return Entry{kind,
                 *std::move(name),
                 std::move(architecture),
                 std::move(distro),
                 std::move(description),
                 std::move(kernel),
                 std::move(content)};
}

Result<void> read_list(const YAML::Node& list, ArtifactKind kind, std::string_view file,
                       std::vector<Entry>& entries) {
    if (!list.IsDefined()) return ok();
    if (!list.IsSequence())
        return fail({file, line_of(list.Mark())},
                    quoted(kind == ArtifactKind::image ? "images" : "kernels") + " must be a list",
                    "Begin each entry with a hyphen.");
    for (const YAML::Node& node : list) {
        Entry entry = BANGER_TRY(read_entry(node, kind, file));
        const bool is_taken = std::ranges::any_of(entries, [&](const Entry& other) {
            return other.kind == kind && other.name == entry.name &&
                   other.architecture == entry.architecture;
        });
        if (is_taken)
            return fail({file, line_of(node.Mark())},
                        quoted(entry.name.str()) + " is in this catalog twice",
                        "Rename or remove one of the two.");
        entries.push_back(std::move(entry));
    }
    return ok();
}

Result<std::uint64_t> read_serial(const Table& table) {
    const std::string text = BANGER_TRY(table.text("serial"));
    const std::optional<std::uint64_t> serial = number_of(text);
    if (!serial || *serial == 0 || *serial > (std::uint64_t{1} << 62))
        return fail(table.place_of("serial"), quoted(text) + " is not a serial number",
                    "Count from 1, or write the date as 2027010101.");
    return *serial;
}

/// "2027-06-30".
Result<std::chrono::sys_days> read_day(const Table& table, const char* key) {
    const std::string text = BANGER_TRY(table.text(key));
    const Error no_day =
        fail(table.place_of(key), quoted(text) + " is not a day", "Write it as in 2027-06-30.");
    if (text.size() != 10 || text[4] != '-' || text[7] != '-') return no_day;
    const std::optional<std::uint64_t> year = number_of(std::string_view(text).substr(0, 4));
    const std::optional<std::uint64_t> month = number_of(std::string_view(text).substr(5, 2));
    const std::optional<std::uint64_t> day = number_of(std::string_view(text).substr(8, 2));
    if (!year || !month || !day) return no_day;
    const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(*year)),
                                           std::chrono::month(static_cast<unsigned>(*month)),
                                           std::chrono::day(static_cast<unsigned>(*day))};
    if (!date.ok()) return no_day;
    return std::chrono::sys_days(date);
}

}  // namespace

bool is_fetchable(std::string_view url) {
    const bool is_allowed = url.starts_with("https://") || url.starts_with("http://127.0.0.1") ||
                            url.starts_with("http://localhost") || url.starts_with("http://[::1]");
    return is_allowed && url.size() <= max_text && is_printable(url) &&
           url.find_first_of(" \"\\<>^`{|}") == url.npos;
}

bool is_relative_path(std::string_view path) {
    if (path.empty() || path.size() > max_text) return false;
    while (true) {
        const std::size_t end = std::min(path.find('/'), path.size());
        const std::string_view part = path.substr(0, end);
        const bool is_plain = std::ranges::all_of(part, [](unsigned char c) {
            return std::isalnum(c) || c == '.' || c == '_' || c == '-' || c == '+';
        });
        // Neither "..", nor what is hidden, nor what a program could take for a flag.
        if (part.empty() || part.front() == '.' || part.front() == '-' || !is_plain) return false;
        if (end == path.size()) return true;
        path.remove_prefix(end + 1);
    }
}

Result<Index> parse_catalog(std::string_view text, std::string_view file) {
    if (ByteCount::bytes(text.size()) > max_catalog_size)
        return Error(Errc::invalid_argument,
                     std::string(file) + ": larger than " + max_catalog_size.text(),
                     "Split it in several catalogs.");
    const YAML::Node root = BANGER_TRY(load(text, file));
    static constexpr std::string_view keys[] = {"version", "serial", "expires", "images",
                                                "kernels"};
    const Table table = BANGER_TRY(Table::open(root, "a catalog", keys, file));
    const std::string version = BANGER_TRY(table.text("version"));
    if (version != "1")
        return fail(table.place_of("version"), "catalog version " + quoted(version) + " is unknown",
                    "Write version: 1, or use a newer banger.");
    Index index;
    if (table.has("serial")) index.serial = BANGER_TRY(read_serial(table));
    if (table.has("expires")) index.expires = BANGER_TRY(read_day(table, "expires"));
    BANGER_TRY(read_list(table["images"], ArtifactKind::image, file, index.entries));
    BANGER_TRY(read_list(table["kernels"], ArtifactKind::kernel, file, index.entries));
    return index;
}

}  // namespace banger::catalog
