#include "core/store/lookup.hpp"

#include <optional>
#include <vector>

#include "core/base/names.hpp"

namespace banger {

namespace {

Error not_found(std::string_view text, std::span<const Candidate> candidates,
                const LookupWords& words) {
    std::vector<std::string> names;
    for (const Candidate& candidate : candidates)
        names.push_back(candidate.name);
    std::string remedy = "See `" + std::string(words.list) + "`.";
    if (const std::optional<std::string> nearest = nearest_word(text, names))
        remedy = "Did you mean " + quoted(*nearest) + "? " + remedy;
    return {Errc::not_found, "there is no " + std::string(words.thing) + " " + quoted(text),
            remedy};
}

Error ambiguous(std::string_view text, const std::vector<const Candidate*>& matches) {
    constexpr std::size_t shown = 10;
    std::string list;
    for (std::size_t i = 0; i < matches.size() && i < shown; ++i)
        list += (i == 0 ? "" : ", ") + matches[i]->name + " (" + matches[i]->id + ")";
    if (matches.size() > shown) list += ", …";
    return {Errc::invalid_argument, quoted(text) + " begins the ids of " + list,
            "Write more of the id, or the name."};
}

}  // namespace

Result<std::string> look_up(std::string_view text, std::span<const Candidate> candidates,
                            const LookupWords& words) {
    if (text.empty())
        return Error(Errc::invalid_argument,
                     "an empty name stands for no " + std::string(words.thing),
                     "See `" + std::string(words.list) + "`.");
    for (const Candidate& candidate : candidates)
        if (candidate.id == text) return candidate.id;
    for (const Candidate& candidate : candidates)
        if (candidate.name == text) return candidate.id;
    for (const Candidate& candidate : candidates)
        if (candidate.reference == text) return candidate.id;
    for (const Candidate& candidate : candidates)
        if (candidate.asked_as == text) return candidate.id;
    std::vector<const Candidate*> matches;
    for (const Candidate& candidate : candidates)
        if (candidate.id.starts_with(text)) matches.push_back(&candidate);
    if (matches.empty()) return not_found(text, candidates, words);
    if (matches.size() > 1) return ambiguous(text, matches);
    return matches.front()->id;
}

}  // namespace banger
