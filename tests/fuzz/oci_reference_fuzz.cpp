#include <cstddef>
#include <cstdint>

#include "plugins/image-oci/reference.hpp"
#include "tests/fuzz/require.hpp"

/// Whatever a user types is a reference that can be asked for again and has a name for the store,
/// or an error with a remedy that is safe on a terminal.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace banger;
    using namespace banger::image_oci;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Result<Reference> reference = parse_reference(text, "docker.io");
    if (!reference) {
        require(reference.error().code == Errc::not_found || !reference.error().remedy.empty());
        require(is_plain(reference.error().message) && is_plain(reference.error().remedy));
        return 0;
    }
    const std::string canonical =
        std::visit([](const auto& each) { return each.text(); }, *reference);
    const Result<Reference> again = parse_reference(canonical, "docker.io");
    require(again && *again == *reference);
    require(ArtifactName::parse(suggested_name(*reference)).has_value());
    return 0;
}
