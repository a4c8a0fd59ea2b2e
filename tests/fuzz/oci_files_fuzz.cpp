#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "plugins/image-oci/documents.hpp"
#include "plugins/image-oci/tar_index.hpp"
#include "tests/fuzz/require.hpp"

/// Whatever lies in an archive, a layout or the file of logins is taken or refused with a remedy;
/// an entry of an archive lies within it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace banger;
    using namespace banger::image_oci;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    static_cast<void>(parse_archive_manifest(text));
    static_cast<void>(parse_layout_index(text));
    static_cast<void>(check_layout_file(text));
    static_cast<void>(parse_helper_reply(text));
    const Result<DockerConfig> config = parse_docker_config(text);
    require(config || is_plain(config.error().message));

    static const UniqueFd file(::memfd_create("archive", MFD_CLOEXEC));
    require(::ftruncate(file.get(), 0) == 0);
    require(::pwrite(file.get(), data, size, 0) == static_cast<ssize_t>(size));
    const Result<TarIndex> index = TarIndex::read(file);
    if (!index) {
        require(!index.error().remedy.empty());
        return 0;
    }
    for (const char* name : {"index.json", "manifest.json", "a", "layer.tar"})
        if (const TarIndex::Entry* entry = index->find(name))
            require(entry->offset <= size && entry->size <= size - entry->offset);
    return 0;
}
