#pragma once

#include <memory>
#include <string>
#include <vector>

#include "banger/plugin.hpp"
#include "plugins/image-debian/build_command.hpp"

namespace banger::image_debian {

/// Builds Debian images and kernels with mmdebstrap, which verifies everything that it downloads
/// against the keys of the Debian archive.
///
/// resolve() only looks into the table of recipes. fetch() runs mmdebstrap and lets it write its
/// tar straight into the sink; what it prints becomes progress, and on failure the error. A build
/// that fails, is cancelled or loses its reader leaves nothing but downloaded packages, which the
/// next build uses. One build of a kind uses the packages at a time; a second one downloads its
/// own. A mmdebstrap that a killed daemon left is ended when the plugin is made next, and its
/// folder removed by the next fetch().
class DebianSource : public Plugin, public ImageSource {
public:
    DebianSource(Host& host, Options options) : host_(host), options_(std::move(options)) {}

    Roles roles() override;
    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override;
    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                       std::uint64_t resume_from, const UniqueFd& sink, Call& call) override;
    Result<std::vector<AvailableArtifact>> available(Call& call) override;
    std::vector<Check> checks(std::stop_token stop) override;

private:
    Result<void> build(const Recipe& recipe, const std::string& program, const UniqueFd& sink,
                       Call& call);

    Host& host_;
    Options options_;
};

/// Whether a line "NAME:FIRST:COUNT" of /etc/subuid or /etc/subgid gives `user` at least 65536 ids.
bool has_subordinate_ids(std::string_view table, std::string_view user);

Result<std::unique_ptr<Plugin>> make_image_debian(Host& host);

}  // namespace banger::image_debian
