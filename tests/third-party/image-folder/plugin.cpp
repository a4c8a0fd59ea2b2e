#include <banger/plugin.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

namespace {

using namespace banger;

constexpr std::string_view prefix = "image-folder:";

Error cancelled() { return {Errc::cancelled, "the fetch was cancelled"}; }

/// Serves `image-folder:NAME` from NAME.tar.
class FolderImageSource final : public ImageSource {
public:
    explicit FolderImageSource(std::string folder) : folder_(std::move(folder)) {}

    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override {
        if (!request.reference.starts_with(prefix) || request.kind != ArtifactKind::image)
            return Error(Errc::not_found, "not a reference of image-folder");
        if (call.stop().stop_requested()) return cancelled();
        // What the user typed becomes a file name only as an ArtifactName, which has no slash.
        const ArtifactName name =
            BANGER_TRY(ArtifactName::parse(request.reference.substr(prefix.size())));
        const UniqueFd file = BANGER_TRY(open_tar(name));
        struct stat status {};
        if (::fstat(file.get(), &status) != 0) return Error::from_errno(errno, "fstat");

        ArtifactManifest manifest;
        manifest.kind = ArtifactKind::image;
        manifest.reference = request.reference;
        manifest.suggested_name = name.str();
        manifest.architecture = request.architecture;
        manifest.provenance = "a file of this host, " + folder_ + "/" + name.str() + ".tar";
        const ByteCount size = ByteCount::bytes(static_cast<std::uint64_t>(status.st_size));
        manifest.parts.push_back({PartFormat::tar_layer, std::nullopt, size, name.str()});
        return Resolution(std::move(manifest));
    }

    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part, std::uint64_t,
                       const UniqueFd& sink, Call& call) override {
        if (part >= manifest.parts.size())
            return Error(Errc::invalid_argument, "the image has no such part");
        const ArtifactName name = BANGER_TRY(ArtifactName::parse(manifest.parts[part].locator));
        const UniqueFd file = BANGER_TRY(open_tar(name));
        std::array<char, PIPE_BUF> piece;
        for (std::uint64_t done = 0;;) {
            const ssize_t got = ::read(file.get(), piece.data(), piece.size());
            if (got < 0) return Error::from_errno(errno, "reading " + name.str());
            if (got == 0) return ok();
            BANGER_TRY(write({piece.data(), static_cast<std::size_t>(got)}, sink, call.stop()));
            done += static_cast<std::uint64_t>(got);
            const ByteCount total = manifest.parts[part].size.value_or(ByteCount());
            call.report({"reading " + name.str(), done, total.count(), Progress::Unit::bytes});
        }
    }

    Result<std::vector<AvailableArtifact>> available(Call&) override {
        return std::vector<AvailableArtifact>{};
    }

    std::vector<Check> checks(std::stop_token) override {
        if (::access(folder_.c_str(), R_OK | X_OK) == 0)
            return {{"image folder", CheckStatus::pass, folder_, ""}};
        return {{"image folder", CheckStatus::warn, folder_ + " cannot be read",
                 "Make it, or set plugin.image-folder.folder."}};
    }

private:
    Result<UniqueFd> open_tar(const ArtifactName& name) const {
        const std::string path = folder_ + "/" + name.str() + ".tar";
        UniqueFd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
        if (file) return file;
        if (errno == ENOENT)
            return Error(Errc::invalid_argument, "there is no " + path,
                         "Put the tar file there, or correct the name.");
        return Error::from_errno(errno, "opening " + path);
    }

    /// A pipe may be full for as long as it likes: looks at the stop token in between.
    static Result<void> write(std::string_view bytes, const UniqueFd& sink, std::stop_token stop) {
        while (!bytes.empty()) {
            if (stop.stop_requested()) return cancelled();
            pollfd room{sink.get(), POLLOUT, 0};
            if (::poll(&room, 1, 100) <= 0) continue;
            const ssize_t done = ::write(sink.get(), bytes.data(), bytes.size());
            if (done < 0 && errno == EPIPE) return cancelled();
            if (done < 0 && errno != EINTR) return Error::from_errno(errno, "writing a part");
            if (done > 0) bytes.remove_prefix(static_cast<std::size_t>(done));
        }
        return ok();
    }

    const std::string folder_;
};

class FolderPlugin final : public Plugin {
public:
    explicit FolderPlugin(std::string folder) : source_(std::move(folder)) {}
    Roles roles() override {
        Roles roles;
        roles.image_source = &source_;
        return roles;
    }

private:
    FolderImageSource source_;
};

Result<std::unique_ptr<Plugin>> make(Host& host) {
    const std::string& folder = std::get<std::string>(host.settings().at("folder"));
    if (!folder.starts_with('/'))
        return Error(Errc::invalid_argument, "plugin.image-folder.folder is not an absolute path",
                     "Begin it with a slash.");
    return std::unique_ptr<Plugin>(std::make_unique<FolderPlugin>(folder));
}

}  // namespace

BANGER_PLUGIN("image-folder", make);
