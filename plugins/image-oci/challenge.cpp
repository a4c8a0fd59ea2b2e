#include "plugins/image-oci/challenge.hpp"

#include <strings.h>

#include <algorithm>
#include <map>

namespace banger::image_oci {

namespace {

constexpr std::size_t max_header = 8 << 10;

Error malformed(const std::string& why) {
    return {Errc::corrupt, "the registry's WWW-Authenticate header is malformed: " + why,
            "Report this to whoever runs the registry."};
}

bool is_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// RFC 9110, section 5.6.2.
bool is_token_character(char c) {
    return is_alnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

struct IgnoreCase {
    bool operator()(const std::string& left, const std::string& right) const {
        return ::strcasecmp(left.c_str(), right.c_str()) < 0;
    }
};

/// One pass over the header.
class Reader {
public:
    explicit Reader(std::string_view text) : text_(text) {}

    void skip_blanks() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t'))
            ++at_;
    }
    /// Blanks and commas: an empty element of a list is allowed.
    void skip_separators() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == ','))
            ++at_;
    }
    [[nodiscard]] bool is_at_end() const { return at_ == text_.size(); }
    bool take(char c) {
        if (at_ == text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    std::string token() {
        const std::size_t begin = at_;
        while (at_ < text_.size() && is_token_character(text_[at_]))
            ++at_;
        return std::string(text_.substr(begin, at_ - begin));
    }
    Result<std::string> value() {
        if (!take('"')) {
            std::string word = token();
            if (word.empty()) return malformed("a parameter has no value");
            return word;
        }
        std::string value;
        while (at_ < text_.size()) {
            char c = text_[at_++];
            if (c == '"') return value;
            if (c == '\\') {
                if (at_ == text_.size()) break;
                c = text_[at_++];
            }
            if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
                return malformed("it has control characters");
            value += c;
        }
        return malformed("a quote is not closed");
    }
    /// "name=": otherwise what follows is the next scheme, and nothing is taken.
    std::string parameter_name() {
        const std::size_t begin = at_;
        std::string name = token();
        skip_blanks();
        if (!name.empty() && take('=')) {
            skip_blanks();
            return name;
        }
        at_ = begin;
        return "";
    }
    /// Credentials in the form of RFC 7235's token68 ("Negotiate dGVzdA==").
    bool skip_token68() {
        const std::size_t begin = at_;
        while (at_ < text_.size() &&
               (is_alnum(text_[at_]) ||
                std::string_view("-._~+/").find(text_[at_]) != std::string_view::npos))
            ++at_;
        const bool has_text = at_ > begin;
        while (take('='))
            continue;
        skip_blanks();
        if (has_text && (is_at_end() || text_[at_] == ',')) return true;
        at_ = begin;
        return false;
    }

private:
    std::string_view text_;
    std::size_t at_ = 0;
};

using Parameters = std::map<std::string, std::string, IgnoreCase>;

Result<Parameters> read_parameters(Reader& reader) {
    Parameters parameters;
    for (;;) {
        reader.skip_separators();
        const std::string name = reader.parameter_name();
        if (name.empty()) return parameters;
        std::string value = BANGER_TRY(reader.value());
        if (!parameters.emplace(name, std::move(value)).second)
            return malformed("a parameter is there twice");
    }
}

}  // namespace

Result<std::vector<Challenge>> parse_challenges(std::string_view header) {
    if (header.size() > max_header) return malformed("it is too long");
    std::vector<Challenge> challenges;
    Reader reader(header);
    for (reader.skip_separators(); !reader.is_at_end(); reader.skip_separators()) {
        const std::string scheme = reader.token();
        if (scheme.empty()) return malformed("it has no scheme");
        reader.skip_blanks();
        const bool is_bearer = ::strcasecmp(scheme.c_str(), "bearer") == 0;
        const bool is_basic = ::strcasecmp(scheme.c_str(), "basic") == 0;
        if (!is_bearer && !is_basic && reader.skip_token68()) continue;
        Parameters parameters = BANGER_TRY(read_parameters(reader));
        if (!is_bearer && !is_basic) continue;
        Challenge challenge;
        challenge.scheme = is_bearer ? Challenge::Scheme::bearer : Challenge::Scheme::basic;
        challenge.realm = parameters["realm"];
        challenge.service = parameters["service"];
        challenge.scope = parameters["scope"];
        if (is_bearer && challenge.realm.empty()) return malformed("Bearer has no realm");
        challenges.push_back(std::move(challenge));
    }
    return challenges;
}

std::optional<Challenge> choose_challenge(const std::vector<Challenge>& challenges) {
    for (const Challenge::Scheme scheme : {Challenge::Scheme::bearer, Challenge::Scheme::basic})
        if (const auto found = std::ranges::find(challenges, scheme, &Challenge::scheme);
            found != challenges.end())
            return *found;
    return std::nullopt;
}

std::string query_escape(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        if (is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~') {
            escaped += c;
            continue;
        }
        const auto byte = static_cast<unsigned char>(c);
        escaped += '%';
        escaped += "0123456789ABCDEF"[byte >> 4];
        escaped += "0123456789ABCDEF"[byte & 15];
    }
    return escaped;
}

}  // namespace banger::image_oci
