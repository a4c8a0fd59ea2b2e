#pragma once

#include <memory>
#include <vector>

#include "banger/plugin.hpp"
#include "plugins/catalog/catalog.hpp"

namespace banger::catalog {

/// Speaks for names that a catalog has: a recipe becomes a Redirect, a bundle a manifest of one
/// part.
///
/// A bundle beside a catalog of this host is read from there, and from nowhere outside of its
/// folder.
///
/// A broken catalog file is no reason to refuse what the others answer. But a plain name that none
/// of them has may be in the broken one: then its error is the answer, rather than a search in
/// places where the name means something else.
///
/// fetch() downloads through the Host. It resumes only from a server that honours ranges, which it
/// asks for first: half of a bundle followed by its beginning would be found out only at the end.
class CatalogSource : public Plugin, public ImageSource {
public:
    /// `added`: the folder of AddedCatalogs; empty for none.
    CatalogSource(Host& host, std::vector<std::string> files, std::string added)
        : host_(host), files_(std::move(files)), added_(std::move(added)) {}

    Roles roles() override;
    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override;
    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                       std::uint64_t resume_from, const UniqueFd& sink, Call& call) override;
    Result<std::vector<AvailableArtifact>> available(Call& call) override;
    std::vector<Check> checks(std::stop_token stop) override;

private:
    [[nodiscard]] Catalogs load() const;
    Result<void> download(const Part& part, std::uint64_t resume_from, const UniqueFd& sink,
                          Call& call);

    Host& host_;
    std::vector<std::string> files_;
    std::string added_;
};

Result<std::unique_ptr<Plugin>> make_catalog(Host& host);

}  // namespace banger::catalog
