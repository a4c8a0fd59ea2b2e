#include "core/images/image_store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <memory>
#include <span>
#include <thread>
#include <utility>

#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/base/rollback.hpp"
#include "core/base/sparse_copy.hpp"
#include "core/images/artifact_files.hpp"
#include "core/images/bundle.hpp"
#include "core/images/ext4_image.hpp"
#include "core/images/kernel_tree.hpp"

namespace banger {

namespace {

/// A redirect leads to a recipe; a chain of them is a mistake or a trap.
constexpr int max_redirects = 4;
/// Docker itself stops at 127. Each is an open file.
constexpr std::size_t max_parts = 500;
/// The default of system_overlay_size. The file is sparse.
constexpr ByteCount usual_root_size = ByteCount::gib(8);
/// Nobody goes on with a download after that.
constexpr std::chrono::hours partial_blob_age{24 * 7};
constexpr const char* room_remedy =
    "Free some: `banger image cache prune`, `banger image delete`, `banger vm prune`.";

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

/// The one format that all parts have, if `can_take` it.
Result<PartFormat> format_of(const ArtifactManifest& manifest,
                             std::initializer_list<PartFormat> can_take) {
    if (manifest.parts.empty())
        return Error(Errc::corrupt, manifest.reference + " has no parts",
                     "Report this to its publisher.");
    if (manifest.parts.size() > max_parts)
        return Error(Errc::unsupported,
                     manifest.reference + " has " + std::to_string(manifest.parts.size()) +
                         " layers, more than " + std::to_string(max_parts),
                     "Squash them; `docker build --squash` or `buildah bud --squash` do.");
    const PartFormat format = manifest.parts.front().format;
    const auto is_other = [&](const Part& part) { return part.format != format; };
    // Bytes that nobody vouches for in advance come through a pipe, which a disk cannot be.
    const bool is_known = std::ranges::find(can_take, format) != can_take.end() &&
                          (format != PartFormat::ext4 || manifest.parts.front().digest);
    const bool is_alone = manifest.parts.size() == 1 || format == PartFormat::tar_layer;
    if (is_known && is_alone && std::ranges::none_of(manifest.parts, is_other)) return format;
    return Error(Errc::unsupported,
                 manifest.reference + " is a " + std::string(to_string(format)) +
                     ", which this version cannot turn into " +
                     (manifest.kind == ArtifactKind::image ? "an image" : "a kernel"),
                 "Choose another reference; see `banger " + std::string(to_string(manifest.kind)) +
                     " list --available`.");
}

std::vector<PartRecord> parts_of(const ArtifactManifest& manifest) {
    std::vector<PartRecord> parts;
    for (const Part& part : manifest.parts)
        if (part.digest) parts.push_back({*part.digest, part.size});
    return parts.size() == manifest.parts.size() ? parts : std::vector<PartRecord>();
}

std::vector<WantedBlob> blobs_of(const ArtifactManifest& manifest) {
    std::vector<WantedBlob> blobs;
    for (const PartRecord& part : parts_of(manifest))
        blobs.push_back({part.digest, part.size});
    return blobs;
}

/// The same parts give the same image, under whatever name they came.
std::string identity_of(const ArtifactManifest& manifest) {
    std::string identity;
    for (const PartRecord& part : parts_of(manifest))
        identity += part.digest.str() + " ";
    return identity.empty() ? manifest.reference : identity;
}

Error another_of_that_name(ArtifactKind kind, const ArtifactName& name,
                           const std::string& reference) {
    const std::string word(to_string(kind));
    return {Errc::already_exists,
            "the " + word + " " + quoted(name.str()) + " is here, and is " + reference,
            "Choose another name with --name, or delete it with `banger " + word + " delete " +
                name.str() + "`."};
}

/// The size of one that is here is what it is.
Result<ImageRecord> with_size(const ImageRecord& image, const std::optional<ByteCount>& size) {
    if (!size || image.size == *size) return image;
    return Error(Errc::already_exists,
                 "the image " + quoted(image.name.str()) + " is here with " + image.size.text(),
                 "Make it anew with --refresh, or another one with --name.");
}

template <class Record>
bool is_known_as(const Record& record, const ArtifactName& name, const std::string& reference) {
    return record.name == name && (record.name.str() == reference || record.id == reference ||
                                   record.reference == reference || record.asked_as == reference);
}

Error unknown_reference(ArtifactKind kind, const std::string& reference) {
    const std::string word(to_string(kind));
    return {Errc::not_found, "no image source knows the " + word + " " + quoted(reference),
            "See `banger " + word + " list --available`."};
}

void take_better(std::string& field, const std::string& better) {
    if (!better.empty()) field = better;
}

/// Of a file system that comes as it is: the guest grows it to its disk.
Result<void> grow(const UniqueFd& image, const std::optional<ByteCount>& wanted, ByteCount& size) {
    if (wanted && *wanted < size)
        return Error(Errc::invalid_argument,
                     "the file system has " + size.text() + ", more than the " + wanted->text() +
                         " asked for",
                     "Ask for at least that.");
    size = wanted.value_or(size);
    if (::ftruncate(image.get(), static_cast<off_t>(size.count())) != 0)
        return Error::from_errno(errno, "growing the file system");
    return ok();
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

UnixTime time_now() {
    return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
}

std::string new_artifact_id() { return VmId::random().str(); }

Result<void> sync_file(const UniqueFd& fd, const std::string& what) {
    if (::fsync(fd.get()) == 0) return ok();
    return Error::from_errno(errno, "fsync " + what);
}

Result<void> publish(const UniqueFd& last_file, const std::string& partial,
                     const std::string& folder) {
    BANGER_TRY(sync_file(last_file, partial));
    BANGER_TRY(sync_folder(partial));
    if (::rename(partial.c_str(), folder.c_str()) != 0)
        return Error::from_errno(errno, "rename " + partial);
    return sync_folder(parent_path(folder));
}

Error artifact_in_use(ArtifactKind kind, const std::vector<std::string>& users) {
    std::string list;
    for (const std::string& user : users)
        list += (list.empty() ? "" : " ") + user;
    return {Errc::in_use, "the " + std::string(to_string(kind)) + " is used by " + list,
            "Delete what is not needed with `banger vm delete " + list + "`."};
}

ImageStore::ImageStore(Store& store, std::vector<NamedImageSource> sources, Places places)
    : store_(store),
      sources_(std::move(sources)),
      places_(std::move(places)),
      blobs_(places_.blobs) {}

Result<ImageStore::Found> ImageStore::resolve(ArtifactKind kind, const std::string& reference,
                                              Call& call) {
    ResolveRequest request{.kind = kind, .reference = reference};
    Redirect known;  // what the redirects on the way know better
    std::optional<Error> away;
    for (int hop = 0; hop <= max_redirects; ++hop) {
        bool was_redirected = false;
        for (const NamedImageSource& from : sources_) {
            Result<Resolution> answer = from.source->resolve(request, call);
            if (!answer && answer.error().code == Errc::not_found) continue;
            if (!answer) {
                Error error = std::move(answer).error().context("asking " + from.name + " for " +
                                                                quoted(request.reference));
                if (!from.may_be_away ||
                    (error.code != Errc::unavailable && error.code != Errc::timed_out))
                    return error;
                if (!away) away = std::move(error);
                continue;
            }
            if (const Redirect* redirect = std::get_if<Redirect>(&*answer)) {
                request.reference = redirect->reference;
                if (hop == 0) known = *redirect;
                was_redirected = true;
                break;
            }
            Found found{std::get<ArtifactManifest>(std::move(*answer)), from.source, {}};
            if (found.manifest.reference != reference) found.asked_as = reference;
            take_better(found.manifest.suggested_name, known.suggested_name);
            take_better(found.manifest.distro, known.distro);
            take_better(found.manifest.description, known.description);
            take_better(found.manifest.kernel_reference, known.kernel_reference);
            return found;
        }
        // It may have been theirs.
        if (!was_redirected && away) return *std::move(away);
        if (!was_redirected) return unknown_reference(kind, request.reference);
    }
    return Error(Errc::corrupt,
                 quoted(reference) + " leads from one reference to the next without end",
                 "Correct the catalog that has it.");
}

Result<ImageStore::Found> ImageStore::resolve_again(ArtifactKind kind, const std::string& reference,
                                                    const std::string& known_as, Call& call) {
    Result<Found> found = resolve(kind, reference, call);
    if (found || reference == known_as || found.error().code != Errc::not_found) return found;
    return resolve(kind, known_as, call);
}

// ---- parts -------------------------------------------------------------------------------------

Result<void> ImageStore::with_parts(
    const Found& found, Call& call,
    const std::function<Result<void>(std::span<const UniqueFd>)>& read) {
    const auto through_pipes = [&]() -> Result<void> {
        PartStreams streams(*found.source, found.manifest, call);
        BANGER_TRY(streams.open());
        return streams.finish(read(streams.readers()));
    };
    return parts_of(found.manifest).empty() ? through_pipes() : with_blobs(found, call, read);
}

Result<void> ImageStore::with_blobs(
    const Found& found, Call& call,
    const std::function<Result<void>(std::span<const UniqueFd>)>& read) {
    const ArtifactManifest& manifest = found.manifest;
    const std::vector<WantedBlob> wanted = blobs_of(manifest);
    const std::vector<WantedBlob> missing = blobs_.missing(wanted);
    std::string what = manifest.reference;
    if (wanted.size() > 1)
        what = (missing.size() == wanted.size() ? "" : std::to_string(missing.size()) + " of ") +
               std::to_string(wanted.size()) + " layers of " + what;
    const std::vector<UniqueFd> files = BANGER_TRY(blobs_.ensure_all(
        wanted,
        [&](std::size_t part, std::uint64_t resume_from, const UniqueFd& sink, Call& inner) {
            return found.source->fetch(manifest, part, resume_from, sink, inner);
        },
        what, call));
    Result<void> done = read(files);
    if (!done && done.error().code == Errc::corrupt) {
        bool was_damaged = false;
        for (const WantedBlob& blob : wanted)
            was_damaged = blobs_.remove_if_damaged(blob.digest).value_or(false) || was_damaged;
        if (was_damaged)
            return Error(Errc::corrupt,
                         "the cached copy was damaged on the disk and is removed now",
                         "Pull it again.");
    }
    return done;
}

Error ImageStore::give_back(Error error, std::span<const WantedBlob> missing_before) {
    if (error.code != Errc::no_space) return error;
    for (const WantedBlob& blob : missing_before)
        (void)blobs_.remove(blob.digest);
    if (error.remedy.empty()) error.remedy = room_remedy;
    return error;
}

void ImageStore::drop_unshared(const ArtifactManifest& manifest) {
    for (const Part& part : manifest.parts)
        if (part.digest && part.format != PartFormat::tar_layer) (void)blobs_.remove(*part.digest);
}

// ---- images ------------------------------------------------------------------------------------

Result<ImageRecord> ImageStore::ensure_image(const std::string& reference,
                                             const PullOptions& options, Call& call) {
    const auto present = [&]() -> Result<ImageRecord> {
        Result<ImageRecord> image =
            store_.find_image(options.name ? options.name->str() : reference);
        // A name may begin an id, or be that of something else: asking the sources will tell.
        if (image && options.name && !is_known_as(*image, *options.name, reference))
            return Error(Errc::not_found, "not here under that name");
        return image;
    };
    if (Result<ImageRecord> image = present(); image && !options.refresh)
        return with_size(*image, options.size);
    const KeyedLock::Guard turn = BANGER_TRY(locks_.acquire("image " + reference, call.stop()));
    // Whoever had the lock before may have made it: a peer's success is success.
    Result<ImageRecord> existing = present();
    if (existing && !options.refresh) return with_size(*existing, options.size);
    if (!existing && existing.error().code != Errc::not_found) return existing;
    const Found found = BANGER_TRY(resolve_again(
        ArtifactKind::image, reference,
        existing ? existing->asked_as.empty() ? existing->reference : existing->asked_as
                 : reference,
        call));
    const ArtifactName name = options.name ? *options.name
                              : existing
                                  ? existing->name
                                  : BANGER_TRY(ArtifactName::parse(found.manifest.suggested_name));

    const KeyedLock::Guard turn_of_name =
        BANGER_TRY(locks_.acquire("image name " + name.str(), call.stop()));
    std::optional<ImageRecord> same_name;
    for (ImageRecord& image : BANGER_TRY(store_.images()))
        if (image.name == name) same_name = std::move(image);
    if (same_name && !options.refresh) {
        // Another spelling of what is here already.
        if (same_name->reference == found.manifest.reference)
            return with_size(*same_name, options.size);
        return another_of_that_name(ArtifactKind::image, name, same_name->reference);
    }
    if (same_name) {
        const bool is_same = !options.size && same_name->reference == found.manifest.reference &&
                             !same_name->parts.empty() &&
                             same_name->parts == parts_of(found.manifest);
        if (is_same && open_root_file_system(*same_name)) {
            call.report({name.str() + " is up to date", 0, 0, Progress::Unit::none});
            return *same_name;
        }
        const std::vector<std::string> users =
            BANGER_TRY(store_.machines_using_image(same_name->id));
        if (!users.empty()) return artifact_in_use(ArtifactKind::image, users);
    }
    const std::vector<WantedBlob> missing = blobs_.missing(blobs_of(found.manifest));
    Result<ImageRecord> image = pull_image(found, name, options, same_name, call);
    if (!image) return give_back(std::move(image).error(), missing);
    return image;
}

/// Writes the root file system into `image`, in whichever form its parts have it. What a bundle
/// knows about itself comes into `manifest`.
Result<ByteCount> ImageStore::make_root_file_system(const Found& found, const ArtifactName& name,
                                                    const PullOptions& options, PartFormat format,
                                                    const UniqueFd& image,
                                                    ArtifactManifest& manifest, Call& call) {
    ByteCount size;
    const auto write = [&](std::span<const UniqueFd> parts) -> Result<void> {
        images::Ext4Options ext4;
        ext4.label = "banger-root";
        ext4.identity = identity_of(found.manifest);
        ext4.are_layers_whole = std::ranges::all_of(
            found.manifest.parts, [](const Part& part) { return part.digest.has_value(); });
        ext4.size = options.size;
        // What a machine's root disk has by default: growing is then left to those who ask for
        // more.
        ext4.at_least = usual_root_size;
        std::uint64_t total = 0;
        for (const PartRecord& part : parts_of(found.manifest))
            total += part.size.value_or(ByteCount()).count();
        // What is made on demand tells by itself how far it is.
        if (total > 0)
            ext4.on_progress = [&, total](const images::Ext4Progress& now) {
                call.report(
                    {"writing the root file system", now.bytes_read, total, Progress::Unit::bytes});
            };
        const Result<images::Ext4Summary> written =
            images::write_ext4_from_layers(parts, image, ext4, call.stop());
        // It is the wish that is too small, not the disk: the remedy tells the two apart.
        if (!written && options.size && written.error().code == Errc::no_space &&
            written.error().remedy == "Ask for a larger size.")
            return Error(Errc::invalid_argument, written.error().message,
                         "Ask for a larger --size, or leave it out.");
        if (!written) return written.error();
        size = written->size;
        return ok();
    };
    const auto copy = [&](std::span<const UniqueFd> parts) -> Result<void> {
        struct stat status {};
        if (::fstat(parts[0].get(), &status) != 0) return Error::from_errno(errno, "stat");
        BANGER_TRY(copy_sparse(parts[0].get(), image.get(), 0, status.st_size, call.stop()));
        size = ByteCount::bytes(static_cast<std::uint64_t>(status.st_size));
        return grow(image, options.size, size);
    };
    const auto unpack = [&](std::span<const UniqueFd> parts) -> Result<void> {
        const images::BundleManifest bundle = BANGER_TRY(
            images::read_image_bundle(parts[0], image, showing(call, name), call.stop()));
        take_from_bundle(manifest, bundle);
        size = bundle.files[0].size;
        return grow(image, options.size, size);
    };
    using Read = std::function<Result<void>(std::span<const UniqueFd>)>;
    const Read read = format == PartFormat::bundle ? Read(unpack)
                      : format == PartFormat::ext4 ? Read(copy)
                                                   : Read(write);
    BANGER_TRY(with_parts(found, call, read));
    return size;
}

Result<ImageRecord> ImageStore::pull_image(const Found& found, const ArtifactName& name,
                                           const PullOptions& options,
                                           const std::optional<ImageRecord>& replaced, Call& call) {
    ArtifactManifest manifest = found.manifest;
    const PartFormat format = BANGER_TRY(
        format_of(manifest, {PartFormat::tar_layer, PartFormat::ext4, PartFormat::bundle}));

    const std::string id = new_artifact_id();
    const std::string partial = places_.images + "/" + id + std::string(partial_suffix);
    Rollback rollback({});
    rollback.add("removing " + partial, [&] { return remove_tree(partial); });
    BANGER_TRY(ensure_folder(partial, 0700));
    const std::string path = partial + "/" + std::string(root_file_system);
    const UniqueFd image(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!image) return Error::from_errno(errno, "open " + path);
    const ByteCount size =
        BANGER_TRY(make_root_file_system(found, name, options, format, image, manifest, call)
                       .context("pulling " + manifest.reference));

    call.report({"finishing " + name.str(), 0, 0, Progress::Unit::none});
    const std::string final_folder = places_.images + "/" + id;
    rollback.add("removing " + final_folder, [final_folder] { return remove_tree(final_folder); });
    BANGER_TRY(publish(image, partial, final_folder));
    const ImageRecord record{.id = id,
                             .name = name,
                             .reference = manifest.reference,
                             .distro = manifest.distro,
                             .architecture = manifest.architecture,
                             .description = manifest.description,
                             .provenance = manifest.provenance,
                             .kernel_reference = manifest.kernel_reference,
                             .size = size,
                             .created_at = time_now(),
                             .state = ArtifactState::ready,
                             .run_config = manifest.run_config,
                             .asked_as = found.asked_as,
                             .parts = parts_of(manifest)};
    Result<void> stored =
        replaced ? store_.replace_image(replaced->id, record) : store_.add_image(record);
    // Somebody deleted the old one meanwhile.
    if (!stored && replaced && stored.error().code == Errc::not_found)
        stored = store_.add_image(record);
    BANGER_TRY(stored);
    rollback.commit();
    // What stays of these is found by recover() and `banger image cache prune`.
    if (replaced) (void)remove_tree(places_.images + "/" + replaced->id);
    drop_unshared(manifest);
    return record;
}

std::string ImageStore::path_of(const ImageRecord& image) const {
    if (image.file) return image.file->path;
    return places_.images + "/" + image.id + "/" + std::string(root_file_system);
}

Result<UniqueFd> ImageStore::open_root_file_system(const ImageRecord& image) {
    const std::string path = path_of(image);
    const std::string& name = image.name.str();
    const std::string remedy =
        image.file
            ? "Put the file back as it was; or delete the machines that stand on it and then "
              "the image, and register it again."
            : "Delete it and pull it again: banger image delete " + name +
                  " && banger image pull " + image.reference;
    Result<UniqueFd> file = open_read(path);
    if (!file)
        return Error(Errc::corrupt,
                     "the file of image " + name + " cannot be opened: " + file.error().message,
                     remedy);
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return Error::from_errno(errno, "stat " + path);
    if (!S_ISREG(status.st_mode) ||
        static_cast<std::uint64_t>(status.st_size) != image.size.count())
        return Error(Errc::corrupt,
                     path + " has " + std::to_string(status.st_size) + " bytes, but " +
                         (image.file ? "had " : "was made with ") +
                         std::to_string(image.size.count()) +
                         (image.file ? " when it was registered" : ""),
                     remedy);
    if (image.file && changed_at(status) != image.file->changed)
        return Error(Errc::corrupt, path + " was changed after it was registered", remedy);
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
    const std::string path = path_of(image);
    if (::stat(path.c_str(), &status) != 0) return Error::from_errno(errno, "stat " + path);
    return ByteCount::bytes(static_cast<std::uint64_t>(status.st_blocks) * 512);
}

// ---- kernels -----------------------------------------------------------------------------------

Result<KernelRecord> ImageStore::ensure_kernel(const std::string& reference,
                                               const PullOptions& options, Call& call) {
    const auto present = [&]() -> Result<KernelRecord> {
        Result<KernelRecord> kernel =
            store_.find_kernel(options.name ? options.name->str() : reference);
        // A name may begin an id, or be that of something else: asking the sources will tell.
        if (kernel && options.name && !is_known_as(*kernel, *options.name, reference))
            return Error(Errc::not_found, "not here under that name");
        return kernel;
    };
    if (Result<KernelRecord> kernel = present(); kernel && !options.refresh) return kernel;
    const KeyedLock::Guard turn = BANGER_TRY(locks_.acquire("kernel " + reference, call.stop()));
    Result<KernelRecord> existing = present();
    if (existing && !options.refresh) return existing;
    if (!existing && existing.error().code != Errc::not_found) return existing;
    const Found found = BANGER_TRY(resolve_again(
        ArtifactKind::kernel, reference,
        existing ? existing->asked_as.empty() ? existing->reference : existing->asked_as
                 : reference,
        call));
    const ArtifactName name = options.name ? *options.name
                              : existing
                                  ? existing->name
                                  : BANGER_TRY(ArtifactName::parse(found.manifest.suggested_name));

    const KeyedLock::Guard turn_of_name =
        BANGER_TRY(locks_.acquire("kernel name " + name.str(), call.stop()));
    std::optional<KernelRecord> same_name;
    for (KernelRecord& kernel : BANGER_TRY(store_.kernels()))
        if (kernel.name == name) same_name = std::move(kernel);
    if (same_name && !options.refresh) {
        if (same_name->reference == found.manifest.reference) return *same_name;
        return another_of_that_name(ArtifactKind::kernel, name, same_name->reference);
    }
    if (same_name) {
        const bool is_same = same_name->reference == found.manifest.reference &&
                             !same_name->parts.empty() &&
                             same_name->parts == parts_of(found.manifest);
        if (is_same && open_kernel(*same_name)) {
            call.report({name.str() + " is up to date", 0, 0, Progress::Unit::none});
            return *same_name;
        }
        const std::vector<std::string> users =
            BANGER_TRY(store_.machines_using_kernel(same_name->id));
        if (!users.empty()) return artifact_in_use(ArtifactKind::kernel, users);
    }
    const std::vector<WantedBlob> missing = blobs_.missing(blobs_of(found.manifest));
    Result<KernelRecord> kernel = pull_kernel(found, name, same_name, call);
    if (!kernel) return give_back(std::move(kernel).error(), missing);
    return kernel;
}

Result<KernelRecord> ImageStore::pull_kernel(const Found& found, const ArtifactName& name,
                                             const std::optional<KernelRecord>& replaced,
                                             Call& call) {
    ArtifactManifest manifest = found.manifest;
    const PartFormat format =
        BANGER_TRY(format_of(manifest, {PartFormat::kernel_tree, PartFormat::bundle}));

    KernelRecord record{.id = new_artifact_id(),
                        .name = name,
                        .reference = manifest.reference,
                        .provenance = manifest.provenance,
                        .asked_as = found.asked_as,
                        .parts = parts_of(manifest)};
    const auto fill = [&](const UniqueFd& folder) -> Result<images::KernelFiles> {
        images::KernelFiles files;
        const auto unpack = [&](const UniqueFd& part) -> Result<void> {
            const images::BundleManifest bundle = BANGER_TRY(
                images::read_kernel_bundle(part, folder, showing(call, name), call.stop()));
            take_from_bundle(manifest, bundle);
            files = {.version = bundle.kernel_version,
                     .vmlinux_size = bundle.files[0].size,
                     .initramfs_size = bundle.files[1].size,
                     .modules_size = bundle.files[2].size};
            return ok();
        };
        const auto import = [&](std::span<const UniqueFd> parts) -> Result<void> {
            if (format == PartFormat::bundle) return unpack(parts[0]);
            files = BANGER_TRY(images::import_kernel_tree(parts[0], folder, call.stop()));
            return ok();
        };
        BANGER_TRY(with_parts(found, call, import).context("pulling " + manifest.reference));
        record.architecture = manifest.architecture;
        record.description = manifest.description;
        return files;
    };
    record = BANGER_TRY(make_kernel(record, replaced, fill));
    drop_unshared(manifest);
    return record;
}

Result<KernelRecord> ImageStore::make_kernel(
    const KernelRecord& planned, const std::optional<KernelRecord>& replaced,
    const std::function<Result<images::KernelFiles>(const UniqueFd& folder)>& fill) {
    const std::string final_folder = places_.kernels + "/" + planned.id;
    const std::string partial = final_folder + std::string(partial_suffix);
    Rollback rollback({});
    rollback.add("removing " + partial, [&] { return remove_tree(partial); });
    BANGER_TRY(ensure_folder(partial, 0700));
    const UniqueFd folder(::open(partial.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return Error::from_errno(errno, "open " + partial);
    const images::KernelFiles files = BANGER_TRY(fill(folder));
    rollback.add("removing " + final_folder, [final_folder] { return remove_tree(final_folder); });
    BANGER_TRY(publish(folder, partial, final_folder));
    KernelRecord record = planned;
    record.version = files.version;
    record.size = ByteCount::bytes(files.vmlinux_size.count() + files.initramfs_size.count() +
                                   files.modules_size.count());
    record.created_at = time_now();
    record.state = ArtifactState::ready;
    Result<void> stored =
        replaced ? store_.replace_kernel(replaced->id, record) : store_.add_kernel(record);
    if (!stored && replaced && stored.error().code == Errc::not_found)
        stored = store_.add_kernel(record);
    BANGER_TRY(stored);
    rollback.commit();
    if (replaced) (void)remove_tree(places_.kernels + "/" + replaced->id);
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
    // One that a source has comes back when it is needed; this would not.
    if (is_own_file(kernel.reference))
        for (const ImageRecord& image : BANGER_TRY(store_.images()))
            if (image.kernel_reference == kernel.name.str())
                return Error(Errc::in_use,
                             "the kernel is what machines of image " + image.name.str() + " boot",
                             "Give that image another: banger image set " + image.name.str() +
                                 " --kernel KERNEL");
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
        // A registered one has no files here, unless a promotion died before its last step.
        return std::ranges::any_of(
            images, [&](const ImageRecord& image) { return image.id == name && !image.file; });
    }));
    BANGER_TRY(sweep(places_.kernels, [&](const std::string& name) {
        return std::ranges::any_of(kernels,
                                   [&](const KernelRecord& kernel) { return kernel.id == name; });
    }));
    BANGER_TRY(sweep(places_.templates,
                     [](const std::string& name) { return !name.ends_with(partial_suffix); }));
    removed += BANGER_TRY(blobs_.recover(partial_blob_age));
    return removed;
}

}  // namespace banger
