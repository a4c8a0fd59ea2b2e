#include <banger/plugin.hpp>
#include <banger/web.hpp>

#include <algorithm>
#include <array>
#include <sstream>

namespace {

using namespace banger;

constexpr std::string_view prefix = "image-http:";
constexpr std::array<std::string_view, 4> suffixes{".tar", ".tar.gz", ".tar.xz", ".tar.zst"};

/// One line of SHA256SUMS that is of use.
struct Entry {
    ArtifactName name;  ///< without the suffix
    std::string file;
    Digest digest;
};

/// "HEX  FILE" or "HEX *FILE", as sha256sum(1) writes it. Foreign text: what is not a plain name
/// with a known suffix and a whole digest is passed over.
std::vector<Entry> entries_of(const std::string& sums) {
    std::vector<Entry> entries;
    std::istringstream lines(sums);
    for (std::string line; std::getline(lines, line);) {
        if (line.size() < 67 || line[64] != ' ') continue;
        const Result<Digest> digest = Digest::parse("sha256:" + line.substr(0, 64));
        const std::string file = line.substr(66);
        for (const std::string_view suffix : suffixes) {
            if (!digest || !file.ends_with(suffix)) continue;
            const Result<ArtifactName> name =
                ArtifactName::parse(file.substr(0, file.size() - suffix.size()));
            if (name) entries.push_back({*name, file, *digest});
        }
    }
    return entries;
}

class HttpImageSource final : public ImageSource {
public:
    HttpImageSource(Host& host, std::string url) : host_(host), url_(std::move(url)) {}

    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override {
        if (!request.reference.starts_with(prefix) || request.kind != ArtifactKind::image)
            return Error(Errc::not_found, "not a reference of image-http");
        const ArtifactName name =
            BANGER_TRY(ArtifactName::parse(request.reference.substr(prefix.size())));
        if (url_.empty())
            return Error(Errc::unavailable, "image-http has no server",
                         "Set plugin.image-http.url.");
        const std::vector<Entry> entries = BANGER_TRY(listing(call));
        const auto entry = std::ranges::find(entries, name, &Entry::name);
        if (entry == entries.end())
            return Error(Errc::invalid_argument,
                         "there is no " + name.str() + " in " + url_ + "/SHA256SUMS",
                         "See: banger image list --available");
        ArtifactManifest manifest;
        manifest.kind = ArtifactKind::image;
        manifest.reference = request.reference;
        manifest.suggested_name = name.str();
        manifest.architecture = request.architecture;
        manifest.provenance = "sha256 of " + url_ + "/SHA256SUMS";
        manifest.parts.push_back({PartFormat::tar_layer, entry->digest, std::nullopt, entry->file});
        return Resolution(std::move(manifest));
    }

    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                       std::uint64_t resume_from, const UniqueFd& sink, Call& call) override {
        if (part >= manifest.parts.size())
            return Error(Errc::invalid_argument, "the image has no such part");
        // The locator came from resolve(), but through core's store: it is looked at again.
        const std::string& file = manifest.parts[part].locator;
        const bool is_known = std::ranges::any_of(suffixes, [&](std::string_view suffix) {
            return file.ends_with(suffix) &&
                   ArtifactName::parse(file.substr(0, file.size() - suffix.size()));
        });
        if (!is_known)
            return Error(Errc::invalid_argument, "the image's note is none of image-http's",
                         "Pull the image again.");
        HttpRequest request;
        request.url = url_ + "/" + file;
        request.resume_from = resume_from;
        request.deadline = std::chrono::hours(2);
        const HttpResponse response = BANGER_TRY(download(request, sink, call));
        if (response.status == 200 || response.status == 206) return ok();
        return refused(request.url, response);
    }

    Result<std::vector<AvailableArtifact>> available(Call& call) override {
        std::vector<AvailableArtifact> artifacts;
        if (url_.empty()) return artifacts;
        for (const Entry& entry : BANGER_TRY(listing(call)))
            artifacts.push_back({ArtifactKind::image, std::string(prefix) + entry.name.str(), "",
                                 "amd64", "from " + url_});
        return artifacts;
    }

    std::vector<Check> checks(std::stop_token) override {
        if (!url_.empty()) return {{"image server", CheckStatus::pass, url_, ""}};
        return {{"image server", CheckStatus::warn, "none is set", "Set plugin.image-http.url."}};
    }

private:
    static Error refused(const std::string& url, const HttpResponse& response) {
        return {Errc::unavailable, url + " answers with status " + std::to_string(response.status),
                "Correct plugin.image-http.url, or ask who runs that server."};
    }

    Result<std::vector<Entry>> listing(Call& call) {
        HttpRequest request;
        request.url = url_ + "/SHA256SUMS";
        request.max_body = ByteCount::mib(1);
        const HttpResponse response = BANGER_TRY(host_.http_get(request, call));
        if (response.status != 200) return refused(request.url, response);
        return entries_of(response.body);
    }

    /// From the middle only where the host can insist on it: a server that sends the whole instead
    /// would be written behind what is there.
    Result<HttpResponse> download(const HttpRequest& request, const UniqueFd& sink, Call& call) {
        if (request.resume_from == 0) return host_.http_download(request, sink.get(), call);
        Web* const web = web_of(host_);
        if (web == nullptr) return Error(Errc::unsupported, "this host cannot resume");
        WebRequest exact(request);
        exact.must_resume = true;
        return HttpResponse(BANGER_TRY(web->web_download(exact, sink.get(), call)));
    }

    Host& host_;
    const std::string url_;
};

class HttpPlugin final : public Plugin {
public:
    HttpPlugin(Host& host, std::string url) : source_(host, std::move(url)) {}
    Roles roles() override {
        Roles roles;
        roles.image_source = &source_;
        return roles;
    }

private:
    HttpImageSource source_;
};

Result<std::unique_ptr<Plugin>> make(Host& host) {
    std::string url = std::get<std::string>(host.settings().at("url"));
    while (url.ends_with('/'))
        url.pop_back();
    return std::unique_ptr<Plugin>(std::make_unique<HttpPlugin>(host, std::move(url)));
}

}  // namespace

BANGER_PLUGIN("image-http", make);
