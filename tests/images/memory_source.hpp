#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "banger/image_source.hpp"
#include "core/base/file.hpp"
#include "core/images/sha256.hpp"

namespace banger {

inline Digest digest_of(std::string_view bytes) {
    Sha256 hash;
    hash.add({bytes.data(), bytes.size()});
    return hash.digest();
}

/// A call whose caller can go away, and that remembers what it was told.
class TestCall final : public Call {
public:
    [[nodiscard]] std::stop_token stop() const override { return source_.get_token(); }
    void report(const Progress& progress) override {
        const std::lock_guard lock(mutex_);
        if (stages_.empty() || stages_.back() != progress.stage) stages_.push_back(progress.stage);
    }
    void go_away() { source_.request_stop(); }
    std::vector<std::string> stages() {
        const std::lock_guard lock(mutex_);
        return stages_;
    }

private:
    std::stop_source source_;
    std::mutex mutex_;
    std::vector<std::string> stages_;
};

/// Serves what a test puts in. A reference may have other spellings.
class MemorySource final : public ImageSource {
public:
    struct Artifact {
        ArtifactManifest manifest;
        std::vector<std::string> parts;
    };

    Artifact& add(ArtifactKind kind, const std::string& reference, const std::string& name,
                  PartFormat format, std::vector<std::string> parts, bool has_digests = true) {
        Artifact artifact;
        artifact.manifest.kind = kind;
        artifact.manifest.reference = reference;
        artifact.manifest.suggested_name = name;
        artifact.manifest.architecture = "amd64";
        artifact.manifest.provenance = "made by a test";
        for (const std::string& bytes : parts) {
            Part part{format, {}, ByteCount::bytes(bytes.size()), ""};
            if (has_digests) part.digest = digest_of(bytes);
            artifact.manifest.parts.push_back(part);
        }
        artifact.parts = std::move(parts);
        return artifacts_[reference] = std::move(artifact);
    }
    void call_also(const std::string& other, const std::string& reference) {
        spellings_[other] = reference;
    }
    /// Called before each fetch; an error is what the fetch answers, after half of the bytes.
    std::function<Result<void>(const std::string& reference, std::size_t part, Call& call)> before;

    int resolved() {
        const std::lock_guard lock(mutex_);
        return resolved_;
    }
    /// Bytes that were handed out.
    std::uint64_t served() {
        const std::lock_guard lock(mutex_);
        return served_;
    }
    int fetched() {
        const std::lock_guard lock(mutex_);
        return fetched_;
    }

    Result<Resolution> resolve(const ResolveRequest& request, Call&) override {
        const std::lock_guard lock(mutex_);
        ++resolved_;
        const auto spelling = spellings_.find(request.reference);
        const auto found =
            artifacts_.find(spelling == spellings_.end() ? request.reference : spelling->second);
        if (found == artifacts_.end() || found->second.manifest.kind != request.kind)
            return Error(Errc::not_found, "not mine");
        return Resolution(found->second.manifest);
    }
    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                       std::uint64_t resume_from, const UniqueFd& sink, Call& call) override {
        std::string bytes;
        {
            const std::lock_guard lock(mutex_);
            ++fetched_;
            bytes = artifacts_.at(manifest.reference).parts.at(part).substr(resume_from);
        }
        const Result<void> may = before ? before(manifest.reference, part, call) : ok();
        if (!may) bytes.resize(bytes.size() / 2);
        if (!write_all(sink.get(), bytes)) return Error(Errc::cancelled, "nobody reads");
        const std::lock_guard lock(mutex_);
        served_ += bytes.size();
        return may;
    }
    Result<std::vector<AvailableArtifact>> available(Call&) override {
        return std::vector<AvailableArtifact>();
    }
    std::vector<Check> checks(std::stop_token) override { return {}; }

private:
    std::mutex mutex_;
    std::map<std::string, Artifact> artifacts_;
    std::map<std::string, std::string> spellings_;
    int resolved_ = 0;
    int fetched_ = 0;
    std::uint64_t served_ = 0;
};

}  // namespace banger
