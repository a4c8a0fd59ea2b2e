#pragma once

#include <optional>
#include <string>

#include "banger/contract/subject.hpp"
#include "banger/contract/suite.hpp"
#include "banger/image_source.hpp"

namespace banger::contract {

BANGER_CONTRACT_SUITE(image_source);

/// `exists()` counts child processes and temporary files only: a cache may stay. `lose()` is not
/// used.
class ImageSourceSubject : public Subject<ImageSource> {
public:
    /// A reference of this source's that leads to something of that kind; empty when it has none.
    virtual std::string reference(ArtifactKind kind) = 0;
    /// One that is surely not this source's.
    virtual std::string foreign_reference() { return "surely-not-mine:x/y@z"; }
    /// One that is this source's, with something wrong with it; empty when there is none.
    virtual std::string broken_reference() { return ""; }
    /// Whether the parts of reference(kind) can be fetched here (no network, small).
    virtual bool can_fetch() { return true; }
};

class ImageSourceContract : public Suite<ImageSourceSubject> {
protected:
    Result<Resolution> resolve(const std::string& reference, ArtifactKind kind,
                               std::stop_token stop = {});
    /// What an image or kernel reference leads to; nothing (the test is skipped) for a redirect or
    /// for what cannot be fetched here.
    std::optional<ArtifactManifest> fetchable(ArtifactKind kind);
    /// All bytes of one part from `from` on, through a file.
    Result<std::string> fetch(const ArtifactManifest& manifest, std::size_t part,
                              std::uint64_t from = 0);
};

}  // namespace banger::contract
