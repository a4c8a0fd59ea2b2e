#include "core/rpc/idl.hpp"

#include <algorithm>
#include <optional>
#include <set>

#include "core/base/names.hpp"
#include "core/rpc/server.hpp"

namespace banger::rpc {

namespace {

constexpr std::size_t most_bytes = std::size_t{256} << 10;
constexpr std::size_t most_nested = 16;

using Kind = Shape::Kind;

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_letter(char c) { return is_upper(c) || (c >= 'a' && c <= 'z'); }
bool is_alnum(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }
bool is_type_name(std::string_view word) {
    return !word.empty() && is_upper(word.front()) && std::ranges::all_of(word, is_alnum);
}

/// Letters, digits and single inner underscores.
bool is_field_name(std::string_view word) {
    return !word.empty() && is_letter(word.front()) && word.back() != '_' &&
           word.find("__") == word.npos &&
           std::ranges::all_of(word, [](char c) { return is_alnum(c) || c == '_'; });
}

bool is_interface_name(std::string_view word) {
    std::size_t parts = 0;
    while (true) {
        const std::size_t dot = word.find('.');
        const std::string_view part = word.substr(0, dot);
        const bool is_begun_well =
            !part.empty() && (parts == 0 ? is_letter(part.front()) : is_alnum(part.front()));
        if (!is_begun_well || part.back() == '-' ||
            !std::ranges::all_of(part, [](char c) { return is_alnum(c) || c == '-'; }))
            return false;
        ++parts;
        if (dot == word.npos) return parts >= 2;
        word.remove_prefix(dot + 1);
    }
}

/// Recursive descent over the grammar of the Varlink specification; nesting is bounded.
class Reader {
public:
    explicit Reader(std::string_view text) : text_(text) {}

    Result<Idl> read() {
        BANGER_TRY(expect_word("interface"));
        Idl idl;
        idl.name = take_while([](char c) { return is_alnum(c) || c == '.' || c == '-'; });
        if (!is_interface_name(idl.name)) return wrong("this is not the name of an interface");
        while (!is_at_end())
            BANGER_TRY(read_member(idl));
        BANGER_TRY(check_references(idl));
        return idl;
    }

private:
    Result<void> read_member(Idl& idl) {
        const std::string word = take_word();
        if (word != "type" && word != "method" && word != "error")
            return wrong("type, method or error is wanted here");
        std::string name = take_word();
        if (!is_type_name(name)) return wrong(quoted(name) + " is not a name for a " + word);
        if (!names_.insert(name).second)
            return wrong("the name " + quoted(name) + " is used twice");
        Shape shape = BANGER_TRY(read_braced(0));
        if (word == "type") {
            idl.types.emplace_back(std::move(name), std::move(shape));
            return {};
        }
        if (shape.kind != Kind::record) return wrong("fields are wanted here, these are words");
        if (word == "error") {
            idl.errors.emplace_back(std::move(name), std::move(shape));
            return {};
        }
        BANGER_TRY(expect("->"));
        Shape out = BANGER_TRY(read_braced(0));
        if (out.kind != Kind::record) return wrong("fields are wanted here, these are words");
        idl.methods.push_back({std::move(name), std::move(shape), std::move(out)});
        return {};
    }

    /// "(a: int, b: ?string)" or "(one, two)"; "()" is a record without fields.
    // NOLINTNEXTLINE(misc-no-recursion)
    Result<Shape> read_braced(std::size_t nested) {
        if (nested > most_nested) return wrong("this is nested too deep");
        BANGER_TRY(expect("("));
        Shape shape{Kind::record, {}, {}, {}};
        if (accept(")")) return shape;
        do {
            std::string name = take_word();
            if (!is_field_name(name)) return wrong(quoted(name) + " is not a name for a field");
            if (std::ranges::find(shape.words, name) != shape.words.end())
                return wrong("the field " + quoted(name) + " is there twice");
            const bool has_type = accept(":");
            if (shape.words.empty() && !has_type) shape.kind = Kind::words;
            if (has_type != (shape.kind == Kind::record))
                return wrong("fields and words are mixed");
            if (has_type) shape.inner.push_back(BANGER_TRY(read_type(nested + 1)));
            shape.words.push_back(std::move(name));
        } while (accept(","));
        BANGER_TRY(expect(")"));
        return shape;
    }

    // NOLINTNEXTLINE(misc-no-recursion)
    Result<Shape> read_type(std::size_t nested) {
        if (nested > most_nested) return wrong("this is nested too deep");
        if (accept("?")) {
            if (peek() == '?') return wrong("one ? is enough");
            Shape inner = BANGER_TRY(read_type(nested + 1));
            return Shape{Kind::maybe, {}, {}, {std::move(inner)}};
        }
        if (accept("[")) {
            const std::string key = take_word();
            if (!key.empty() && key != "string") return wrong("only [string] is a map");
            BANGER_TRY(expect("]"));
            Shape inner = BANGER_TRY(read_type(nested + 1));
            return Shape{key.empty() ? Kind::list : Kind::map, {}, {}, {std::move(inner)}};
        }
        if (peek() == '(') return read_braced(nested + 1);
        return named_type(take_word());
    }

    Result<Shape> named_type(const std::string& word) {
        constexpr std::pair<std::string_view, Kind> plain[] = {{"bool", Kind::boolean},
                                                               {"int", Kind::integer},
                                                               {"float", Kind::number},
                                                               {"string", Kind::text},
                                                               {"object", Kind::any}};
        for (const auto& [name, kind] : plain)
            if (word == name) return Shape{kind, {}, {}, {}};
        if (!is_type_name(word)) return wrong(quoted(word) + " is not a type");
        return Shape{Kind::named, word, {}, {}};
    }

    Result<void> check_references(const Idl& idl) {
        std::set<std::string, std::less<>> types;
        for (const auto& [name, shape] : idl.types)
            types.insert(name);
        for (const auto& [name, shape] : idl.types)
            BANGER_TRY(check_reference(shape, types));
        for (const auto& [name, shape] : idl.errors)
            BANGER_TRY(check_reference(shape, types));
        for (const Idl::Method& method : idl.methods) {
            BANGER_TRY(check_reference(method.in, types));
            BANGER_TRY(check_reference(method.out, types));
        }
        return {};
    }
    // NOLINTNEXTLINE(misc-no-recursion)
    Result<void> check_reference(const Shape& shape,
                                 const std::set<std::string, std::less<>>& types) {
        if (shape.kind == Kind::named && !types.contains(shape.name))
            return Error(Errc::corrupt, "there is no type " + quoted(shape.name));
        for (const Shape& inner : shape.inner)
            BANGER_TRY(check_reference(inner, types));
        return {};
    }

    // ---- characters ----

    void skip_space() {
        while (at_ < text_.size()) {
            const char c = text_[at_];
            if (c == '#') {
                at_ = std::min(text_.find('\n', at_), text_.size());
                continue;
            }
            if (c != ' ' && c != '\t' && c != '\r' && c != '\n') return;
            if (c == '\n') ++line_;
            ++at_;
        }
    }
    bool is_at_end() {
        skip_space();
        return at_ == text_.size();
    }
    char peek() {
        skip_space();
        return at_ < text_.size() ? text_[at_] : '\0';
    }
    bool accept(std::string_view token) {
        skip_space();
        if (!text_.substr(at_).starts_with(token)) return false;
        at_ += token.size();
        return true;
    }
    Result<void> expect(std::string_view token) {
        if (accept(token)) return {};
        return wrong(quoted(token) + " is wanted here");
    }
    Result<void> expect_word(std::string_view word) {
        if (take_word() == word) return {};
        return wrong(quoted(word) + " is wanted here");
    }
    std::string take_word() {
        return take_while([](char c) { return is_alnum(c) || c == '_'; });
    }
    template <class Condition>
    std::string take_while(Condition condition) {
        skip_space();
        const std::size_t begin = at_;
        while (at_ < text_.size() && condition(text_[at_]))
            ++at_;
        return std::string(text_.substr(begin, at_ - begin));
    }
    [[nodiscard]] Error wrong(std::string_view what) const {
        return {Errc::corrupt,
                "line " + std::to_string(line_) + " of a .varlink text: " + std::string(what)};
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::size_t line_ = 1;
    std::set<std::string, std::less<>> names_;
};

/// Compares what the text says with what the code does and notes each difference.
class Comparison {
public:
    Comparison(const Idl& idl, std::vector<std::string>& found) : idl_(idl), found_(found) {}

    // NOLINTNEXTLINE(misc-no-recursion)
    void compare(const Shape& named_text, const Shape& code, const std::string& where) {
        const Shape& text = idl_.resolve(named_text);
        if (text.kind == Kind::text && code.kind == Kind::words) return;
        if (text.kind != code.kind) {
            note(where,
                 "is " + word(text.kind) + " in the text and " + word(code.kind) + " in the code");
            return;
        }
        if (text.words != code.words) {
            note(where, "has (" + join(text.words) + ") in the text and (" + join(code.words) +
                            ") in the code");
            return;
        }
        for (std::size_t i = 0; i < text.inner.size() && i < code.inner.size(); ++i) {
            const bool is_field = text.kind == Kind::record;
            compare(text.inner[i], code.inner[i], is_field ? where + "." + text.words[i] : where);
        }
    }
    void note(const std::string& where, const std::string& what) {
        found_.push_back(where + " " + what);
    }

private:
    static std::string word(Kind kind) {
        constexpr std::string_view words[] = {"bool",     "int",    "float", "string",
                                              "an enum",  "a list", "a map", "a ?",
                                              "a struct", "a name", "object"};
        return std::string(words[static_cast<std::size_t>(kind)]);
    }
    static std::string join(const std::vector<std::string>& words) {
        std::string all;
        for (const std::string& each : words)
            all += (all.empty() ? "" : ", ") + each;
        return all;
    }

    const Idl& idl_;
    std::vector<std::string>& found_;
};

}  // namespace

Result<Idl> Idl::parse(std::string_view text) {
    if (text.size() > most_bytes) return Error(Errc::corrupt, "a .varlink text is too long");
    return Reader(text).read();
}

const Idl::Method* Idl::find_method(std::string_view method) const {
    const auto found = std::ranges::find(methods, method, &Method::name);
    return found == methods.end() ? nullptr : &*found;
}

const Shape& Idl::resolve(const Shape& shape) const {
    if (shape.kind != Kind::named) return shape;
    // A type is a record or an enum, never a name itself, so one step is enough.
    const auto found = std::ranges::find(types, shape.name, &std::pair<std::string, Shape>::first);
    return found == types.end() ? shape : found->second;
}

std::vector<std::string> disagreements(const Interface& interface) {
    std::vector<std::string> found;
    const Result<Idl> idl = Idl::parse(interface.text());
    if (!idl) return {idl.error().message};
    Comparison comparison(*idl, found);
    if (idl->name != interface.name())
        comparison.note(idl->name, "is the name in the text, " + interface.name() + " in the code");
    for (const Interface::Method& method : interface.methods()) {
        const Idl::Method* text = idl->find_method(method.name);
        if (text == nullptr) {
            comparison.note(method.name, "is not in the text");
            continue;
        }
        comparison.compare(text->in, method.in, method.name + "(in)");
        comparison.compare(text->out, method.out, method.name + "(out)");
    }
    for (const Idl::Method& method : idl->methods)
        if (interface.find(method.name) == nullptr) comparison.note(method.name, "has no handler");
    const Shape text{Kind::text, {}, {}, {}};
    const Shape failure{Kind::record, {}, {"code", "message", "remedy"}, {text, text, text}};
    const auto failed =
        std::ranges::find(idl->errors, "Failed", &std::pair<std::string, Shape>::first);
    if (failed == idl->errors.end())
        comparison.note("error Failed", "is not in the text");
    else
        comparison.compare(failed->second, failure, "error Failed");
    return found;
}

}  // namespace banger::rpc
