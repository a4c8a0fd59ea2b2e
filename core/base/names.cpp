#include "core/base/names.hpp"

#include <sys/random.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>

namespace banger {

namespace {

// Short, plain, kind; every pair is a VmName (tested).
constexpr std::string_view adjectives[] = {
    "agile",  "amber", "ample",  "azure",  "bold",   "brave",  "breezy", "bright",
    "brisk",  "calm",  "candid", "cheery", "clear",  "clever", "cosy",   "crisp",
    "daring", "deft",  "eager",  "early",  "easy",   "fair",   "fleet",  "fond",
    "frank",  "fresh", "gentle", "glad",   "golden", "grand",  "green",  "happy",
    "hardy",  "jolly", "keen",   "kind",   "light",  "lively", "loyal",  "lucky",
    "mellow", "merry", "mild",   "misty",  "neat",   "nimble", "noble",  "patient",
    "plucky", "proud", "quick",  "quiet",  "ready",  "robust", "shiny",  "silver",
    "smart",  "snug",  "solid",  "spry",   "steady", "sunny",  "swift",  "tidy",
};
constexpr std::string_view nouns[] = {
    "acorn",   "alder",  "badger",  "beaver", "birch",  "bison",  "bluff",  "brook",
    "canyon",  "cedar",  "clover",  "comet",  "condor", "coral",  "crane",  "delta",
    "dolphin", "dune",   "ember",   "falcon", "fern",   "finch",  "fjord",  "gecko",
    "glade",   "grove",  "harbor",  "hazel",  "heron",  "ibex",   "island", "jasper",
    "kestrel", "lagoon", "lantern", "lark",   "lemur",  "lichen", "lotus",  "lynx",
    "maple",   "marten", "meadow",  "meteor", "moose",  "nebula", "orchid", "otter",
    "panda",   "pebble", "pine",    "puffin", "quail",  "quartz", "raven",  "reef",
    "ridge",   "robin",  "salmon",  "spruce", "tundra", "walnut", "willow", "wren",
};
// Powers of two: a byte masked is uniform.
static_assert(std::size(adjectives) == 64 && std::size(nouns) == 64);

/// Optimal string alignment: insertions, deletions, replacements, swaps of neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before_last(b.size() + 1);
    std::vector<std::size_t> last(b.size() + 1);
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j)
        row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        before_last.swap(last);
        last.swap(row);
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
            const bool is_swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (is_swap) row[j] = std::min(row[j], before_last[j - 2] + 1);
        }
    }
    return row[b.size()];
}

}  // namespace

VmName random_vm_name() {
    unsigned char bytes[2];
    if (::getrandom(bytes, sizeof bytes, 0) != sizeof bytes) std::abort();
    const std::string_view adjective = adjectives[bytes[0] & 63];
    const std::string_view noun = nouns[bytes[1] & 63];
    return VmName::parse(std::string(adjective) + "-" + std::string(noun)).value();
}

std::optional<std::string> nearest_word(std::string_view word,
                                        std::span<const std::string> candidates) {
    // Foreign input: nobody mistypes a word longer than this, and the distance costs its square.
    if (word.empty() || word.size() > 100) return std::nullopt;
    const std::size_t limit = std::max<std::size_t>(1, word.size() / 3);
    const std::string* nearest = nullptr;
    std::size_t nearest_distance = limit + 1;
    for (const std::string& candidate : candidates) {
        if (candidate.size() > word.size() + limit) continue;
        const std::size_t distance = edit_distance(word, candidate);
        if (distance >= nearest_distance) continue;
        nearest = &candidate;
        nearest_distance = distance;
    }
    if (!nearest) return std::nullopt;
    return *nearest;
}

std::string quoted(std::string_view text) {
    std::size_t length = std::min<std::size_t>(text.size(), 80);
    // Never through the middle of a UTF-8 character: the message may become JSON.
    while (length > 0 && length < text.size() && (text[length] & 0xc0) == 0x80)
        --length;
    std::string out = "\"";
    for (const char c : text.substr(0, length))
        out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    if (length < text.size()) out += "…";
    return out + "\"";
}

}  // namespace banger
