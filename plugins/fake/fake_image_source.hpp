#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "banger/image_source.hpp"
#include "failpoints.hpp"

namespace banger {

/// Serves `fake:NAME[,WORD…]` from memory; README.md has the names and the words that make it
/// misbehave. The same reference is the same bytes in every process.
class FakeImageSource final : public ImageSource {
public:
    explicit FakeImageSource(Failpoints& failpoints) : failpoints_(failpoints) {}

    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override;
    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                       std::uint64_t resume_from, const UniqueFd& sink, Call& call) override;
    Result<std::vector<AvailableArtifact>> available(Call& call) override;
    std::vector<Check> checks(std::stop_token stop) override;

private:
    using Bytes = std::shared_ptr<const std::string>;
    /// The part of that name; made at the first call.
    Bytes bytes_of(const std::string& name);
    Result<Resolution> resolve_tar(const std::string& reference);

    Failpoints& failpoints_;
    std::mutex mutex_;
    std::map<std::string, Bytes> made_;
};

}  // namespace banger
