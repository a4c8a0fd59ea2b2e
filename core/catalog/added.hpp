#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/base/keyed_lock.hpp"
#include "core/catalog/index.hpp"
#include "core/catalog/key.hpp"

/// Catalogs that somebody added with `banger catalog add`: where each comes from, whose key it must
/// carry, and its last good content. One file a catalog, replaced in one step, so that a reader
/// (the catalog plugin, in whatever process) sees the old one or the new.
namespace banger::catalog {

/// Where a catalog lies, and its bundles with it.
struct Place {
    std::string index;  ///< a URL, or the absolute path of a file
    std::string base;   ///< the same up to the last slash, with it
    bool is_local = false;
    friend bool operator==(const Place&, const Place&) = default;
};
/// "https://HOST/…/catalog.yaml", the same with a slash at its end, an absolute path of a file or a
/// folder. A folder, or what ends in a slash, means its catalog.yaml. Http only to this host.
/// Looks at the disk for a path alone. Errc::invalid_argument.
Result<Place> parse_place(std::string_view text);

/// What is kept of one.
struct AddedCatalog {
    ArtifactName name;
    std::string place;               ///< Place::index
    std::optional<std::string> key;  ///< pinned; nothing for an unsigned one of this host
    std::uint64_t serial = 0;        ///< the highest that was ever taken
    std::int64_t updated_at = 0;     ///< unix time of the last change
    std::string text;                ///< of the catalog, byte for byte
    friend bool operator==(const AddedCatalog&, const AddedCatalog&) = default;
};

/// Reads every catalog in `folder`, by name. One that cannot be read is told to `report` and left
/// out. No folder is no catalogs. Blocks on the disk only; any thread, any process.
std::vector<AddedCatalog> read_added(const std::string& folder,
                                     const std::function<void(const Error&)>& report);

/// Gets a URL into memory, at most `limit`. Errc::not_found for status 404 and 410.
using Fetch =
    std::function<Result<std::string>(const std::string& url, ByteCount limit, Call& call)>;

/// The list itself. Safe from any thread; what happens to one name happens in turn.
class AddedCatalogs {
public:
    using Clock = std::function<std::chrono::sys_seconds()>;
    AddedCatalogs(std::string folder, Fetch fetch, Clock clock)
        : folder_(std::move(folder)), fetch_(std::move(fetch)), clock_(std::move(clock)) {}

    struct Addition {
        std::string place;
        std::optional<std::string> name;  ///< nothing: derived from the place
        std::optional<std::string> key;   ///< as PublicKey::parse() takes it
    };
    struct Added {
        std::optional<AddedCatalog> catalog;
        /// Instead: it is signed by this key, and nobody has said that it is the right one. Nothing
        /// was kept.
        std::optional<PublicKey> unconfirmed;
    };
    /// Fetches, checks and keeps it. What comes over the network must be signed. Errc::
    /// already_exists for a name that is taken.
    Result<Added> add(const Addition& addition, Call& call);

    /// Fetches it again. On failure the one that was there stays. Refused: another key, no
    /// signature where there was one, a lower serial, the same serial on other content, one that
    /// has expired. Updates `updated_at` only when the content has changed.
    struct Updated {
        AddedCatalog catalog;
        bool has_changed = false;
    };
    Result<Updated> update(const ArtifactName& name, Call& call);

    Result<AddedCatalog> remove(const std::string& name);
    [[nodiscard]] std::vector<AddedCatalog> list() const;

    /// Which added catalog an offer is from, as the image source lists it: by offer_key().
    [[nodiscard]] std::map<std::string, std::string, std::less<>> names_of_offers(
        ArtifactKind kind) const;
    static std::string offer_key(const std::string& name, const std::string& architecture,
                                 const std::string& description) {
        return name + "\n" + architecture + "\n" + description;
    }

private:
    struct Fetched {
        std::string text;
        Index index;
        std::optional<Signature> signature;
    };
    Result<Fetched> fetch(const Place& place, Call& call);
    Result<std::string> read(const Place& place, const std::string& what, ByteCount limit,
                             Call& call);
    [[nodiscard]] std::string path_of(const ArtifactName& name) const;
    Result<AddedCatalog> find(const ArtifactName& name) const;
    Result<void> write(const AddedCatalog& catalog) const;

    std::string folder_;
    Fetch fetch_;
    Clock clock_;
    KeyedLock locks_;
};

/// Errc::wrong_state for an index whose last day has passed: what it names is not used any more.
Result<void> check_not_expired(const Index& index, std::chrono::sys_seconds now,
                               std::string_view name);

}  // namespace banger::catalog
