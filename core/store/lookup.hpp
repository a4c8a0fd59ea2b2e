#pragma once

#include <span>
#include <string>
#include <string_view>

#include "banger/result.hpp"

/// Finding a thing by what a user typed. Internal to core/store.
namespace banger {

struct Candidate {
    std::string id;
    std::string name;
    std::string reference = {};  ///< another full spelling; empty: none
    std::string asked_as = {};   ///< one more
};

/// What is looked for, for the sentences.
struct LookupWords {
    std::string_view thing;  ///< "machine"
    std::string_view list;   ///< "banger vm list"
};

/// The id of the one that `text` names: its id, name or reference, or the beginning of its id
/// alone, tried in this order. Errc::not_found and Errc::invalid_argument as Store::find_machine().
Result<std::string> look_up(std::string_view text, std::span<const Candidate> candidates,
                            const LookupWords& words);

}  // namespace banger
