#pragma once

#include <memory>
#include <vector>

#include "banger/plugin.hpp"

namespace banger::catalog {

/// Speaks for names that a catalog has: a recipe becomes a Redirect, a bundle a manifest of one
/// part.
///
/// A broken catalog file is no reason to refuse what the others answer. But a plain name that none
/// of them has may be in the broken one: then its error is the answer, rather than a search in
/// places where the name means something else.
///
/// fetch() downloads through the Host. It resumes only from a server that honours ranges, which it
/// asks for first: half of a bundle followed by its beginning would be found out only at the end.
class CatalogSource : public Plugin, public ImageSource {
public:
    CatalogSource(Host& host, std::vector<std::string> files)
        : host_(host), files_(std::move(files)) {}

    Roles roles() override;
    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override;
    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                       std::uint64_t resume_from, const UniqueFd& sink, Call& call) override;
    Result<std::vector<AvailableArtifact>> available(Call& call) override;
    std::vector<Check> checks(std::stop_token stop) override;

private:
    Host& host_;
    std::vector<std::string> files_;
};

Result<std::unique_ptr<Plugin>> make_catalog(Host& host);

}  // namespace banger::catalog
