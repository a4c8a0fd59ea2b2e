#include "core/vms/publisher.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "core/base/file.hpp"
#include "core/base/rollback.hpp"
#include "core/images/disk_bytes.hpp"
#include "core/vms/states.hpp"

namespace banger {

namespace {

using images::BundleManifest;
using images::DiskBytes;
using images::Extent;

/// More would only compete for the same disk.
constexpr unsigned most_threads = 8;
/// What a private key must be at least to be looked for.
constexpr std::size_t shortest_secret = 64;

/// A disk in which a secret reads as zeros wherever a block begins with it, in use or not: files
/// begin at blocks, so no file system needs to be understood for that.
class Blanked final : public DiskBytes {
public:
    Blanked(DiskBytes& disk, std::string secret) : disk_(disk), secret_(std::move(secret)) {}
    [[nodiscard]] ByteCount size() const override { return disk_.size(); }
    Result<std::optional<Extent>> next_data(std::uint64_t offset) override {
        return disk_.next_data(offset);
    }
    Result<void> read(std::uint64_t offset, std::span<std::byte> into) override {
        BANGER_TRY(disk_.read(offset, into));
        if (secret_.size() < shortest_secret) return ok();
        constexpr std::uint64_t smallest_block = 1024;
        const std::uint64_t first = (smallest_block - offset % smallest_block) % smallest_block;
        for (std::uint64_t at = first; at < into.size(); at += smallest_block) {
            const std::size_t length = std::min(into.size() - at, secret_.size());
            if (std::memcmp(&into[at], secret_.data(), length) == 0)
                std::memset(&into[at], 0, length);
        }
        return ok();
    }

private:
    DiskBytes& disk_;
    std::string secret_;
};

/// A disk may be larger than its file system, when it was never booted since it grew.
Result<std::unique_ptr<DiskBytes>> file_system_of(DiskBytes& disk, const std::string& whose) {
    const ByteCount size = BANGER_TRY(images::ext4_size(disk).context("looking at " + whose));
    return images::part_of_disk(disk, size);
}

/// A word that a catalog takes.
std::string word_or(const std::string& text, const std::string& otherwise) {
    const bool is_word =
        !text.empty() && text.size() <= 32 && std::ranges::all_of(text, [](unsigned char c) {
            return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '-' || c == '.';
        });
    return is_word ? text : otherwise;
}

/// Plain where YAML reads it as the text it is, else in quotes.
std::string yaml_text(const std::string& text) {
    std::string quoted = "\"";
    bool is_plain = !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) != 0 &&
                    text.back() != ' ';
    for (const char c : text) {
        if (std::isalnum(static_cast<unsigned char>(c)) == 0 &&
            std::strchr(" .,-+()/_", c) == nullptr)
            is_plain = false;
        if (c == '"' || c == '\\') quoted += '\\';
        quoted += c;
    }
    // Words that YAML takes for something else.
    for (const char* special : {"true", "false", "yes", "no", "null", "on", "off"})
        if (::strcasecmp(text.c_str(), special) == 0) is_plain = false;
    return is_plain ? text : quoted + "\"";
}

/// One printable line: what a manifest and a catalog take.
std::string one_line(std::string text) {
    std::erase_if(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    return text.substr(0, 1000);
}

}  // namespace

Publisher::Publication::~Publication() {
    if (!path_.empty()) (void)remove_file(path_);
}

std::string Publisher::Publication::file_name() const {
    return images::bundle_file_name(bundle_.manifest.name, bundle_.digest);
}

std::string Publisher::Publication::catalog_entry() const {
    const BundleManifest& manifest = bundle_.manifest;
    const bool is_image = manifest.kind == ArtifactKind::image;
    std::string entry = "  - name: " + manifest.name.str() + "\n";
    entry += "    distro: " + word_or(manifest.distro, "linux") + "\n";
    entry += "    arch: " + word_or(manifest.architecture, "amd64") + "\n";
    entry += "    description: " +
             yaml_text(manifest.description.empty() ? manifest.name.str() : manifest.description) +
             "\n";
    if (is_image && !manifest.kernel_reference.empty())
        entry += "    kernel: " + manifest.kernel_reference + "\n";
    entry += "    bundle:\n      url: " + file_name() + "\n";
    entry += "      sha256: " + std::string(bundle_.digest.hex()) + "\n";
    entry += "      size: " + std::to_string(bundle_.size.count()) + "\n";
    return entry;
}

Result<void> Publisher::recover() {
    BANGER_TRY(ensure_folder(parts_.folder, 0700));
    ErrorCollector errors;
    for (const std::string& name : BANGER_TRY(list_folder(parts_.folder)))
        errors.add(remove_tree(parts_.folder + "/" + name));
    return errors.result();
}

Result<Publisher::Publication> Publisher::write(BundleManifest manifest,
                                                std::span<DiskBytes* const> files, Call& call) {
    BANGER_TRY(ensure_folder(parts_.folder, 0700));
    const std::string path = parts_.folder + "/" + VmId::random().str() + ".tar.zst";
    Rollback rollback({});
    rollback.add("removing " + path, [&] { return remove_file(path); });
    const UniqueFd target(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!target) return Error::from_errno(errno, "making " + path);
    const std::string stage = "packing " + manifest.name.str();
    images::BundleWriteOptions options;
    options.threads = std::clamp(std::thread::hardware_concurrency(), 1U, most_threads);
    options.on_progress = [&](std::uint64_t done, std::uint64_t total) {
        call.report({stage, done, total, Progress::Unit::bytes});
    };
    Result<images::WrittenBundle> written =
        images::write_bundle(std::move(manifest), files, target, options, call.stop());
    if (!written && written.error().code == Errc::no_space)
        written.error().remedy = "Free some space in " + parts_.folder + ".";
    images::WrittenBundle bundle = BANGER_TRY(std::move(written));
    if (::fsync(target.get()) != 0) return Error::from_errno(errno, "writing " + path);
    rollback.commit();
    return Publication(path, std::move(bundle));
}

Result<Publisher::Publication> Publisher::image(const std::string& name, const Wishes& wishes,
                                                Call& call) {
    const ImageRecord image = BANGER_TRY(parts_.store.find_image(name));
    // Open, so that it may be deleted meanwhile.
    const UniqueFd file = BANGER_TRY(parts_.images.open_root_file_system(image));
    const std::unique_ptr<DiskBytes> disk = BANGER_TRY(images::open_raw_disk(file, image.size));
    const std::unique_ptr<DiskBytes> part = BANGER_TRY(file_system_of(*disk, image.name.str()));
    DiskBytes* const files[] = {part.get()};
    return write({.kind = ArtifactKind::image,
                  .name = wishes.name.value_or(image.name),
                  .distro = image.distro,
                  .architecture = image.architecture,
                  .description = one_line(wishes.description.value_or(image.description)),
                  .kernel_reference = image.kernel_reference,
                  .kernel_version = {},
                  .run_config = image.run_config,
                  .files = {}},
                 files, call);
}

Result<Publisher::Publication> Publisher::kernel(const std::string& name, const Wishes& wishes,
                                                 Call& call) {
    const KernelRecord kernel = BANGER_TRY(parts_.store.find_kernel(name));
    const ImageStore::OpenKernel open = BANGER_TRY(parts_.images.open_kernel(kernel));
    const UniqueFd modules = BANGER_TRY(open_read(open.modules_path));
    std::vector<std::unique_ptr<DiskBytes>> disks;
    disks.push_back(BANGER_TRY(images::open_raw_disk(open.vmlinux, {})));
    disks.push_back(BANGER_TRY(images::open_raw_disk(open.initramfs, {})));
    const std::unique_ptr<DiskBytes> whole = BANGER_TRY(images::open_raw_disk(modules, {}));
    disks.push_back(BANGER_TRY(file_system_of(*whole, "the modules of " + kernel.name.str())));
    DiskBytes* const files[] = {disks[0].get(), disks[1].get(), disks[2].get()};
    return write({.kind = ArtifactKind::kernel,
                  .name = wishes.name.value_or(kernel.name),
                  .distro = {},
                  .architecture = kernel.architecture,
                  .description = one_line(wishes.description.value_or(kernel.description)),
                  .kernel_reference = {},
                  .kernel_version = kernel.version,
                  .run_config = {},
                  .files = {}},
                 files, call);
}

Result<Publisher::Publication> Publisher::machine(const std::string& vm, const Wishes& wishes,
                                                  Call& call) {
    std::optional<Publication> publication;
    BANGER_TRY(parts_.machines.read_root_disk(
        vm, call,
        [&](const VmRecord& record, const std::string& host_key, DiskBytes& disk) -> Result<void> {
            const ImageRecord image = BANGER_TRY(parts_.store.find_image(record.image_id));
            const std::unique_ptr<DiskBytes> part =
                BANGER_TRY(file_system_of(disk, "the root disk of " + record.name.str()));
            Blanked blanked(*part, host_key);
            DiskBytes* const files[] = {&blanked};
            const ArtifactName name =
                wishes.name ? *wishes.name : BANGER_TRY(ArtifactName::parse(record.name.str()));
            const std::string description =
                wishes.description.value_or("made from a machine of " + image.name.str());
            publication.emplace(BANGER_TRY(write({.kind = ArtifactKind::image,
                                                  .name = name,
                                                  .distro = image.distro,
                                                  .architecture = image.architecture,
                                                  .description = one_line(description),
                                                  .kernel_reference = image.kernel_reference,
                                                  .kernel_version = {},
                                                  .run_config = image.run_config,
                                                  .files = {}},
                                                 files, call)));
            return ok();
        }));
    return *std::move(publication);
}

}  // namespace banger
