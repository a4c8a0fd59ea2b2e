#include "core/images/image_store.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <span>
#include <thread>
#include <utility>

#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/base/rollback.hpp"
#include "core/images/bundle.hpp"
#include "core/images/ext4_image.hpp"
#include "core/images/kernel_tree.hpp"

namespace banger {

namespace {

constexpr std::string_view root_file_system = "rootfs.ext4";
constexpr std::string_view partial_suffix = ".partial";
/// A redirect leads to a recipe; a chain of them is a mistake or a trap.
constexpr int max_redirects = 4;
/// The default of system_overlay_size. The file is sparse.
constexpr ByteCount usual_root_size = ByteCount::gib(8);

UnixTime now() {
    return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
}

std::string new_artifact_id() { return VmId::random().str(); }

/// A call inside a call: ends with the outer one, and can be ended alone when its reader fails.
class InnerCall final : public Call {
public:
    explicit InnerCall(Call& outer)
        : outer_(outer), on_stop_(outer.stop(), [this] { source_.request_stop(); }) {}
    [[nodiscard]] std::stop_token stop() const override { return source_.get_token(); }
    void report(const Progress& progress) override { outer_.report(progress); }
    void end() { source_.request_stop(); }

private:
    Call& outer_;
    std::stop_source source_;
    std::stop_callback<std::function<void()>> on_stop_;
};

/// The parts of an artifact, each on its way through a pipe: one thread a part fetches, the reader
/// takes them in order.
class PartStreams {
public:
    PartStreams(ImageSource& source, const ArtifactManifest& manifest, Call& call)
        : source_(source), manifest_(manifest), call_(call) {}
    ~PartStreams() {
        call_.end();
        readers_.clear();  // a writer that waits in write(2) gets EPIPE
    }

    Result<void> open() {
        results_.resize(manifest_.parts.size(), Result<void>(Error(Errc::internal, "not fetched")));
        for (std::size_t part = 0; part < manifest_.parts.size(); ++part) {
            int ends[2];
            if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
            readers_.emplace_back(ends[0]);
            // 1 MiB: fewer switches between two threads. A refusal (a limit of the user) costs
            // speed.
            (void)::fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
            threads_.emplace_back([this, part, sink = UniqueFd(ends[1])]() mutable {
                results_[part] = source_.fetch(manifest_, part, 0, sink, call_);
                sink.reset();
            });
        }
        return ok();
    }
    [[nodiscard]] const std::vector<UniqueFd>& readers() const { return readers_; }

    /// Closes the pipes, waits for the threads, and tells what went wrong first. When reading
    /// failed, the fetch that ended early is the cause and the reader's complaint its consequence,
    /// unless the fetch was only told to stop.
    Result<void> finish(Result<void> read) {
        if (!read) call_.end();
        readers_.clear();
        threads_.clear();
        for (const Result<void>& fetched : results_)
            if (!fetched && (read || fetched.error().code != Errc::cancelled)) return fetched;
        return read;
    }

private:
    ImageSource& source_;
    const ArtifactManifest& manifest_;
    InnerCall call_;
    std::vector<UniqueFd> readers_;
    std::vector<Result<void>> results_;
    std::vector<std::jthread> threads_;
};

Result<void> sync_file(const UniqueFd& fd, const std::string& what) {
    if (::fsync(fd.get()) == 0) return ok();
    return Error::from_errno(errno, "fsync " + what);
}

/// SHA-256 and length of what was fetched, against what the manifest promises.
Result<void> verify_part(const UniqueFd& file, const Part& part) {
    struct Free {
        void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
    };
    const std::unique_ptr<EVP_MD_CTX, Free> context(EVP_MD_CTX_new());
    if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1)
        return Error(Errc::internal, "no SHA-256 in this OpenSSL");
    std::vector<char> buffer(1 << 20);
    std::uint64_t size = 0;
    for (;;) {
        const ssize_t count =
            ::pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(size));
        if (count < 0) return Error::from_errno(errno, "reading what was fetched");
        if (count == 0) break;
        size += static_cast<std::uint64_t>(count);
        EVP_DigestUpdate(context.get(), buffer.data(), static_cast<std::size_t>(count));
    }
    std::array<unsigned char, 32> hash{};
    EVP_DigestFinal_ex(context.get(), hash.data(), nullptr);
    std::string text = "sha256:";
    for (const unsigned char byte : hash) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    const bool is_right =
        (!part.size || part.size->count() == size) && (!part.digest || part.digest->str() == text);
    if (is_right) return ok();
    return Error(Errc::corrupt,
                 "fetched " + std::to_string(size) + " bytes with " + text + ", expected " +
                     (part.size ? std::to_string(part.size->count()) + " bytes with " : "") +
                     (part.digest ? part.digest->str() : "any digest"),
                 "Try again; if it stays so, the source is damaged or was tampered with.");
}

/// A part whose digest is known is checked before anything reads it.
Result<UniqueFd> fetch_verified(ImageSource& source, const ArtifactManifest& manifest,
                                std::size_t index, const std::string& folder, Call& call) {
    UniqueFd file(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!file) return Error::from_errno(errno, "making a file in " + folder);
    BANGER_TRY(source.fetch(manifest, index, 0, file, call));
    BANGER_TRY(verify_part(file, manifest.parts[index]).context("checking " + manifest.reference));
    if (::lseek(file.get(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek");
    return file;
}

/// Hands the parts to `read` as open descriptors in order: files that were checked, or pipes.
Result<void> with_parts(ImageSource& source, const ArtifactManifest& manifest,
                        const std::string& folder, Call& call,
                        const std::function<Result<void>(std::span<const UniqueFd>)>& read) {
    const bool all_pinned = std::ranges::all_of(
        manifest.parts, [](const Part& part) { return part.digest.has_value(); });
    if (all_pinned) {
        std::vector<UniqueFd> files;
        for (std::size_t part = 0; part < manifest.parts.size(); ++part)
            files.push_back(BANGER_TRY(fetch_verified(source, manifest, part, folder, call)));
        return read(files);
    }
    PartStreams streams(source, manifest, call);
    BANGER_TRY(streams.open());
    return streams.finish(read(streams.readers()));
}

Result<void> check_parts(const ArtifactManifest& manifest, PartFormat format) {
    for (const Part& part : manifest.parts)
        if (part.format != format)
            return Error(Errc::unsupported,
                         manifest.reference + " is a " + std::string(to_string(part.format)) +
                             ", which this version cannot turn into a " +
                             std::string(to_string(manifest.kind)),
                         "Choose another reference; see `banger image list --available`.");
    if (manifest.parts.empty())
        return Error(Errc::corrupt, manifest.reference + " has no parts",
                     "Report this to its publisher.");
    return ok();
}

Error unknown_reference(ArtifactKind kind, const std::string& reference) {
    const std::string word(to_string(kind));
    return {Errc::not_found, "no image source knows the " + word + " " + quoted(reference),
            "See `banger " + word + " list --available`."};
}

void take_better(std::string& field, const std::string& better) {
    if (!better.empty()) field = better;
}

bool is_bundle(const ArtifactManifest& manifest) {
    return manifest.parts.size() == 1 && manifest.parts[0].format == PartFormat::bundle;
}

images::BundleReadOptions showing(Call& call, const ArtifactName& name) {
    return {.limits = {},
            .on_progress = [&call, stage = "unpacking " + name.str()](std::uint64_t done,
                                                                      std::uint64_t total) {
                call.report({stage, done, total, Progress::Unit::bytes});
            }};
}

/// What the bundle knows and the source that led to it does not.
void take_from_bundle(ArtifactManifest& manifest, const images::BundleManifest& bundle) {
    if (manifest.distro.empty()) manifest.distro = bundle.distro;
    if (manifest.architecture.empty()) manifest.architecture = bundle.architecture;
    if (manifest.description.empty()) manifest.description = bundle.description;
    if (manifest.kernel_reference.empty()) manifest.kernel_reference = bundle.kernel_reference;
    manifest.run_config = bundle.run_config;
}

}  // namespace

ImageStore::ImageStore(Store& store, std::vector<NamedImageSource> sources, Places places)
    : store_(store), sources_(std::move(sources)), places_(std::move(places)) {}

Result<ImageStore::Found> ImageStore::resolve(ArtifactKind kind, const std::string& reference,
                                              Call& call) {
    ResolveRequest request{.kind = kind, .reference = reference};
    Redirect known;  // what the redirects on the way know better
    for (int hop = 0; hop <= max_redirects; ++hop) {
        bool was_redirected = false;
        for (const NamedImageSource& from : sources_) {
            Result<Resolution> answer = from.source->resolve(request, call);
            if (!answer && answer.error().code == Errc::not_found) continue;
            if (!answer)
                return std::move(answer).error().context("asking " + from.name + " for " +
                                                         quoted(request.reference));
            if (const Redirect* redirect = std::get_if<Redirect>(&*answer)) {
                request.reference = redirect->reference;
                if (hop == 0) known = *redirect;
                was_redirected = true;
                break;
            }
            Found found{std::get<ArtifactManifest>(std::move(*answer)), from.source};
            take_better(found.manifest.suggested_name, known.suggested_name);
            take_better(found.manifest.distro, known.distro);
            take_better(found.manifest.description, known.description);
            take_better(found.manifest.kernel_reference, known.kernel_reference);
            return found;
        }
        if (!was_redirected) return unknown_reference(kind, request.reference);
    }
    return Error(Errc::corrupt,
                 quoted(reference) + " leads from one reference to the next without end",
                 "Correct the catalog that has it.");
}

// ---- images ------------------------------------------------------------------------------------

Result<ImageRecord> ImageStore::ensure_image(const std::string& reference,
                                             const std::optional<ArtifactName>& name, bool refresh,
                                             Call& call) {
    const auto present = [&] { return store_.find_image(name ? name->str() : reference); };
    if (Result<ImageRecord> image = present(); image && !refresh) return image;
    const KeyedLock::Guard turn = BANGER_TRY(locks_.acquire("image " + reference, call.stop()));
    // Whoever had the lock before may have made it: a peer's success is success.
    Result<ImageRecord> existing = present();
    if (existing && !refresh) return existing;
    if (!existing && existing.error().code != Errc::not_found) return existing;

    const Found found = BANGER_TRY(resolve(ArtifactKind::image, reference, call));
    const ArtifactName chosen =
        name ? *name : BANGER_TRY(ArtifactName::parse(found.manifest.suggested_name));
    if (!existing) {
        // Another spelling of what is here already.
        Result<ImageRecord> same_name = store_.find_image(chosen.str());
        if (same_name && !refresh) return same_name;
    }
    return pull_image(found, chosen, existing ? std::optional(*existing) : std::nullopt, call);
}

Result<ImageRecord> ImageStore::pull_image(const Found& found, const ArtifactName& name,
                                           const std::optional<ImageRecord>& replaced, Call& call) {
    ArtifactManifest manifest = found.manifest;
    const bool is_ready =
        manifest.parts.size() == 1 && manifest.parts[0].format == PartFormat::ext4;
    if (!is_bundle(manifest))
        BANGER_TRY(check_parts(manifest, is_ready ? PartFormat::ext4 : PartFormat::tar_layer));
    if (replaced) BANGER_TRY(remove_image(replaced->name.str()));

    const std::string id = new_artifact_id();
    const std::string partial = places_.images + "/" + id + std::string(partial_suffix);
    Rollback rollback({});
    rollback.add("removing " + partial, [&] { return remove_tree(partial); });
    BANGER_TRY(ensure_folder(partial, 0700));
    const std::string path = partial + "/" + std::string(root_file_system);
    const UniqueFd image(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!image) return Error::from_errno(errno, "open " + path);

    ByteCount size;
    const auto write = [&](std::span<const UniqueFd> parts) -> Result<void> {
        images::Ext4Options options;
        options.label = "banger-root";
        options.identity = manifest.reference;
        // What a machine's root disk has by default: growing is then left to those who ask for
        // more.
        options.at_least = usual_root_size;
        size = BANGER_TRY(images::write_ext4_from_layers(parts, image, options, call.stop())).size;
        return ok();
    };
    const auto copy = [&](std::span<const UniqueFd> parts) -> Result<void> {
        struct stat status {};
        if (::fstat(parts[0].get(), &status) != 0) return Error::from_errno(errno, "stat");
        off_t from = 0;
        while (from < status.st_size) {
            const ssize_t count =
                ::copy_file_range(parts[0].get(), &from, image.get(), nullptr,
                                  static_cast<std::size_t>(status.st_size - from), 0);
            if (count <= 0)
                return Error::from_errno(count < 0 ? errno : EIO, "copying the file system");
        }
        size = ByteCount::bytes(static_cast<std::uint64_t>(status.st_size));
        return ok();
    };
    const auto unpack = [&](std::span<const UniqueFd> parts) -> Result<void> {
        const images::BundleManifest bundle = BANGER_TRY(
            images::read_image_bundle(parts[0], image, showing(call, name), call.stop()));
        take_from_bundle(manifest, bundle);
        size = bundle.files[0].size;
        return ok();
    };
    using Read = std::function<Result<void>(std::span<const UniqueFd>)>;
    BANGER_TRY(with_parts(*found.source, found.manifest, partial, call,
                          is_bundle(manifest) ? Read(unpack)
                          : is_ready          ? Read(copy)
                                              : Read(write))
                   .context("pulling " + manifest.reference));

    call.report({"finishing " + name.str(), 0, 0, Progress::Unit::none});
    BANGER_TRY(sync_file(image, path));
    const std::string final_folder = places_.images + "/" + id;
    rollback.add("removing " + final_folder, [&] { return remove_tree(final_folder); });
    if (::rename(partial.c_str(), final_folder.c_str()) != 0)
        return Error::from_errno(errno, "rename " + partial);
    BANGER_TRY(sync_folder(places_.images));
    const ImageRecord record{.id = id,
                             .name = name,
                             .reference = manifest.reference,
                             .distro = manifest.distro,
                             .architecture = manifest.architecture,
                             .description = manifest.description,
                             .provenance = manifest.provenance,
                             .kernel_reference = manifest.kernel_reference,
                             .size = size,
                             .created_at = now(),
                             .state = ArtifactState::ready,
                             .run_config = manifest.run_config};
    BANGER_TRY(store_.add_image(record));
    rollback.commit();
    return record;
}

Result<UniqueFd> ImageStore::open_root_file_system(const ImageRecord& image) {
    const std::string path = places_.images + "/" + image.id + "/" + std::string(root_file_system);
    const std::string remedy = "Delete it and pull it again: banger image delete " +
                               image.name.str() + " && banger image pull " + image.reference;
    Result<UniqueFd> file = open_read(path);
    if (!file)
        return Error(Errc::corrupt,
                     "the file of image " + image.name.str() + " is gone: " + file.error().message,
                     remedy);
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return Error::from_errno(errno, "stat " + path);
    if (static_cast<std::uint64_t>(status.st_size) != image.size.count())
        return Error(Errc::corrupt,
                     path + " has " + std::to_string(status.st_size) +
                         " bytes, but was made with " + std::to_string(image.size.count()),
                     remedy);
    return file;
}

Result<ImageRecord> ImageStore::remove_image(const std::string& name) {
    const ImageRecord image = BANGER_TRY(store_.find_image(name));
    // The row first: a crash then leaves a folder that recover() removes, never a row without
    // files.
    BANGER_TRY(store_.remove_image(image.id));
    BANGER_TRY(remove_tree(places_.images + "/" + image.id));
    return image;
}

Result<ByteCount> ImageStore::allocated(const ImageRecord& image) {
    struct stat status {};
    const std::string path = places_.images + "/" + image.id + "/" + std::string(root_file_system);
    if (::stat(path.c_str(), &status) != 0) return Error::from_errno(errno, "stat " + path);
    return ByteCount::bytes(static_cast<std::uint64_t>(status.st_blocks) * 512);
}

// ---- kernels -----------------------------------------------------------------------------------

Result<KernelRecord> ImageStore::ensure_kernel(const std::string& reference,
                                               const std::optional<ArtifactName>& name,
                                               bool refresh, Call& call) {
    const auto present = [&] { return store_.find_kernel(name ? name->str() : reference); };
    if (Result<KernelRecord> kernel = present(); kernel && !refresh) return kernel;
    const KeyedLock::Guard turn = BANGER_TRY(locks_.acquire("kernel " + reference, call.stop()));
    Result<KernelRecord> existing = present();
    if (existing && !refresh) return existing;
    if (!existing && existing.error().code != Errc::not_found) return existing;

    const Found found = BANGER_TRY(resolve(ArtifactKind::kernel, reference, call));
    const ArtifactName chosen =
        name ? *name : BANGER_TRY(ArtifactName::parse(found.manifest.suggested_name));
    if (!existing) {
        Result<KernelRecord> same_name = store_.find_kernel(chosen.str());
        if (same_name && !refresh) return same_name;
    }
    return pull_kernel(found, chosen, existing ? std::optional(*existing) : std::nullopt, call);
}

Result<KernelRecord> ImageStore::pull_kernel(const Found& found, const ArtifactName& name,
                                             const std::optional<KernelRecord>& replaced,
                                             Call& call) {
    ArtifactManifest manifest = found.manifest;
    if (!is_bundle(manifest)) BANGER_TRY(check_parts(manifest, PartFormat::kernel_tree));
    if (replaced) BANGER_TRY(remove_kernel(replaced->name.str()));

    const std::string id = new_artifact_id();
    const std::string partial = places_.kernels + "/" + id + std::string(partial_suffix);
    Rollback rollback({});
    rollback.add("removing " + partial, [&] { return remove_tree(partial); });
    BANGER_TRY(ensure_folder(partial, 0700));
    const UniqueFd folder(::open(partial.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return Error::from_errno(errno, "open " + partial);

    images::KernelFiles files;
    const auto unpack = [&](const UniqueFd& part) -> Result<void> {
        const images::BundleManifest bundle =
            BANGER_TRY(images::read_kernel_bundle(part, folder, showing(call, name), call.stop()));
        take_from_bundle(manifest, bundle);
        files = {.version = bundle.kernel_version,
                 .vmlinux_size = bundle.files[0].size,
                 .initramfs_size = bundle.files[1].size,
                 .modules_size = bundle.files[2].size};
        return ok();
    };
    BANGER_TRY(with_parts(*found.source, found.manifest, partial, call,
                          [&](std::span<const UniqueFd> parts) -> Result<void> {
                              if (is_bundle(found.manifest)) return unpack(parts[0]);
                              files = BANGER_TRY(
                                  images::import_kernel_tree(parts[0], folder, call.stop()));
                              return ok();
                          })
                   .context("pulling " + manifest.reference));
    BANGER_TRY(sync_file(folder, partial));
    const std::string final_folder = places_.kernels + "/" + id;
    rollback.add("removing " + final_folder, [&] { return remove_tree(final_folder); });
    if (::rename(partial.c_str(), final_folder.c_str()) != 0)
        return Error::from_errno(errno, "rename " + partial);
    BANGER_TRY(sync_folder(places_.kernels));
    const KernelRecord record{
        .id = id,
        .name = name,
        .version = files.version,
        .reference = manifest.reference,
        .architecture = manifest.architecture,
        .description = manifest.description,
        .provenance = manifest.provenance,
        .size = ByteCount::bytes(files.vmlinux_size.count() + files.initramfs_size.count() +
                                 files.modules_size.count()),
        .created_at = now(),
        .state = ArtifactState::ready};
    BANGER_TRY(store_.add_kernel(record));
    rollback.commit();
    return record;
}

Result<ImageStore::OpenKernel> ImageStore::open_kernel(const KernelRecord& kernel) {
    const std::string folder = places_.kernels + "/" + kernel.id;
    const auto open_part = [&](const char* name) -> Result<UniqueFd> {
        Result<UniqueFd> file = open_read(folder + "/" + name);
        if (file) return file;
        return Error(Errc::corrupt,
                     "kernel " + kernel.name.str() + " is damaged: " + file.error().message,
                     "Pull it again: banger kernel pull --refresh " + kernel.name.str());
    };
    OpenKernel open;
    open.vmlinux = BANGER_TRY(open_part("vmlinux"));
    open.initramfs = BANGER_TRY(open_part("initramfs.img"));
    BANGER_TRY(open_part("modules.ext4"));
    open.modules_path = folder + "/modules.ext4";
    return open;
}

Result<KernelRecord> ImageStore::remove_kernel(const std::string& name) {
    const KernelRecord kernel = BANGER_TRY(store_.find_kernel(name));
    BANGER_TRY(store_.remove_kernel(kernel.id));
    BANGER_TRY(remove_tree(places_.kernels + "/" + kernel.id));
    return kernel;
}

// ---- both --------------------------------------------------------------------------------------

Result<UniqueFd> ImageStore::empty_file_system(ByteCount size) {
    const std::string path = places_.templates + "/empty-" + std::to_string(size.count()) + ".ext4";
    const KeyedLock::Guard turn = BANGER_TRY(locks_.acquire(path, {}));
    Result<UniqueFd> existing = open_read(path);
    if (existing || existing.error().code != Errc::not_found) return existing;
    BANGER_TRY(ensure_folder(places_.templates, 0700));
    const std::string partial = path + std::string(partial_suffix);
    BANGER_TRY(remove_file(partial));
    UniqueFd file(::open(partial.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return Error::from_errno(errno, "open " + partial);
    Rollback rollback({});
    rollback.add("removing " + partial, [&] { return remove_file(partial); });
    BANGER_TRY(images::make_empty_ext4(
        file, {.size = size, .label = "banger-work", .root_mode = 0700, .identity = "work"}));
    BANGER_TRY(sync_file(file, partial));
    if (::rename(partial.c_str(), path.c_str()) != 0)
        return Error::from_errno(errno, "rename " + partial);
    rollback.commit();
    return open_read(path);
}

std::vector<AvailableFrom> ImageStore::available(ArtifactKind kind, Call& call,
                                                 const std::function<void(const Error&)>& report) {
    std::vector<AvailableFrom> all;
    for (const NamedImageSource& from : sources_) {
        Result<std::vector<AvailableArtifact>> some = from.source->available(call);
        if (!some) {
            report(some.error().context("asking " + from.name));
            continue;
        }
        for (AvailableArtifact& artifact : *some)
            if (artifact.kind == kind) all.push_back({std::move(artifact), from.name});
    }
    return all;
}

Result<int> ImageStore::recover() {
    int removed = 0;
    const auto sweep = [&](const std::string& folder, const auto& is_known) -> Result<void> {
        BANGER_TRY(ensure_folder(folder, 0700));
        ErrorCollector errors;
        for (const std::string& name : BANGER_TRY(list_folder(folder))) {
            if (is_known(name)) continue;
            errors.add(remove_tree(folder + "/" + name));
            ++removed;
        }
        return errors.result();
    };
    const std::vector<ImageRecord> images = BANGER_TRY(store_.images());
    const std::vector<KernelRecord> kernels = BANGER_TRY(store_.kernels());
    BANGER_TRY(sweep(places_.images, [&](const std::string& name) {
        return std::ranges::any_of(images,
                                   [&](const ImageRecord& image) { return image.id == name; });
    }));
    BANGER_TRY(sweep(places_.kernels, [&](const std::string& name) {
        return std::ranges::any_of(kernels,
                                   [&](const KernelRecord& kernel) { return kernel.id == name; });
    }));
    BANGER_TRY(sweep(places_.templates,
                     [](const std::string& name) { return !name.ends_with(partial_suffix); }));
    return removed;
}

}  // namespace banger
