#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"
#include "core/base/keyed_lock.hpp"

namespace banger {

/// A blob that is needed.
struct WantedBlob {
    Digest digest;
    std::optional<ByteCount> size;  ///< more is refused while it comes in
};

/// A blob on the disk.
struct CachedBlob {
    Digest digest;
    bool is_complete = false;
    ByteCount size;  ///< taken on the disk
    std::chrono::sys_seconds changed_at{};
};

/// Bytes by their digest, shared by all images that need them.
///
///     FOLDER/sha256/HEX          complete: was hashed while it was written, and synced to the disk
///                                before it got this name
///     FOLDER/sha256/HEX.partial  what a fetch that was cut off has brought so far
///
/// A fetch goes on where the last one ended, also one that kill -9 ended: the bytes that are there
/// are hashed again, and when the whole turns out wrong, it is fetched once more from the beginning
/// before that is an error. Nothing else is ever in the folder, so a crash leaves nothing to
/// repair.
///
/// Safe from any thread. Two who want one blob do the work once: the second waits and takes it;
/// when the first fails, the second goes on from there. One process at a time uses the folder.
class BlobCache {
public:
    /// Writes the bytes of blob `index` (of the call of ensure_all()) from `resume_from` on to the
    /// pipe `sink`. As ImageSource::fetch(), called from several threads at once. Of what it
    /// reports to `call` only stages without numbers come through: the cache counts the bytes of
    /// all.
    using Fetch = std::function<Result<void>(std::size_t index, std::uint64_t resume_from,
                                             const UniqueFd& sink, Call& call)>;

    explicit BlobCache(std::string folder) : folder_(std::move(folder)) {}

    /// All the blobs, open for reading from their beginning, in order; those that are missing are
    /// fetched, four at a time. A blob may be wanted twice. The first failure ends the other
    /// fetches; what they brought is kept for the next time.
    ///
    /// Reports one stage, "fetching WHAT", with the bytes of all that was missing.
    ///
    /// Errors: Errc::corrupt when the bytes are not those of the digest, more than the size, or
    /// fewer and no more come; no_space, before anything is fetched where the sizes tell, and with
    /// what was fetched given back; cancelled; and what `fetch` says.
    Result<std::vector<UniqueFd>> ensure_all(std::span<const WantedBlob> blobs, const Fetch& fetch,
                                             const std::string& what, Call& call);

    /// Those that ensure_all() would have to fetch, each once.
    [[nodiscard]] std::vector<WantedBlob> missing(std::span<const WantedBlob> blobs) const;

    /// A complete blob. Errc::not_found.
    Result<UniqueFd> open(const Digest& digest) const;

    /// Complete and partial ones, by digest. An absent folder is an empty cache.
    [[nodiscard]] Result<std::vector<CachedBlob>> list() const;

    /// Removes the blob and what there is of it. Succeeds when there is none. Whoever has it open
    /// keeps it. Errc::busy while it is being fetched.
    Result<void> remove(const Digest& digest);

    /// Hashes a complete blob again and removes it when it is damaged. True when it was.
    Result<bool> remove_if_damaged(const Digest& digest);

    /// Called once, before anything else: removes what is not ours, and partial blobs that nobody
    /// went on with for `max_age`. Returns how many.
    Result<int> recover(std::chrono::hours max_age);

private:
    class Tally;

    Result<UniqueFd> ensure(const WantedBlob& blob, std::size_t index, const Fetch& fetch,
                            Tally& tally, Call& call);
    Result<void> complete(const WantedBlob& blob, std::size_t index, const Fetch& fetch,
                          Tally& tally, Call& call);
    Result<void> publish(const WantedBlob& blob, const UniqueFd& file);
    Result<void> check_room(std::span<const WantedBlob> missing, const std::string& what) const;
    [[nodiscard]] bool has(const WantedBlob& blob) const;
    [[nodiscard]] std::string path_of(const Digest& digest) const;
    [[nodiscard]] std::string partial_of(const Digest& digest) const;

    std::string folder_;
    KeyedLock locks_;
};

}  // namespace banger
