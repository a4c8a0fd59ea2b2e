#include "core/images/bundle_format.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "core/rpc/role_fields.hpp"

template <>
struct banger::rpc::Fields<banger::images::BundleFile> {
    using T = banger::images::BundleFile;
    static constexpr auto list = fields(field("name", &T::name), field("size", &T::size),
                                        field("stored", &T::stored), field("digest", &T::digest));
};

template <>
struct banger::rpc::Fields<banger::images::BundleManifest> {
    using T = banger::images::BundleManifest;
    static constexpr auto list = fields(
        field("version", &T::version), field("kind", &T::kind), field("name", &T::name),
        field("distro", &T::distro), field("architecture", &T::architecture),
        field("description", &T::description), field("kernel_reference", &T::kernel_reference),
        field("kernel_version", &T::kernel_version), field("run_config", &T::run_config),
        field("files", &T::files));
};

namespace banger::images {

namespace {

// The fields of a ustar header: POSIX.1-2017, pax, "ustar Interchange Format".
constexpr std::size_t size_at = 124;
constexpr std::size_t size_length = 12;
constexpr std::size_t checksum_at = 148;
constexpr std::uint64_t first_too_large_for_octal = std::uint64_t{1} << 33;

void put_octal(std::string& header, std::size_t at, int digits, std::uint64_t value) {
    for (int i = digits - 1; i >= 0; --i, value >>= 3)
        header[at + static_cast<std::size_t>(i)] = static_cast<char>('0' + (value & 7));
}

std::string header_of(std::string_view name, std::uint64_t size, char type) {
    std::string header(tar_block, '\0');
    name.copy(header.data(), 100);
    put_octal(header, 100, 7, 0644);
    put_octal(header, 108, 7, 0);
    put_octal(header, 116, 7, 0);
    if (size < first_too_large_for_octal) {
        put_octal(header, size_at, 11, size);
    } else {
        header[size_at] = static_cast<char>(0x80);
        for (std::size_t i = size_length - 1; i > 0; --i, size >>= 8)
            header[size_at + i] = static_cast<char>(size & 0xff);
    }
    put_octal(header, 136, 11, 0);
    header[156] = type;
    std::memcpy(&header[257],
                "ustar\0"
                "00",
                8);
    std::memset(&header[checksum_at], ' ', 8);
    std::uint64_t sum = 0;
    for (const char c : header)
        sum += static_cast<unsigned char>(c);
    put_octal(header, checksum_at, 6, sum);
    header[checksum_at + 6] = '\0';
    return header;
}

/// "LENGTH KEY=VALUE\n", where LENGTH counts its own digits too.
std::string pax_record(std::string_view key, std::string_view value) {
    const std::size_t rest = key.size() + value.size() + 3;
    std::size_t length = rest + 1;
    while (std::to_string(length).size() + rest != length)
        ++length;
    std::string record = std::to_string(length);
    record.append(" ").append(key).append("=").append(value).append("\n");
    return record;
}

std::string padded(std::string text) {
    text.append(padding_of(text.size()), '\0');
    return text;
}

constexpr std::array<BundleMember, 1> image_members{
    {{"rootfs.ext4", true, &BundleLimits::root_file_system}}};
constexpr std::array<BundleMember, 3> kernel_members{
    {{"vmlinux", false, &BundleLimits::vmlinux},
     {"initramfs.img", false, &BundleLimits::initramfs},
     {"modules.ext4", true, &BundleLimits::modules}}};

Result<void> check_text(std::string_view field, std::string_view text, std::size_t most) {
    const bool is_plain =
        std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (is_plain && text.size() <= most) return ok();
    return Error(Errc::corrupt,
                 "manifest.json: " + std::string(field) + " is too long or has control characters");
}

Result<void> check_run_config(const RunConfig& config) {
    std::size_t bytes = config.working_folder.size() + config.user.size();
    const auto count = [&](const std::vector<std::string>& words) {
        for (const std::string& word : words)
            bytes += word.size() + 1;
    };
    count(config.environment);
    count(config.entrypoint);
    count(config.command);
    // What execve(2) takes is less than this.
    if (bytes > (std::size_t{256} << 10))
        return Error(Errc::corrupt, "manifest.json: run_config is too long");
    return ok();
}

}  // namespace

std::span<const BundleMember> bundle_members(ArtifactKind kind) {
    if (kind == ArtifactKind::image) return image_members;
    return kernel_members;
}

std::uint64_t padding_of(std::uint64_t size) { return (tar_block - size % tar_block) % tar_block; }

std::string plain_header(std::string_view name, std::uint64_t size) {
    return header_of(name, size, '0');
}

std::string sparse_headers(std::string_view name, ByteCount size, std::uint64_t member_size) {
    const std::string records = pax_record("GNU.sparse.major", "1") +
                                pax_record("GNU.sparse.minor", "0") +
                                pax_record("GNU.sparse.name", name) +
                                pax_record("GNU.sparse.realsize", std::to_string(size.count()));
    return header_of("PaxHeaders.0/" + std::string(name), records.size(), 'x') + padded(records) +
           header_of("GNUSparseFile.0/" + std::string(name), member_size, '0');
}

std::string sparse_map(std::span<const Extent> extents) {
    std::string map = std::to_string(extents.size()) + "\n";
    for (const Extent& extent : extents)
        map += std::to_string(extent.offset) + "\n" + std::to_string(extent.length) + "\n";
    return map;
}

std::optional<std::uint64_t> read_size_field(std::string_view header) {
    const std::string_view field = header.substr(size_at, size_length);
    std::uint64_t size = 0;
    if (static_cast<unsigned char>(field[0]) == 0x80) {
        for (std::size_t i = 1; i < field.size(); ++i) {
            if (size >> 55 != 0) return std::nullopt;
            size = size << 8 | static_cast<unsigned char>(field[i]);
        }
        return size;
    }
    for (const char c : field.substr(0, 11)) {
        if (c < '0' || c > '7') return std::nullopt;
        size = size << 3 | static_cast<std::uint64_t>(c - '0');
    }
    return size;
}

std::string encode_bundle_manifest(const BundleManifest& manifest) {
    return rpc::encode(manifest).pretty_text() + "\n";
}

Result<BundleManifest> decode_bundle_manifest(std::string_view text) {
    const std::string remedy = "The bundle was not made by `banger image publish`, or is damaged.";
    const auto refused = [&](Error error) {
        return Error(Errc::corrupt, std::move(error.message), remedy);
    };
    Result<rpc::Json> json =
        rpc::Json::parse(text, {.bytes = max_bundle_manifest.count(), .depth = 8});
    if (!json) return refused(json.error().context("reading manifest.json"));
    // First the version, so that a later one is told apart from a damaged one.
    const rpc::Json* version = json->find("version");
    const std::int64_t* number = version ? version->if_integer() : nullptr;
    if (number && *number > std::int64_t{bundle_version})
        return Error(Errc::unsupported,
                     "the bundle has version " + std::to_string(*number) +
                         "; this banger reads version " + std::to_string(bundle_version),
                     "Use a newer banger.");
    Result<BundleManifest> manifest = rpc::decode<BundleManifest>(*json, "manifest.json");
    if (!manifest) return refused(manifest.error());
    if (manifest->version != bundle_version)
        return refused({Errc::corrupt, "manifest.json: there is no such version"});
    const bool is_image = manifest->kind == ArtifactKind::image;
    for (const Result<void>& checked :
         {check_text("distro", manifest->distro, 64),
          check_text("architecture", manifest->architecture, 32),
          check_text("description", manifest->description, 1024),
          check_text("kernel_reference", manifest->kernel_reference, 256),
          check_text("kernel_version", manifest->kernel_version, 128),
          check_run_config(manifest->run_config)})
        if (!checked) return refused(checked.error());
    if (is_image && !manifest->kernel_version.empty())
        return refused({Errc::corrupt, "manifest.json: an image has no kernel_version"});
    if (!is_image && (manifest->kernel_version.empty() || !manifest->kernel_reference.empty() ||
                      manifest->run_config != RunConfig{}))
        return refused({Errc::corrupt,
                        "manifest.json: a kernel has a kernel_version, and neither "
                        "kernel_reference nor run_config"});
    const std::span<const BundleMember> members = bundle_members(manifest->kind);
    const bool is_complete = std::ranges::equal(
        manifest->files, members, [](const BundleFile& file, const BundleMember& member) {
            return file.name == member.name;
        });
    if (!is_complete)
        return refused({Errc::corrupt, "manifest.json: files are not exactly those of " +
                                           std::string(is_image ? "an image" : "a kernel") +
                                           ", in their order"});
    return manifest;
}

std::string bundle_file_name(const ArtifactName& name, const Digest& digest) {
    return name.str() + "-" + std::string(digest.hex().substr(0, 12)) + ".tar.zst";
}

}  // namespace banger::images
