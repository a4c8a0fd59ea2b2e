#include "plugins/image-oci/source.hpp"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

#include "core/base/names.hpp"
#include "plugins/image-oci/archive.hpp"
#include "plugins/image-oci/bytes.hpp"
#include "plugins/image-oci/image.hpp"

namespace banger::image_oci {

namespace {

constexpr std::size_t longest_description = 200;

/// A label is foreign text and may be a page.
std::string one_line(std::string_view text) {
    std::string line;
    for (const char c : text.substr(0, longest_description))
        line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
    return line;
}

ArtifactManifest manifest_of(std::string reference, std::string name, const ImageConfig& config,
                             std::string provenance) {
    ArtifactManifest manifest;
    manifest.reference = std::move(reference);
    manifest.suggested_name = std::move(name);
    manifest.architecture = config.platform.architecture;
    manifest.description = one_line(config.description);
    manifest.provenance = std::move(provenance);
    manifest.run_config = config.run;
    return manifest;
}

/// The documents of one image of a registry.
class RegistryDocuments final : public Documents {
public:
    RegistryDocuments(RegistryClient& registries, const ImageReference& image)
        : registries_(registries), image_(image) {}

    Result<std::string> manifest(const Descriptor& descriptor, Call& call) override {
        ImageReference exact = image_;
        exact.tag.clear();
        exact.digest = descriptor.digest;
        SentDocument sent = BANGER_TRY(registries_.manifest(exact, call));
        BANGER_TRY(check_content_type(sent.content_type, descriptor));
        return std::move(sent.body);
    }
    Result<std::string> config(const Descriptor& descriptor, Call& call) override {
        return registries_.blob(image_, descriptor, call);
    }

private:
    RegistryClient& registries_;
    const ImageReference& image_;
};

/// A word that could be the name of a catalog's entry.
bool is_plain_name(std::string_view reference) {
    return reference.find_first_of("/:@") == reference.npos;
}

/// Such a word is an image of a registry only because nobody else knows it, and mostly a typing
/// mistake.
Error of_plain_name(Error error, const std::string& name, const std::string& kind) {
    if (error.code == Errc::cancelled) return error;
    error.message = "no catalog has " + quoted(name) + ", and " + error.message;
    error.remedy = "See `banger " + kind + " list --available`." +
                   (error.code == Errc::invalid_argument ? "" : " " + error.remedy);
    return error;
}

Result<void> check_sent(const ImageReference& reference, const SentDocument& sent,
                        const Digest& digest) {
    const auto wrong = [&](const std::string& wanted) {
        return Error(Errc::corrupt,
                     reference.registry + " sent a manifest with the digest " + digest.str() +
                         " instead of " + wanted,
                     "Try again; if it stays so, the registry is damaged or was tampered with.");
    };
    if (reference.digest && *reference.digest != digest) return wrong(reference.digest->str());
    if (sent.digest.starts_with("sha256:") && sent.digest != digest.str())
        return wrong(quoted(sent.digest));
    return ok();
}

}  // namespace

Roles OciSource::roles() {
    Roles roles;
    roles.image_source = this;
    return roles;
}

Result<Resolution> OciSource::resolve(const ResolveRequest& request, Call& call) {
    if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
    if (request.kind != ArtifactKind::image)
        return Error(Errc::not_found, "registries have no kernels");
    const Reference reference = BANGER_TRY(parse_reference(request.reference, default_registry()));
    if (const auto* file = std::get_if<FileReference>(&reference)) {
        FiledImage image = BANGER_TRY(read_filed_image(*file, request.architecture, call));
        FileReference named = *file;
        if (named.name.empty() && !named.digest) named.name = image.name;
        ArtifactManifest manifest =
            manifest_of(file->text(), suggested_name(named), image.config,
                        "a file of this host, " + file->path + ": " + image.digest.str());
        manifest.parts = std::move(image.parts);
        return Resolution(std::move(manifest));
    }
    Result<ArtifactManifest> manifest =
        resolve_image(std::get<ImageReference>(reference), request.architecture, call);
    if (manifest) return Resolution(*std::move(manifest));
    if (!is_plain_name(request.reference)) return std::move(manifest).error();
    return of_plain_name(std::move(manifest).error(), request.reference, "image");
}

Result<ArtifactManifest> OciSource::resolve_image(const ImageReference& reference,
                                                  const std::string& architecture, Call& call) {
    call.report({"asking " + reference.registry + " for " + reference.repository, 0, 0,
                 Progress::Unit::none});
    const SentDocument sent = BANGER_TRY(registries_.manifest(reference, call));
    const Digest digest = digest_of(sent.body);
    BANGER_TRY(check_sent(reference, sent, digest));
    RegistryDocuments documents(registries_, reference);
    const Image image =
        BANGER_TRY(find_image(BANGER_TRY(parse_manifest(sent.body, sent.content_type)), digest,
                              architecture, documents, call));
    ArtifactManifest manifest = manifest_of(
        reference.text(), suggested_name(reference), image.config,
        reference.digest
            ? "pinned by its digest, every part checked"
            : "what " + reference.registry + " called " + reference.tag + ": " + digest.str());
    ImageReference part = reference;
    part.tag.clear();
    for (const Descriptor& layer : image.manifest.layers) {
        part.digest = layer.digest;
        manifest.parts.push_back({PartFormat::tar_layer, layer.digest, layer.size, part.text()});
    }
    return manifest;
}

Result<void> OciSource::fetch(const ArtifactManifest& manifest, std::size_t part,
                              std::uint64_t resume_from, const UniqueFd& sink, Call& call) {
    if (part >= manifest.parts.size())
        return Error(Errc::invalid_argument, "there is no part " + std::to_string(part));
    if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
    const Part& wanted = manifest.parts[part];
    const std::string layer =
        "layer " + std::to_string(part + 1) + " of " + std::to_string(manifest.parts.size());
    const Result<Reference> image = parse_reference(manifest.reference, default_registry());
    if (!image) return Error(Errc::invalid_argument, "the image's reference is not one of ours");
    if (const auto* file = std::get_if<FileReference>(&*image))
        return send_filed_part(*file, wanted, resume_from, sink, "reading " + layer, call);

    const Result<Reference> place = parse_reference(wanted.locator, default_registry());
    const auto* blob = place ? std::get_if<ImageReference>(&*place) : nullptr;
    if (!blob || !blob->digest || !wanted.size || wanted.digest != blob->digest)
        return Error(Errc::invalid_argument, "the part's locator is no blob of a registry");
    const Descriptor descriptor{"", *blob->digest, *wanted.size, std::nullopt, ""};
    return registries_.download(*blob, descriptor, resume_from, sink, "downloading " + layer, call)
        .context("downloading " + layer + " of " + manifest.reference);
}

Result<std::vector<AvailableArtifact>> OciSource::available(Call&) {
    return std::vector<AvailableArtifact>{};
}

std::vector<Check> OciSource::checks(std::stop_token) {
    const Options& options = registries_.options();
    std::string detail = options.default_registry + " unless a reference names another";
    if (!options.mirrors.empty())
        detail += "; " + std::to_string(options.mirrors.size()) + " mirrors";
    if (!options.insecure_registries.empty())
        detail += "; " + std::to_string(options.insecure_registries.size()) +
                  " registries without encryption";
    return {{"registries", CheckStatus::pass, std::move(detail), ""},
            registries_.credentials().check()};
}

namespace {

std::string home_folder() {
    if (const char* home = ::getenv("HOME"); home && *home == '/') return home;
    char buffer[16384];
    passwd entry{};
    passwd* found = nullptr;
    if (::getpwuid_r(::getuid(), &entry, buffer, sizeof buffer, &found) != 0 || !found) return "";
    return found->pw_dir;
}

}  // namespace

Result<std::unique_ptr<Plugin>> make_image_oci(Host& host) {
    Options options = BANGER_TRY(read_options(host.settings(), home_folder()));
    Web* web = web_of(host);
    if (!web)
        return Error(Errc::unsupported, "this banger gives its plugins no web to ask registries",
                     "Use a newer banger.");
    return std::unique_ptr<Plugin>(std::make_unique<OciSource>(host, *web, std::move(options)));
}

}  // namespace banger::image_oci

BANGER_PLUGIN("image-oci", banger::image_oci::make_image_oci);
