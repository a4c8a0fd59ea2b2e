#include "core/catalog/added.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>

#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "core/rpc/fields.hpp"

template <>
struct banger::rpc::Fields<banger::catalog::AddedCatalog> {
    using T = banger::catalog::AddedCatalog;
    static constexpr auto list = fields(
        field("name", &T::name), field("place", &T::place), field("key", &T::key),
        field("serial", &T::serial), field("updated_at", &T::updated_at), field("text", &T::text));
};

namespace banger::catalog {

namespace {

constexpr std::string_view index_name = "catalog.yaml";
constexpr std::string_view record_suffix = ".json";
/// Every byte of the text may take six in JSON.
constexpr ByteCount max_record = ByteCount::mib(8);
constexpr std::size_t max_place = 1024;
constexpr std::size_t max_added = 64;

bool is_url(std::string_view text) { return text.find("://") != std::string_view::npos; }

Error bad_place(std::string_view text, std::string why) {
    return {Errc::invalid_argument, quoted(text) + " " + std::move(why),
            "Give https://HOST/FOLDER/catalog.yaml, or a folder or file of this host."};
}

/// "https://images.example:8443/team/catalog.yaml" → "images.example"; "/media/usb/Banger" →
/// "banger". Nothing when no name comes of it.
Result<ArtifactName> name_for(const Place& place) {
    std::string_view rest = place.base;
    if (place.is_local) {
        rest.remove_suffix(1);
        rest = rest.substr(rest.rfind('/') + 1);
    } else {
        rest.remove_prefix(rest.find("://") + 3);
        rest = rest.substr(0, rest.find_first_of("/:"));
    }
    std::string name(rest);
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    Result<ArtifactName> parsed = ArtifactName::parse(name);
    if (parsed) return parsed;
    return Error(Errc::invalid_argument, "no name for a catalog comes of " + place.index,
                 "Give it one with --name.");
}

Error key_changed(const AddedCatalog& catalog, const PublicKey& now) {
    return {Errc::permission_denied,
            "the catalog " + quoted(catalog.name.str()) + " is now signed by another key, " +
                now.text() + ", not by the one that was pinned, " + *catalog.key,
            "Ask its publisher, by another way. If they say that the new key is theirs: banger "
            "catalog remove " +
                catalog.name.str() + ", then banger catalog add with --key."};
}

}  // namespace

Result<Place> parse_place(std::string_view text) {
    const bool is_plain =
        std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (text.empty() || text.size() > max_place || !is_plain)
        return bad_place(text, "is no place of a catalog");
    std::string index(text);
    if (is_url(text)) {
        if (!is_fetchable(text)) return bad_place(text, "is not https, nor http to this host");
        if (text.find_first_of("?#") != std::string_view::npos)
            return bad_place(text, "has a query, and bundles could not be found beside it");
        if (text.find("/..") != std::string_view::npos)
            return bad_place(text, "leads upwards with ..");
        if (index.find('/', index.find("://") + 3) == std::string::npos) index += '/';
        if (index.ends_with('/')) index += index_name;
        return Place{index, index.substr(0, index.rfind('/') + 1), false};
    }
    if (!text.starts_with('/')) return bad_place(text, "is neither a URL nor an absolute path");
    struct stat status {};
    if (::stat(index.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
        if (!index.ends_with('/')) index += '/';
        index += index_name;
    }
    if (index.ends_with('/')) index += index_name;
    return Place{index, index.substr(0, index.rfind('/') + 1), true};
}

std::vector<AddedCatalog> read_added(const std::string& folder,
                                     const std::function<void(const Error&)>& report) {
    std::vector<AddedCatalog> all;
    const Result<std::vector<std::string>> files = list_folder(folder);
    if (!files) {
        if (files.error().code != Errc::not_found) report(files.error());
        return all;
    }
    for (const std::string& file : *files) {
        if (!file.ends_with(record_suffix)) continue;  // of a write that did not end
        const Result<std::string> text = read_file(folder + "/" + file, max_record);
        if (!text && text.error().code == Errc::not_found) continue;  // removed just now
        Result<AddedCatalog> catalog =
            text ? rpc::decode_text<AddedCatalog>(*text, file,
                                                  {.bytes = max_record.count(), .depth = 4})
                 : Result<AddedCatalog>(text.error());
        if (catalog && catalog->name.str() + std::string(record_suffix) == file) {
            all.push_back(*std::move(catalog));
            continue;
        }
        const std::string name = file.substr(0, file.size() - record_suffix.size());
        report(Error(Errc::corrupt,
                     "the record of the catalog " + quoted(name) + " is damaged" +
                         (catalog ? "" : ": " + catalog.error().message),
                     "Remove it and add it again: banger catalog remove " + name));
    }
    return all;
}

Result<void> check_not_expired(const Index& index, std::chrono::sys_seconds now,
                               std::string_view name) {
    if (!index.expires || now < *index.expires + std::chrono::days(1)) return ok();
    const std::chrono::year_month_day day(*index.expires);
    const auto two = [](unsigned value) { return (value < 10 ? "0" : "") + std::to_string(value); };
    return Error(Errc::wrong_state,
                 "the catalog " + quoted(name) + " was to be used until " +
                     std::to_string(static_cast<int>(day.year())) + "-" +
                     two(static_cast<unsigned>(day.month())) + "-" +
                     two(static_cast<unsigned>(day.day())),
                 "Get a newer one with `banger catalog update`; if there is none, ask its "
                 "publisher.");
}

std::string AddedCatalogs::path_of(const ArtifactName& name) const {
    return folder_ + "/" + name.str() + std::string(record_suffix);
}

Result<std::string> AddedCatalogs::read(const Place& place, const std::string& what,
                                        ByteCount limit, Call& call) {
    Result<std::string> text = place.is_local ? read_file(what, limit) : fetch_(what, limit, call);
    if (text) return text;
    Error error = std::move(text).error();
    if (error.remedy.empty()) error.remedy = "Check that " + what + " is there and can be read.";
    return error;
}

Result<AddedCatalogs::Fetched> AddedCatalogs::fetch(const Place& place, Call& call) {
    call.report({"reading " + place.index, 0, 0, Progress::Unit::none});
    Fetched fetched;
    fetched.text = BANGER_TRY(read(place, place.index, max_catalog_size, call));
    const std::string beside = place.index + ".sig";
    Result<std::string> signature = read(place, beside, ByteCount::bytes(max_signature_text), call);
    if (!signature && signature.error().code != Errc::not_found) return signature.error();
    if (signature) {
        // Before anything else of it is looked at.
        fetched.signature = BANGER_TRY(Signature::parse(*signature).context("reading " + beside));
        if (!fetched.signature->fits(fetched.text))
            return Error(Errc::corrupt, place.index + " does not fit its signature",
                         "Try again later: its publisher may be replacing both. If it stays so, "
                         "it was tampered with.");
    }
    fetched.index = BANGER_TRY(parse_catalog(fetched.text, place.index));
    if (fetched.signature && !fetched.index.serial)
        return Error(Errc::invalid_argument, place.index + " is signed, but has no serial",
                     "Its publisher has to add one (serial: 1) and to sign it again.");
    const bool is_encrypted = place.index.starts_with("https://");
    for (const Entry& entry : fetched.index.entries)
        if (const Bundle* bundle = std::get_if<Bundle>(&entry.content);
            bundle && is_encrypted && bundle->url.starts_with("http://"))
            return Error(Errc::permission_denied,
                         "a catalog of the network wants to read " + bundle->url + " of this host",
                         "Ask its publisher for a catalog with https URLs.");
    return fetched;
}

Result<void> AddedCatalogs::write(const AddedCatalog& catalog) const {
    const std::string record = rpc::encode_text(catalog);
    // JSON replaces what it cannot hold, and what is kept must be what was signed.
    const Result<AddedCatalog> kept =
        rpc::decode_text<AddedCatalog>(record, "", {.bytes = max_record.count(), .depth = 4});
    if (!kept || *kept != catalog)
        return Error(Errc::invalid_argument, catalog.place + " has bytes that are no text in UTF-8",
                     "Its publisher has to save it as UTF-8.");
    BANGER_TRY(ensure_folder(folder_, 0700));
    return write_file_atomic(path_of(catalog.name), record + "\n", 0600);
}

Result<AddedCatalog> AddedCatalogs::find(const ArtifactName& name) const {
    for (AddedCatalog& catalog : list())
        if (catalog.name == name) return std::move(catalog);
    return Error(Errc::not_found, "there is no catalog " + quoted(name.str()),
                 "See `banger catalog list`.");
}

Result<AddedCatalogs::Added> AddedCatalogs::add(const Addition& addition, Call& call) {
    const Place place = BANGER_TRY(parse_place(addition.place));
    const ArtifactName name =
        BANGER_TRY(addition.name ? ArtifactName::parse(*addition.name) : name_for(place));
    std::optional<PublicKey> pinned;
    if (addition.key) pinned = BANGER_TRY(PublicKey::parse(*addition.key));
    const KeyedLock::Guard turn = BANGER_TRY(locks_.acquire(name.str(), call.stop()));
    if (path_exists(path_of(name)))
        return Error(Errc::already_exists, "there is a catalog " + quoted(name.str()) + " already",
                     "Update it with `banger catalog update " + name.str() +
                         "`, or choose another name with --name.");
    if (list().size() >= max_added)
        return Error(Errc::no_space, "there are " + std::to_string(max_added) + " catalogs already",
                     "Remove one: banger catalog remove NAME");
    const Fetched fetched = BANGER_TRY(fetch(place, call));
    if (!fetched.signature && (!place.is_local || pinned))
        return Error(Errc::permission_denied, place.index + " is not signed",
                     place.is_local
                         ? "Leave out --key if you trust it as it lies there."
                         : "Ask its publisher to sign it (banger catalog sign), or download it, "
                           "look at it, and add the file.");
    BANGER_TRY(check_not_expired(fetched.index, clock_(), name.str()));
    if (fetched.signature && !pinned) return Added{{}, fetched.signature->key};
    if (pinned && *pinned != fetched.signature->key)
        return Error(Errc::permission_denied,
                     place.index + " is signed by " + fetched.signature->key.text() + ", not by " +
                         pinned->text(),
                     "Compare the key with the one that its publisher told you.");
    AddedCatalog catalog{.name = name,
                         .place = place.index,
                         .key = pinned ? std::optional(pinned->text()) : std::nullopt,
                         .serial = fetched.index.serial.value_or(0),
                         .updated_at = clock_().time_since_epoch().count(),
                         .text = fetched.text};
    BANGER_TRY(write(catalog));
    return Added{std::move(catalog), {}};
}

Result<AddedCatalogs::Updated> AddedCatalogs::update(const ArtifactName& name, Call& call) {
    const KeyedLock::Guard turn = BANGER_TRY(locks_.acquire(name.str(), call.stop()));
    AddedCatalog catalog = BANGER_TRY(find(name));
    const Place place = BANGER_TRY(parse_place(catalog.place));
    const Fetched fetched =
        BANGER_TRY(fetch(place, call).context("updating " + quoted(name.str())));
    if (catalog.key) {
        if (!fetched.signature)
            return Error(Errc::permission_denied,
                         "the catalog " + quoted(name.str()) + " was signed and is not any more",
                         "Ask its publisher, by another way; the one that is here stays in use.");
        if (fetched.signature->key.text() != *catalog.key)
            return key_changed(catalog, fetched.signature->key);
        if (*fetched.index.serial < catalog.serial)
            return Error(Errc::permission_denied,
                         "the catalog " + quoted(name.str()) + " is older (serial " +
                             std::to_string(*fetched.index.serial) +
                             ") than the one that is here (" + std::to_string(catalog.serial) + ")",
                         "Somebody may hold an update back or bring an old fault back; the one "
                         "that is here stays in use.");
        if (*fetched.index.serial == catalog.serial && fetched.text != catalog.text)
            return Error(Errc::permission_denied,
                         "the catalog " + quoted(name.str()) +
                             " has changed, but not its serial (" + std::to_string(catalog.serial) +
                             ")",
                         "Its publisher has to raise the serial and to sign it again.");
    } else if (!place.is_local) {
        return Error(Errc::internal, "a catalog of the network without a key");
    }
    BANGER_TRY(check_not_expired(fetched.index, clock_(), name.str()));
    if (fetched.text == catalog.text) return Updated{std::move(catalog), false};
    catalog.serial = fetched.index.serial.value_or(0);
    catalog.text = fetched.text;
    catalog.updated_at = clock_().time_since_epoch().count();
    BANGER_TRY(write(catalog));
    return Updated{std::move(catalog), true};
}

Result<AddedCatalog> AddedCatalogs::remove(const std::string& text) {
    const ArtifactName name = BANGER_TRY(ArtifactName::parse(text));
    const KeyedLock::Guard turn = BANGER_TRY(locks_.acquire(name.str(), {}));
    Result<AddedCatalog> catalog = find(name);
    if (!catalog && !path_exists(path_of(name))) return catalog;
    BANGER_TRY(remove_file(path_of(name)));
    // A damaged record goes as well.
    if (!catalog) return AddedCatalog{.name = name, .place = {}, .key = {}, .text = {}};
    return catalog;
}

std::vector<AddedCatalog> AddedCatalogs::list() const {
    return read_added(folder_, [](const Error&) {});
}

std::map<std::string, std::string, std::less<>> AddedCatalogs::names_of_offers(
    ArtifactKind kind) const {
    std::map<std::string, std::string, std::less<>> names;
    for (const AddedCatalog& catalog : list()) {
        const Result<Index> index = parse_catalog(catalog.text, catalog.name.str());
        if (!index) continue;
        for (const Entry& entry : index->entries)
            if (entry.kind == kind)
                names.emplace(offer_key(entry.name.str(), entry.architecture, entry.description),
                              catalog.name.str());
    }
    return names;
}

}  // namespace banger::catalog
