#include "core/protocol/artifact.hpp"
#include "core/protocol/artifact_fields.hpp"
#include "daemons/bangerd/interfaces.hpp"
#include "varlink/io.banger.Image.hpp"
#include "varlink/io.banger.Kernel.hpp"

namespace banger {

namespace {

using namespace protocol;
using rpc::Reporter;
using Log = std::function<void(LogLevel, const std::string&)>;

constexpr std::string_view catalog_plugin = "catalog";

Image to_wire(const ImageRecord& image, ImageStore& images) {
    const Result<ByteCount> allocated = images.allocated(image);
    return {.id = image.id,
            .name = image.name.str(),
            .reference = image.reference,
            .distro = image.distro,
            .architecture = image.architecture,
            .description = image.description,
            .provenance = image.provenance,
            .kernel = image.kernel_reference,
            .size = image.size.count(),
            .allocated = allocated ? allocated->count() : 0,
            .created_at = image.created_at.time_since_epoch().count()};
}

Details details_of(const ImageRecord& image, ImageStore& images) {
    const Result<UniqueFd> file = images.open_root_file_system(image);
    Details details;
    if (image.file) details.file = image.file->path;
    if (!file) details.problem = file.error().message;
    for (const PartRecord& part : image.parts)
        details.parts.push_back(
            {part.digest.str(), part.size ? std::optional(part.size->count()) : std::nullopt});
    details.run = {image.run_config.environment, image.run_config.working_folder,
                   image.run_config.user, image.run_config.entrypoint, image.run_config.command};
    return details;
}

Kernel to_wire(const KernelRecord& kernel) {
    return {.id = kernel.id,
            .name = kernel.name.str(),
            .version = kernel.version,
            .reference = kernel.reference,
            .provenance = kernel.provenance,
            .size = kernel.size.count(),
            .created_at = kernel.created_at.time_since_epoch().count()};
}

AvailableReply list_available(ImageStore& images, const catalog::AddedCatalogs& catalogs,
                              ArtifactKind kind, Call& call, const Log& log) {
    AvailableReply reply;
    const auto names = catalogs.names_of_offers(kind);
    // An offer of the catalog plugin is shown with the catalog that has it.
    const auto shown_source = [&](const AvailableFrom& from) {
        if (from.source != catalog_plugin) return from.source;
        const auto found = names.find(catalog::AddedCatalogs::offer_key(
            from.artifact.reference, from.artifact.architecture, from.artifact.description));
        return found == names.end() ? from.source : from.source + " " + found->second;
    };
    const auto report = [&](const Error& error) { log(LogLevel::warning, error.text()); };
    for (const AvailableFrom& from : images.available(kind, call, report))
        reply.available.push_back({from.artifact.reference, from.artifact.distro,
                                   from.artifact.architecture, from.artifact.description,
                                   shown_source(from)});
    return reply;
}

Result<std::optional<ArtifactName>> wanted_name(const std::optional<std::string>& name) {
    if (!name) return std::optional<ArtifactName>();
    return std::optional(BANGER_TRY(ArtifactName::parse(*name)));
}

/// A disk's size is whole MiB.
Result<std::optional<ByteCount>> wanted_size(const std::optional<std::uint64_t>& bytes) {
    if (!bytes) return std::optional<ByteCount>();
    const ByteCount size = ByteCount::bytes(*bytes);
    constexpr ByteCount least = ByteCount::mib(16);
    constexpr ByteCount most = ByteCount::gib(2048);
    if (size < least || size > most)
        return Error(Errc::invalid_argument, "a root file system cannot have " + size.text(),
                     "Ask for " + least.text() + " to " + most.text() + ".");
    return std::optional(ByteCount::mib((size.count() + (1 << 20) - 1) >> 20));
}

Result<ImageRegistration> registration_of(const RegisterImage& in) {
    ImageRegistration registration{.name = BANGER_TRY(ArtifactName::parse(in.name)),
                                   .root_file_system = in.root_file_system,
                                   .kernel_reference = in.kernel_reference};
    if (in.kernel)
        registration.kernel = KernelOrigin{.kernel = in.kernel->kernel,
                                           .initrd = in.kernel->initrd,
                                           .modules = in.kernel->modules};
    if (in.kernel && !in.kernel_reference.empty())
        return Error(Errc::invalid_argument, "an image boots one kernel, and two are given",
                     "Give a kernel of the store or files, not both.");
    return registration;
}

PruneCacheReply to_wire(const std::vector<CachedBlob>& blobs) {
    PruneCacheReply reply;
    for (const CachedBlob& blob : blobs) {
        reply.blobs.push_back({blob.digest.str(), blob.size.count(), blob.is_complete});
        reply.freed += blob.size.count();
    }
    return reply;
}

}  // namespace

rpc::Interface image_interface(ImageStore& images, Store& store,
                               const catalog::AddedCatalogs& catalogs, Log log) {
    rpc::Interface image("io.banger.Image", varlink::io_banger_Image);
    image.method<NoParameters, ListImagesReply>(
        "List", [&](const NoParameters&) -> Result<ListImagesReply> {
            ListImagesReply reply;
            for (const ImageRecord& record : BANGER_TRY(store.images()))
                reply.images.push_back(to_wire(record, images));
            return reply;
        });
    image.job<NoParameters, AvailableReply>(
        "Available", {},
        [&images, &catalogs, log](const NoParameters&,
                                  Reporter<AvailableReply>& call) -> Result<AvailableReply> {
            return list_available(images, catalogs, ArtifactKind::image, call, log);
        });
    image.method<NamedArtifact, ShowImageReply>(
        "Show", [&](const NamedArtifact& in) -> Result<ShowImageReply> {
            const ImageRecord record = BANGER_TRY(store.find_image(in.name));
            std::vector<std::string> users = BANGER_TRY(store.machines_using_image(record.id));
            return ShowImageReply{to_wire(record, images), std::move(users)};
        });
    image.method<NamedArtifact, DetailsReply>(
        "Details", [&](const NamedArtifact& in) -> Result<DetailsReply> {
            return DetailsReply{details_of(BANGER_TRY(store.find_image(in.name)), images)};
        });
    image.job<PullImage, PullImageReply>(
        "Pull", {},
        [&](const PullImage& in, Reporter<PullImageReply>& call) -> Result<PullImageReply> {
            PullOptions options{.name = {}, .size = {}, .refresh = in.refresh};
            options.name = BANGER_TRY(wanted_name(in.name));
            options.size = BANGER_TRY(wanted_size(in.size));
            const ImageRecord record = BANGER_TRY(recorded(store, "image.pull", in.reference, [&] {
                return images.ensure_image(in.reference, options, call);
            }));
            return PullImageReply{{}, to_wire(record, images)};
        });
    image.job<RegisterImage, PullImageReply>(
        "Register", {},
        [&](const RegisterImage& in, Reporter<PullImageReply>& call) -> Result<PullImageReply> {
            const ImageRegistration registration = BANGER_TRY(registration_of(in));
            const ImageRecord record = BANGER_TRY(recorded(store, "image.register", in.name, [&] {
                return images.register_image(registration, call);
            }));
            return PullImageReply{{}, to_wire(record, images)};
        });
    image.job<NamedArtifact, PullImageReply>(
        "Promote", {},
        [&](const NamedArtifact& in, Reporter<PullImageReply>& call) -> Result<PullImageReply> {
            const ImageRecord record = BANGER_TRY(recorded(store, "image.promote", in.name, [&] {
                return images.promote_image(in.name, call);
            }));
            return PullImageReply{{}, to_wire(record, images)};
        });
    image.job<SetImageKernel, SetImageKernelReply>(
        "SetKernel", {},
        [&](const SetImageKernel& in,
            Reporter<SetImageKernelReply>& call) -> Result<SetImageKernelReply> {
            return SetImageKernelReply{
                to_wire(BANGER_TRY(images.set_kernel(in.name, in.kernel, call)), images)};
        });
    image.job<PruneCache, PruneCacheReply>(
        "PruneCache", {},
        [&](const PruneCache& in, Reporter<PruneCacheReply>&) -> Result<PruneCacheReply> {
            return to_wire(BANGER_TRY(images.prune_blobs(in.all, in.is_dry)));
        });
    image.job<NamedArtifact, DeleteImageReply>(
        "Delete", {},
        [&](const NamedArtifact& in, Reporter<DeleteImageReply>&) -> Result<DeleteImageReply> {
            const ImageRecord gone = BANGER_TRY(recorded(
                store, "image.delete", in.name, [&] { return images.remove_image(in.name); }));
            return DeleteImageReply{to_wire(gone, images)};
        });
    return image;
}

rpc::Interface kernel_interface(ImageStore& images, Store& store,
                                const catalog::AddedCatalogs& catalogs, Log log) {
    rpc::Interface kernel("io.banger.Kernel", varlink::io_banger_Kernel);
    kernel.method<NoParameters, ListKernelsReply>(
        "List", [&](const NoParameters&) -> Result<ListKernelsReply> {
            ListKernelsReply reply;
            for (const KernelRecord& record : BANGER_TRY(store.kernels()))
                reply.kernels.push_back(to_wire(record));
            return reply;
        });
    kernel.job<NoParameters, AvailableReply>(
        "Available", {},
        [&images, &catalogs, log](const NoParameters&,
                                  Reporter<AvailableReply>& call) -> Result<AvailableReply> {
            return list_available(images, catalogs, ArtifactKind::kernel, call, log);
        });
    kernel.method<NamedArtifact, ShowKernelReply>(
        "Show", [&](const NamedArtifact& in) -> Result<ShowKernelReply> {
            const KernelRecord record = BANGER_TRY(store.find_kernel(in.name));
            std::vector<std::string> users = BANGER_TRY(store.machines_using_kernel(record.id));
            return ShowKernelReply{to_wire(record), std::move(users)};
        });
    kernel.job<PullArtifact, PullKernelReply>(
        "Pull", {},
        [&](const PullArtifact& in, Reporter<PullKernelReply>& call) -> Result<PullKernelReply> {
            PullOptions options{.name = {}, .size = {}, .refresh = in.refresh};
            options.name = BANGER_TRY(wanted_name(in.name));
            const KernelRecord record =
                BANGER_TRY(recorded(store, "kernel.pull", in.reference, [&] {
                    return images.ensure_kernel(in.reference, options, call);
                }));
            return PullKernelReply{{}, to_wire(record)};
        });
    kernel.job<ImportKernel, PullKernelReply>(
        "Import", {},
        [&](const ImportKernel& in, Reporter<PullKernelReply>& call) -> Result<PullKernelReply> {
            const ArtifactName name = BANGER_TRY(ArtifactName::parse(in.name));
            const KernelRecord record = BANGER_TRY(recorded(store, "kernel.import", in.name, [&] {
                return images.import_kernel(name, {.tree = in.from}, call);
            }));
            return PullKernelReply{{}, to_wire(record)};
        });
    kernel.job<NamedArtifact, DeleteKernelReply>(
        "Delete", {},
        [&](const NamedArtifact& in, Reporter<DeleteKernelReply>&) -> Result<DeleteKernelReply> {
            return DeleteKernelReply{to_wire(BANGER_TRY(recorded(
                store, "kernel.delete", in.name, [&] { return images.remove_kernel(in.name); })))};
        });
    return kernel;
}

}  // namespace banger
