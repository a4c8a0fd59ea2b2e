#include "plugins/catalog/source.hpp"

#include <algorithm>

#include "plugins/catalog/catalog.hpp"

namespace banger::catalog {

namespace {

Resolution resolution_of(const Entry& entry) {
    if (const Recipe* recipe = std::get_if<Recipe>(&entry.content))
        return Redirect{recipe->reference, entry.name.str(), entry.distro, entry.description,
                        entry.kernel};
    const Bundle& bundle = std::get<Bundle>(entry.content);
    ArtifactManifest manifest;
    manifest.kind = entry.kind;
    manifest.reference = entry.name.str();
    manifest.suggested_name = entry.name.str();
    manifest.distro = entry.distro;
    manifest.architecture = entry.architecture;
    manifest.description = entry.description;
    manifest.provenance = "sha256 pinned in the catalog";
    manifest.kernel_reference = entry.kernel;
    manifest.parts.push_back({PartFormat::bundle, bundle.digest, bundle.size, bundle.url});
    return manifest;
}

Error refused(const HttpResponse& response, const std::string& url) {
    const std::string message =
        "the server answered " + std::to_string(response.status) + " for " + url;
    if (response.status >= 500) return Error(Errc::unreachable, message, "Try again later.");
    return Error(Errc::not_found, message,
                 "Ask whoever keeps the catalog; the bundle may have moved.");
}

/// A server that ignores ranges answers 200, and mostly with more than fits.
Result<void> require_ranges(Host& host, const std::string& url, Call& call) {
    HttpRequest probe;
    probe.url = url;
    probe.headers = {{"Range", "bytes=0-0"}};
    probe.max_body = ByteCount::kib(4);  // room for an error page
    const Result<HttpResponse> response = host.http_get(probe, call);
    if (response && response->status == 206) return ok();
    if (!response && response.error().code != Errc::corrupt) return response.error();
    if (response && response->status >= 400) return refused(*response, url);
    return Error(Errc::unsupported, "the server cannot continue a download of " + url,
                 "Download it from the beginning.");
}

}  // namespace

Roles CatalogSource::roles() {
    Roles roles;
    roles.image_source = this;
    return roles;
}

Result<Resolution> CatalogSource::resolve(const ResolveRequest& request, Call& call) {
    if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
    const Result<ArtifactName> name = ArtifactName::parse(request.reference);
    if (!name) return Error(Errc::not_found, "no catalog speaks for such a reference");
    const Catalogs all = load_catalogs(files_);
    if (const Entry* entry = all.find(request.kind, name->str(), request.architecture))
        return resolution_of(*entry);
    if (!all.broken.empty())
        return Error(all.broken.front().error)
            .context("looking for \"" + name->str() + "\" in the catalogs");
    const std::string_view kind = to_string(request.kind);
    return Error(Errc::not_found,
                 "no catalog has the " + std::string(kind) + " \"" + name->str() + "\"",
                 "See `banger " + std::string(kind) + " list --available`.");
}

Result<void> CatalogSource::fetch(const ArtifactManifest& manifest, std::size_t part,
                                  std::uint64_t resume_from, const UniqueFd& sink, Call& call) {
    if (part >= manifest.parts.size())
        return Error(Errc::invalid_argument, "there is no part " + std::to_string(part));
    const Part& wanted = manifest.parts[part];
    if (!is_fetchable(wanted.locator))
        return Error(Errc::invalid_argument, "the part's locator is not a URL of a catalog");
    if (resume_from > 0) BANGER_TRY(require_ranges(host_, wanted.locator, call));
    HttpRequest request;
    request.url = wanted.locator;
    request.resume_from = resume_from;
    if (wanted.size) request.max_body = *wanted.size;
    // A stalled transfer ends much earlier; this only bounds one that drips.
    request.deadline = std::chrono::hours(6);
    const HttpResponse response = BANGER_TRY(host_.http_download(request, sink.get(), call));
    if (response.status >= 400) return refused(response, wanted.locator);
    if (response.status != (resume_from > 0 ? 206 : 200))
        return Error(Errc::corrupt,
                     "the server answered " + std::to_string(response.status) + " for " +
                         wanted.locator + " and sent something else than was asked for",
                     "Try again.");
    return ok();
}

Result<std::vector<AvailableArtifact>> CatalogSource::available(Call&) {
    const Catalogs all = load_catalogs(files_);
    for (const BrokenCatalog& broken : all.broken)
        host_.log(LogLevel::warning, broken.error.text());
    std::vector<AvailableArtifact> list;
    for (const Entry& entry : all.entries)
        list.push_back(
            {entry.kind, entry.name.str(), entry.distro, entry.architecture, entry.description});
    return list;
}

std::vector<Check> CatalogSource::checks(std::stop_token) {
    const Catalogs all = load_catalogs(files_);
    std::vector<Check> rows;
    for (const BrokenCatalog& broken : all.broken)
        rows.push_back({"catalog " + broken.file, CheckStatus::fail, broken.error.message,
                        broken.error.remedy});
    if (rows.empty())
        rows.push_back({"catalogs", CheckStatus::pass,
                        std::to_string(all.entries.size()) +
                            " entries in the built-in catalog and " +
                            std::to_string(files_.size()) + " files",
                        ""});
    return rows;
}

Result<std::unique_ptr<Plugin>> make_catalog(Host& host) {
    std::vector<std::string> files;
    if (const auto found = host.settings().find("files"); found != host.settings().end())
        if (const auto* list = std::get_if<std::vector<std::string>>(&found->second)) files = *list;
    return std::unique_ptr<Plugin>(std::make_unique<CatalogSource>(host, std::move(files)));
}

}  // namespace banger::catalog

BANGER_PLUGIN("catalog", banger::catalog::make_catalog);
