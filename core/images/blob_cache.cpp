#include "core/images/blob_cache.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "core/base/file.hpp"
#include "core/base/rollback.hpp"
#include "core/images/sha256.hpp"

namespace banger {

namespace {

constexpr std::size_t fetched_at_once = 4;
/// A source that breaks off again and again is let go on this often, if each time brings something.
constexpr int max_attempts = 10;
/// For a blob whose size nobody told.
constexpr ByteCount max_blob = ByteCount::gib(256);
constexpr std::size_t buffer_size = std::size_t{256} << 10;
constexpr std::string_view partial_suffix = ".partial";
constexpr const char* room_remedy =
    "Free some: `banger image cache prune`, `banger image delete`, `banger vm prune`.";

/// A call inside a call: ends with the outer one, and can be ended alone.
class FetchCall final : public Call {
public:
    explicit FetchCall(Call& outer)
        : outer_(outer), on_stop_(outer.stop(), [this] { source_.request_stop(); }) {}
    [[nodiscard]] std::stop_token stop() const override { return source_.get_token(); }
    /// Bytes are counted by the cache; "waiting, as the registry asks" is worth passing on.
    void report(const Progress& progress) override {
        if (progress.unit == Progress::Unit::none) outer_.report(progress);
    }
    void end() { source_.request_stop(); }

private:
    Call& outer_;
    std::stop_source source_;
    std::stop_callback<std::function<void()>> on_stop_;
};

/// A blob on its way in: what the file holds has gone through the hash.
struct Incoming {
    UniqueFd file;
    Sha256 hash;
    std::uint64_t length = 0;

    [[nodiscard]] bool is(const WantedBlob& blob) const {
        return (!blob.size || blob.size->count() == length) && hash.digest() == blob.digest;
    }
    Result<void> start_over() {
        if (::ftruncate(file.get(), 0) != 0 || ::lseek(file.get(), 0, SEEK_SET) != 0)
            return Error::from_errno(errno, "emptying a partial blob");
        hash = Sha256();
        length = 0;
        return ok();
    }
};

/// Hashes the rest of the file, whose position is then its end.
Result<void> hash_rest(int file, Sha256& hash, std::uint64_t& length, const std::stop_token& stop) {
    std::vector<char> buffer(buffer_size);
    for (;;) {
        if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
        const ssize_t count = ::read(file, buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "reading a blob");
        if (count == 0) return ok();
        hash.add({buffer.data(), static_cast<std::size_t>(count)});
        length += static_cast<std::uint64_t>(count);
    }
}

Result<Incoming> open_partial(const std::string& path, const std::stop_token& stop) {
    Incoming in;
    in.file.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!in.file) return Error::from_errno(errno, "open " + path);
    BANGER_TRY(hash_rest(in.file.get(), in.hash, in.length, stop));
    return in;
}

Error too_large(const WantedBlob& blob) {
    return {Errc::corrupt,
            blob.digest.str() + " is larger than " +
                (blob.size ? "the " + std::to_string(blob.size->count()) + " bytes promised"
                           : max_blob.text()),
            "Try again; if it stays so, the source is damaged or was tampered with."};
}

Error mismatch(const WantedBlob& blob, const Incoming& in) {
    return {Errc::corrupt,
            "fetched " + std::to_string(in.length) + " bytes with " + in.hash.digest().str() +
                ", expected " +
                (blob.size ? std::to_string(blob.size->count()) + " bytes with " : "") +
                blob.digest.str(),
            "Try again; if it stays so, the source is damaged or was tampered with."};
}

/// Everything the pipe brings, into the file and through the hash.
Result<void> take_in(int pipe, const WantedBlob& blob, Incoming& in,
                     const std::function<void(std::uint64_t)>& on_bytes) {
    const std::uint64_t limit = blob.size.value_or(max_blob).count();
    std::vector<char> buffer(buffer_size);
    for (;;) {
        const ssize_t count = ::read(pipe, buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error::from_errno(errno, "reading what is fetched");
        if (count == 0) return ok();
        const std::string_view bytes(buffer.data(), static_cast<std::size_t>(count));
        if (bytes.size() > limit - std::min(in.length, limit)) return too_large(blob);
        BANGER_TRY(write_all(in.file.get(), bytes).context("keeping what is fetched"));
        in.hash.add({bytes.data(), bytes.size()});
        in.length += bytes.size();
        on_bytes(bytes.size());
    }
}

/// One call of the source, on a thread of its own, its bytes taken in on this one. When taking in
/// failed, that is the cause and the end of the source its consequence.
Result<void> receive(const WantedBlob& blob, Incoming& in, Call& outer,
                     const std::function<Result<void>(const UniqueFd& sink, Call& call)>& fetch,
                     const std::function<void(std::uint64_t)>& on_bytes) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
    UniqueFd reader(ends[0]);
    // 1 MiB: fewer switches between two threads. A refusal (a limit of the user) costs speed.
    (void)::fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
    FetchCall call(outer);
    Result<void> fetched = Error(Errc::internal, "not fetched");
    Result<void> taken;
    {
        const std::jthread thread([&, sink = UniqueFd(ends[1])]() mutable {
            fetched = fetch(sink, call);
            sink.reset();
        });
        taken = take_in(reader.get(), blob, in, on_bytes);
        if (!taken) call.end();
        reader.reset();  // a writer that waits in write(2) gets EPIPE
    }
    return taken ? fetched : taken;
}

/// What the name of a file says.
struct BlobName {
    Digest digest;
    bool is_complete;
};
std::optional<BlobName> parse_name(std::string_view name) {
    const bool is_partial = name.ends_with(partial_suffix);
    if (is_partial) name.remove_suffix(partial_suffix.size());
    const Result<Digest> digest = Digest::parse("sha256:" + std::string(name));
    if (!digest) return std::nullopt;
    return BlobName{*digest, !is_partial};
}

}  // namespace

/// Bytes of all blobs of one call together.
class BlobCache::Tally {
public:
    Tally(Call& call, std::string stage, std::uint64_t total)
        : call_(call), stage_(std::move(stage)), total_(total) {}
    void add(std::uint64_t bytes) {
        const std::lock_guard lock(mutex_);
        done_ += bytes;
        call_.report({stage_, done_, total_, Progress::Unit::bytes});
    }
    /// They have to come again.
    void take_back(std::uint64_t bytes) {
        const std::lock_guard lock(mutex_);
        done_ -= std::min(done_, bytes);
    }

private:
    Call& call_;
    std::string stage_;
    std::uint64_t total_;  ///< 0: unknown
    std::mutex mutex_;
    std::uint64_t done_ = 0;
};

std::string BlobCache::path_of(const Digest& digest) const {
    return folder_ + "/sha256/" + std::string(digest.hex());
}

std::string BlobCache::partial_of(const Digest& digest) const {
    return path_of(digest) + std::string(partial_suffix);
}

bool BlobCache::has(const WantedBlob& blob) const {
    struct stat status {};
    return ::lstat(path_of(blob.digest).c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
           (!blob.size || static_cast<std::uint64_t>(status.st_size) == blob.size->count());
}

Result<UniqueFd> BlobCache::open(const Digest& digest) const { return open_read(path_of(digest)); }

std::vector<WantedBlob> BlobCache::missing(std::span<const WantedBlob> blobs) const {
    std::vector<WantedBlob> missing;
    for (const WantedBlob& blob : blobs) {
        const bool is_known = std::ranges::any_of(
            missing, [&](const WantedBlob& other) { return other.digest == blob.digest; });
        if (!is_known && !has(blob)) missing.push_back(blob);
    }
    return missing;
}

/// Better said before an hour of downloading than after.
Result<void> BlobCache::check_room(std::span<const WantedBlob> missing,
                                   const std::string& what) const {
    std::uint64_t needed = 0;
    for (const WantedBlob& blob : missing) {
        struct stat status {};
        const std::uint64_t here = ::lstat(partial_of(blob.digest).c_str(), &status) == 0
                                       ? static_cast<std::uint64_t>(status.st_size)
                                       : 0;
        const std::uint64_t size = blob.size.value_or(ByteCount()).count();
        needed += size - std::min(size, here);
    }
    struct statvfs place {};
    if (::statvfs(folder_.c_str(), &place) != 0) return ok();  // then the first write tells
    const ByteCount free = ByteCount::bytes(place.f_bavail * place.f_frsize);
    if (free.count() >= needed) return ok();
    return Error(Errc::no_space,
                 "fetching " + what + " takes " + ByteCount::bytes(needed).text() + ", and only " +
                     free.text() + " are free in " + folder_,
                 room_remedy);
}

Result<std::vector<UniqueFd>> BlobCache::ensure_all(std::span<const WantedBlob> blobs,
                                                    const Fetch& fetch, const std::string& what,
                                                    Call& call) {
    BANGER_TRY(ensure_folder(folder_ + "/sha256", 0700));
    const std::vector<WantedBlob> missing = this->missing(blobs);
    BANGER_TRY(check_room(missing, what));
    std::uint64_t total = 0;
    for (const WantedBlob& blob : missing)
        total += blob.size.value_or(ByteCount()).count();
    if (std::ranges::any_of(missing, [](const WantedBlob& blob) { return !blob.size; })) total = 0;
    Tally tally(call, "fetching " + what, total);

    std::vector<UniqueFd> files(blobs.size());
    std::atomic<std::size_t> next = 0;
    std::mutex mutex;
    std::optional<Error> failure;
    FetchCall inner(call);
    const auto work = [&] {
        for (std::size_t index = next++; index < blobs.size(); index = next++) {
            Result<UniqueFd> file = ensure(blobs[index], index, fetch, tally, inner);
            if (file) {
                files[index] = std::move(file).value();
                continue;
            }
            const std::lock_guard lock(mutex);
            // The others end because of the first, which is what went wrong.
            if (!failure) failure = std::move(file).error();
            inner.end();
            return;
        }
    };
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 1; i < std::min(fetched_at_once, missing.size()); ++i)
            threads.emplace_back(work);
        work();
    }
    if (!failure) return files;
    if (failure->code == Errc::no_space) {
        // Neither half a blob nor half an image is worth the last free bytes.
        for (const WantedBlob& blob : missing)
            (void)remove(blob.digest);
        if (failure->remedy.empty()) failure->remedy = room_remedy;
    }
    return *std::move(failure);
}

Result<UniqueFd> BlobCache::ensure(const WantedBlob& blob, std::size_t index, const Fetch& fetch,
                                   Tally& tally, Call& call) {
    // Not for one that is here: nobody changes that.
    if (has(blob)) return open(blob.digest);
    const KeyedLock::Guard turn = BANGER_TRY(locks_.acquire(blob.digest.str(), call.stop()));
    if (has(blob)) {  // a peer has fetched it meanwhile
        tally.add(blob.size.value_or(ByteCount()).count());
        return open(blob.digest);
    }
    BANGER_TRY(complete(blob, index, fetch, tally, call));
    return open(blob.digest);
}

Result<void> BlobCache::complete(const WantedBlob& blob, std::size_t index, const Fetch& fetch,
                                 Tally& tally, Call& call) {
    const std::string partial = partial_of(blob.digest);
    Incoming in = BANGER_TRY(open_partial(partial, call.stop()));
    tally.add(in.length);
    const auto start_over = [&]() -> Result<void> {
        tally.take_back(in.length);
        return in.start_over();
    };
    const auto give_up = [&](Error error, bool keeps_partial) -> Error {
        if (!keeps_partial || in.length == 0) (void)remove_file(partial);
        return error;
    };
    const auto is_over = [&] { return blob.size && in.length >= blob.size->count(); };

    std::optional<Error> last;
    bool has_started_over = false;
    for (int attempt = 0; attempt < max_attempts; ++attempt) {
        // Killed between the last byte and the new name; and a partial one may be damaged.
        if (in.length > 0 && in.is(blob)) return publish(blob, in.file);
        if (in.length > 0 && is_over()) BANGER_TRY(start_over());
        const std::uint64_t from = in.length;
        const Result<void> fetched = receive(
            blob, in, call,
            [&](const UniqueFd& sink, Call& inner) { return fetch(index, from, sink, inner); },
            [&](std::uint64_t bytes) { tally.add(bytes); });
        if (fetched && in.is(blob)) return publish(blob, in.file);
        const bool has_more = in.length > from;
        if (fetched) {
            last = mismatch(blob, in);
            if (blob.size && !is_over() && has_more) continue;  // cut short without a word
            // What was here before may have been damaged; twice is no accident.
            if (from == 0 || std::exchange(has_started_over, true)) return give_up(*last, false);
            BANGER_TRY(start_over());
            continue;
        }
        last = fetched.error();
        switch (last->code) {
            case Errc::unreachable:
            case Errc::timed_out:
                if (has_more) continue;
                return give_up(*last, true);
            case Errc::unsupported:
            case Errc::corrupt:
                if (from == 0) return give_up(*last, false);
                BANGER_TRY(start_over());
                continue;
            case Errc::no_space:
                return give_up(*last, false);
            default:
                return give_up(*last, true);
        }
    }
    return give_up(last->context("after " + std::to_string(max_attempts) + " attempts"), true);
}

Result<void> BlobCache::publish(const WantedBlob& blob, const UniqueFd& file) {
    const std::string partial = partial_of(blob.digest);
    const std::string path = path_of(blob.digest);
    if (::fsync(file.get()) != 0) {
        const int number = errno;
        (void)remove_file(partial);  // what a failed sync leaves is not to be trusted
        return Error::from_errno(number, "fsync " + partial);
    }
    if (::rename(partial.c_str(), path.c_str()) != 0)
        return Error::from_errno(errno, "rename " + partial);
    return sync_folder(parent_path(path));
}

Result<std::vector<CachedBlob>> BlobCache::list() const {
    std::vector<CachedBlob> blobs;
    const Result<std::vector<std::string>> names = list_folder(folder_ + "/sha256");
    if (!names && names.error().code == Errc::not_found) return blobs;
    if (!names) return names.error();
    for (const std::string& name : *names) {
        const std::optional<BlobName> blob = parse_name(name);
        struct stat status {};
        if (!blob || ::lstat((folder_ + "/sha256/" + name).c_str(), &status) != 0) continue;
        blobs.push_back(
            {.digest = blob->digest,
             .is_complete = blob->is_complete,
             .size = ByteCount::bytes(static_cast<std::uint64_t>(status.st_blocks) * 512),
             .changed_at = std::chrono::sys_seconds(std::chrono::seconds(status.st_mtim.tv_sec))});
    }
    return blobs;
}

Result<void> BlobCache::remove(const Digest& digest) {
    const KeyedLock::Guard turn = BANGER_TRY(locks_.try_acquire(digest.str()));
    ErrorCollector errors;
    errors.add(remove_file(path_of(digest)));
    errors.add(remove_file(partial_of(digest)));
    return errors.result();
}

Result<bool> BlobCache::remove_if_damaged(const Digest& digest) {
    const Result<UniqueFd> file = open(digest);
    if (!file) return false;
    Sha256 hash;
    std::uint64_t length = 0;
    BANGER_TRY(hash_rest(file->get(), hash, length, {}));
    if (hash.digest() == digest) return false;
    BANGER_TRY(remove(digest));
    return true;
}

Result<int> BlobCache::recover(std::chrono::hours max_age) {
    const std::string blobs = folder_ + "/sha256";
    BANGER_TRY(ensure_folder(blobs, 0700));
    const std::time_t oldest =
        std::chrono::system_clock::to_time_t(std::chrono::system_clock::now() - max_age);
    const auto is_kept = [&](const std::string& name) {
        const std::optional<BlobName> blob = parse_name(name);
        struct stat status {};
        if (!blob || ::lstat((blobs + "/" + name).c_str(), &status) != 0) return false;
        return S_ISREG(status.st_mode) && (blob->is_complete || status.st_mtim.tv_sec >= oldest);
    };
    int removed = 0;
    ErrorCollector errors;
    const auto drop = [&](const std::string& path) {
        errors.add(remove_tree(path));
        ++removed;
    };
    for (const std::string& name : BANGER_TRY(list_folder(folder_)))
        if (name != "sha256") drop(folder_ + "/" + name);
    for (const std::string& name : BANGER_TRY(list_folder(blobs)))
        if (!is_kept(name)) drop(blobs + "/" + name);
    BANGER_TRY(errors.result());
    return removed;
}

}  // namespace banger
