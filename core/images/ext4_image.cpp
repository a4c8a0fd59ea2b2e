#include "core/images/ext4_image.hpp"

namespace banger::images {

Result<Ext4Summary> write_ext4_from_layers(std::span<const UniqueFd>, const UniqueFd&,
                                           const Ext4Options&, std::stop_token) {
    return Error(Errc::unsupported, "ext4 images are not written yet");
}

Result<void> make_empty_ext4(const UniqueFd&, const EmptyExt4&) {
    return Error(Errc::unsupported, "ext4 images are not written yet");
}

}  // namespace banger::images
