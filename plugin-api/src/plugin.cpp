#include "banger/plugin.hpp"

#include <algorithm>
#include <cstring>

#include "words.hpp"

namespace banger {

namespace {
constexpr std::string_view role_words[] = {"network", "dns", "storage", "image-source",
                                           "vm-backend"};
constexpr std::string_view link_kind_words[] = {"tap", "user"};
constexpr std::string_view volume_role_words[] = {"root", "work"};
constexpr std::string_view disk_format_words[] = {"raw", "qcow2"};
constexpr std::string_view artifact_kind_words[] = {"image", "kernel"};
constexpr std::string_view part_format_words[] = {"tar-layer", "ext4", "bundle", "kernel-tree"};
}  // namespace

std::string_view to_string(Role role) { return word_of(role_words, role); }
std::optional<Role> parse_role(std::string_view word) { return value_of<Role>(role_words, word); }

std::string_view to_string(LinkKind kind) { return word_of(link_kind_words, kind); }
std::optional<LinkKind> parse_link_kind(std::string_view word) {
    return value_of<LinkKind>(link_kind_words, word);
}

std::string_view to_string(VolumeRole role) { return word_of(volume_role_words, role); }
std::optional<VolumeRole> parse_volume_role(std::string_view word) {
    return value_of<VolumeRole>(volume_role_words, word);
}

std::string_view to_string(DiskFormat format) { return word_of(disk_format_words, format); }
std::optional<DiskFormat> parse_disk_format(std::string_view word) {
    return value_of<DiskFormat>(disk_format_words, word);
}

std::string_view to_string(ArtifactKind kind) { return word_of(artifact_kind_words, kind); }
std::optional<ArtifactKind> parse_artifact_kind(std::string_view word) {
    return value_of<ArtifactKind>(artifact_kind_words, word);
}

std::string_view to_string(PartFormat format) { return word_of(part_format_words, format); }
std::optional<PartFormat> parse_part_format(std::string_view word) {
    return value_of<PartFormat>(part_format_words, word);
}

namespace detail {
void copy_message(std::string_view text, char* message, std::size_t capacity) {
    if (capacity == 0) return;
    const std::size_t length = std::min(text.size(), capacity - 1);
    std::memcpy(message, text.data(), length);
    message[length] = '\0';
}
}  // namespace detail

}  // namespace banger
