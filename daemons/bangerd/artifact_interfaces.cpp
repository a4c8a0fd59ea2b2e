#include "core/protocol/image.hpp"
#include "core/protocol/image_fields.hpp"
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

Result<std::optional<ArtifactName>> wanted_name(const PullArtifact& in) {
    if (!in.name) return std::optional<ArtifactName>();
    return std::optional(BANGER_TRY(ArtifactName::parse(*in.name)));
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
    image.job<PullArtifact, PullImageReply>(
        "Pull", {},
        [&](const PullArtifact& in, Reporter<PullImageReply>& call) -> Result<PullImageReply> {
            const std::optional<ArtifactName> name = BANGER_TRY(wanted_name(in));
            const ImageRecord record = BANGER_TRY(recorded(store, "image.pull", in.reference, [&] {
                return images.ensure_image(in.reference, name, in.refresh, call);
            }));
            return PullImageReply{{}, to_wire(record, images)};
        });
    image.job<NamedArtifact, DeleteImageReply>(
        "Delete", {},
        [&](const NamedArtifact& in, Reporter<DeleteImageReply>&) -> Result<DeleteImageReply> {
            return DeleteImageReply{
                to_wire(BANGER_TRY(recorded(store, "image.delete", in.name,
                                            [&] { return images.remove_image(in.name); })),
                        images)};
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
            const std::optional<ArtifactName> name = BANGER_TRY(wanted_name(in));
            const KernelRecord record =
                BANGER_TRY(recorded(store, "kernel.pull", in.reference, [&] {
                    return images.ensure_kernel(in.reference, name, in.refresh, call);
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
