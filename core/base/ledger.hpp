#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"

namespace banger {

/// What exists on the host because of us: a folder with one small file for each object.
///
/// The order is always the same. write() the entry, make the object, perhaps write() again with
/// what became known (an interface index); unmake the object, erase() the entry. So a crash at any
/// instruction leaves an entry without an object, which is harmless, and never an object without an
/// entry. Whoever removes something looks it up here first, and touches nothing else.
///
/// The folder lies where the objects end with it (/run): entries survive the death of the process,
/// not that of the host, so nothing is flushed to a disk. It is opened once and used by descriptor;
/// no link in it is followed. What an entry says is its writer's affair.
///
/// One Ledger on a folder at a time. Safe from any thread; two calls for one key are the caller's
/// to order.
class Ledger {
public:
    struct Entry {
        std::string key;
        std::string text;
        friend bool operator==(const Entry&, const Entry&) = default;
    };
    struct Contents {
        std::vector<Entry> entries;  ///< by key
        /// What lies in the folder and could not be read as an entry: too large, not a plain file,
        /// of a name that is no key. Left where it is; the caller reports it and goes on.
        std::vector<Error> damaged;
    };

    /// The largest text of an entry, in bytes.
    static constexpr std::size_t max_text = 16384;

    /// Makes the folder with mode 0700 when it is missing, refuses one that belongs to somebody
    /// else or that others may write, and removes the temporary files of writes that a crash cut
    /// short.
    static Result<Ledger> open(const std::string& folder);

    /// Makes or replaces the entry in one step: a reader, also after a crash, sees the old text or
    /// the new. Mode 0600. Errc::invalid_argument for a key that is not `[a-z0-9-]{1,64}` or a text
    /// over max_text.
    Result<void> write(std::string_view key, std::string_view text);
    /// Errc::not_found; Errc::corrupt for what Contents::damaged would report.
    [[nodiscard]] Result<std::string> read(std::string_view key) const;
    /// "Already gone" is success.
    Result<void> erase(std::string_view key);
    [[nodiscard]] Result<Contents> entries() const;

    static bool is_key(std::string_view text);

private:
    explicit Ledger(UniqueFd folder)
        : folder_(std::move(folder)), next_(std::make_unique<std::atomic<unsigned>>(0)) {}
    [[nodiscard]] Result<std::vector<std::string>> names() const;

    UniqueFd folder_;
    std::unique_ptr<std::atomic<unsigned>> next_;  ///< numbers temporary files
};

}  // namespace banger
