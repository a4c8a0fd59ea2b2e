#include "plugins/catalog/source.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "core/base/open_beneath.hpp"
#include "core/base/process.hpp"
#include "plugins/catalog/catalog.hpp"

namespace banger::catalog {

namespace {

/// A locator of ours for a file below a folder: prefix, folder, a line end, path.
constexpr std::string_view local_prefix = "folder:";
constexpr std::size_t copy_buffer = std::size_t{256} << 10;

std::string locator_of(const Bundle& bundle, const std::string& base) {
    if (is_fetchable(bundle.url)) return bundle.url;
    if (base.starts_with('/')) return std::string(local_prefix) + base + "\n" + bundle.url;
    return base + bundle.url;
}

Resolution resolution_of(const Listed& listed) {
    const Entry& entry = listed.entry;
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
    manifest.provenance = listed.trust;
    manifest.kernel_reference = entry.kernel;
    manifest.parts.push_back(
        {PartFormat::bundle, bundle.digest, bundle.size, locator_of(bundle, listed.base)});
    return manifest;
}

/// Below the folder, through no link: what somebody puts on a stick must not lead to files of this
/// host.
Result<UniqueFd> open_below(const std::string& folder, const std::string& path) {
    const UniqueFd above(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    const std::string remedy =
        "Check that the folder or medium with the catalog is there, then try again.";
    if (!above) {
        Error error = Error::from_errno(errno, "opening " + folder);
        error.remedy = remedy;
        return error;
    }
    UniqueFd file = open_beneath(above.get(), path, O_RDONLY | O_NONBLOCK);
    if (!file) {
        const bool is_link = errno == ELOOP || errno == ENOTDIR;
        Error error = Error::from_errno(errno, "opening " + path + " in " + folder);
        error.remedy = is_link ? "Put the file itself there, not a link." : remedy;
        return error;
    }
    struct stat status {};
    if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
        return Error(Errc::invalid_argument, folder + path + " is not a file",
                     "Put the bundle there.");
    return file;
}

Result<void> copy_local(std::string_view locator, std::optional<ByteCount> size, std::uint64_t from,
                        const UniqueFd& sink, Call& call) {
    locator.remove_prefix(local_prefix.size());
    const std::size_t end = locator.find('\n');
    const std::string folder(locator.substr(0, end));
    const std::string path(end == locator.npos ? "" : locator.substr(end + 1));
    if (!folder.starts_with('/') || !is_relative_path(path))
        return Error(Errc::invalid_argument, "the part's locator is not of a catalog");
    const UniqueFd file = BANGER_TRY(open_below(folder, path));
    std::vector<char> buffer(copy_buffer);
    const std::uint64_t most = size ? size->count() : ~std::uint64_t{0};
    for (std::uint64_t at = from;;) {
        const ssize_t count =
            ::pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(at));
        if (count < 0) return Error::from_errno(errno, "reading " + path);
        if (count == 0) return ok();
        at += static_cast<std::uint64_t>(count);
        if (at > most)
            return Error(Errc::corrupt, folder + path + " is larger than its catalog says",
                         "Ask whoever made the catalog.");
        std::string_view rest(buffer.data(), static_cast<std::size_t>(count));
        while (!rest.empty()) {
            BANGER_TRY(poll_fd(sink.get(), POLLOUT, std::chrono::milliseconds(-1), call.stop()));
            // What a pipe takes at once without waiting for its reader.
            const std::string_view piece = rest.substr(0, PIPE_BUF);
            const ssize_t done = ::write(sink.get(), piece.data(), piece.size());
            if (done < 0 && errno == EPIPE) return Error(Errc::cancelled, "nobody reads any more");
            if (done < 0 && errno != EINTR) return Error::from_errno(errno, "writing " + path);
            if (done > 0) rest.remove_prefix(static_cast<std::size_t>(done));
        }
        call.report({"reading " + path, at, size ? most : 0, Progress::Unit::bytes});
    }
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

Catalogs CatalogSource::load() const {
    return load_catalogs(
        files_, added_,
        std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now()));
}

Result<Resolution> CatalogSource::resolve(const ResolveRequest& request, Call& call) {
    if (call.stop().stop_requested()) return Error(Errc::cancelled, "cancelled");
    const Result<ArtifactName> name = ArtifactName::parse(request.reference);
    if (!name) return Error(Errc::not_found, "no catalog speaks for such a reference");
    const Catalogs all = load();
    if (const Listed* listed = all.find(request.kind, name->str(), request.architecture))
        return resolution_of(*listed);
    if (const BrokenCatalog* broken = all.find_broken(request.kind, name->str()))
        return Error(broken->error).context("looking for \"" + name->str() + "\" in the catalogs");
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
    if (wanted.locator.starts_with(local_prefix))
        return copy_local(wanted.locator, wanted.size, resume_from, sink, call);
    return download(wanted, resume_from, sink, call);
}

Result<void> CatalogSource::download(const Part& wanted, std::uint64_t resume_from,
                                     const UniqueFd& sink, Call& call) {
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
    const Catalogs all = load();
    for (const BrokenCatalog& broken : all.broken)
        host_.log(LogLevel::warning, broken.error.text());
    std::vector<AvailableArtifact> list;
    for (const Listed& listed : all.entries)
        list.push_back({listed.entry.kind, listed.entry.name.str(), listed.entry.distro,
                        listed.entry.architecture, listed.entry.description});
    return list;
}

std::vector<Check> CatalogSource::checks(std::stop_token) {
    const Catalogs all = load();
    std::vector<Check> rows;
    for (const BrokenCatalog& broken : all.broken)
        rows.push_back({"catalog " + broken.file, CheckStatus::fail, broken.error.message,
                        broken.error.remedy});
    if (rows.empty())
        rows.push_back({"catalogs", CheckStatus::pass,
                        std::to_string(all.entries.size()) + " entries in " +
                            std::to_string(all.count) + (all.count == 1 ? " catalog" : " catalogs"),
                        ""});
    return rows;
}

Result<std::unique_ptr<Plugin>> make_catalog(Host& host) {
    std::vector<std::string> files;
    if (const auto found = host.settings().find("files"); found != host.settings().end())
        if (const auto* list = std::get_if<std::vector<std::string>>(&found->second)) files = *list;
    return std::unique_ptr<Plugin>(
        std::make_unique<CatalogSource>(host, std::move(files), host.state_folder() + "/added"));
}

}  // namespace banger::catalog

BANGER_PLUGIN("catalog", banger::catalog::make_catalog);
