#include "core/images/unpack.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <memory>

#include "banger/values.hpp"

namespace banger::images {

namespace {

using Reader = std::unique_ptr<archive, decltype(&archive_read_free)>;

Error failed(archive* reader) {
    const char* why = archive_error_string(reader);
    return {Errc::corrupt, std::string("packed data is damaged: ") + (why ? why : "unknown")};
}

bool add_filters(archive* reader) {
    // One by one, because "all" would run programs of the host for some formats.
    return archive_read_support_filter_gzip(reader) == ARCHIVE_OK &&
           archive_read_support_filter_xz(reader) == ARCHIVE_OK &&
           archive_read_support_filter_lzma(reader) == ARCHIVE_OK &&
           archive_read_support_filter_lz4(reader) == ARCHIVE_OK &&
           archive_read_support_filter_zstd(reader) == ARCHIVE_OK &&
           archive_read_support_filter_bzip2(reader) == ARCHIVE_OK &&
           archive_read_support_format_raw(reader) == ARCHIVE_OK;
}

}  // namespace

Result<std::string> unpack(std::string_view packed, std::size_t limit) {
    const Reader reader(archive_read_new(), archive_read_free);
    if (!reader || !add_filters(reader.get()))
        return Error(Errc::internal, "libarchive lacks a compression that banger needs");
    archive_entry* entry = nullptr;
    if (archive_read_open_memory(reader.get(), packed.data(), packed.size()) != ARCHIVE_OK ||
        archive_read_next_header(reader.get(), &entry) != ARCHIVE_OK)
        return failed(reader.get());
    if (archive_filter_code(reader.get(), 0) == ARCHIVE_FILTER_NONE)
        return Error(Errc::unsupported, "packed in a way that banger does not know");
    std::string content;
    while (true) {
        const void* block = nullptr;
        std::size_t size = 0;
        la_int64_t offset = 0;
        const int status = archive_read_data_block(reader.get(), &block, &size, &offset);
        if (status == ARCHIVE_EOF) return content;
        if (status != ARCHIVE_OK) return failed(reader.get());
        if (size > limit - content.size())
            return Error(Errc::corrupt,
                         "packed data holds more than " + ByteCount::bytes(limit).text());
        content.append(static_cast<const char*>(block), size);
    }
}

}  // namespace banger::images
