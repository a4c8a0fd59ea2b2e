#include "core/store/records.hpp"

#include <iterator>

namespace banger {

namespace {

// Also the spelling in the database: a landed word is never changed.
constexpr std::string_view vm_state_words[] = {"created",  "starting", "running", "paused",
                                               "stopping", "stopped",  "error",   "deleting"};
constexpr std::string_view artifact_state_words[] = {"pulling", "ready"};
constexpr std::string_view operation_outcome_words[] = {"running", "succeeded", "failed",
                                                        "cancelled", "interrupted"};
constexpr std::string_view resource_kind_words[] = {"link",   "volume", "process",
                                                    "record", "file",   "activation"};

static_assert(std::size(vm_state_words) == static_cast<std::size_t>(VmState::deleting) + 1);
static_assert(std::size(artifact_state_words) ==
              static_cast<std::size_t>(ArtifactState::ready) + 1);
static_assert(std::size(operation_outcome_words) ==
              static_cast<std::size_t>(OperationOutcome::interrupted) + 1);
static_assert(std::size(resource_kind_words) ==
              static_cast<std::size_t>(ResourceKind::activation) + 1);

template <class Enum, std::size_t N>
std::string_view word_of(const std::string_view (&words)[N], Enum value) {
    return words[static_cast<std::size_t>(value)];
}

template <class Enum, std::size_t N>
std::optional<Enum> value_of(const std::string_view (&words)[N], std::string_view word) {
    for (std::size_t i = 0; i < N; ++i)
        if (words[i] == word) return static_cast<Enum>(i);
    return std::nullopt;
}

}  // namespace

std::string_view to_string(VmState state) { return word_of(vm_state_words, state); }
std::optional<VmState> parse_vm_state(std::string_view word) {
    return value_of<VmState>(vm_state_words, word);
}

std::string_view to_string(ArtifactState state) { return word_of(artifact_state_words, state); }
std::optional<ArtifactState> parse_artifact_state(std::string_view word) {
    return value_of<ArtifactState>(artifact_state_words, word);
}

std::string_view to_string(OperationOutcome outcome) {
    return word_of(operation_outcome_words, outcome);
}
std::optional<OperationOutcome> parse_operation_outcome(std::string_view word) {
    return value_of<OperationOutcome>(operation_outcome_words, word);
}

std::string_view to_string(ResourceKind kind) { return word_of(resource_kind_words, kind); }
std::optional<ResourceKind> parse_resource_kind(std::string_view word) {
    return value_of<ResourceKind>(resource_kind_words, word);
}

}  // namespace banger
