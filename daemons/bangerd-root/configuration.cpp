#include "daemons/bangerd-root/configuration.hpp"

#include "core/base/file.hpp"
#include "core/plugins/library.hpp"
#include "core/rpc/role_fields.hpp"

template <>
struct banger::rpc::Fields<banger::root::ChosenPlugin> {
    using T = banger::root::ChosenPlugin;
    static constexpr auto list = fields(field("name", &T::name), field("settings", &T::settings),
                                        field("digest", &T::digest));
};

template <>
struct banger::rpc::Fields<banger::root::Configuration> {
    using T = banger::root::Configuration;
    static constexpr auto list =
        fields(field("owner_uid", &T::owner_uid), field("owner_gid", &T::owner_gid),
               field("plugins", &T::plugins));
};

namespace banger::root {

namespace {
constexpr ByteCount max_file = ByteCount::kib(64);
constexpr std::string_view suffix = ".json";
constexpr std::string_view install_again = "Run `banger system install` again.";
}  // namespace

Result<Configuration> parse_configuration(std::string_view text) {
    return rpc::decode_text<Configuration>(text, "helper.json",
                                           {.bytes = max_file.count(), .depth = 8});
}

Result<Configuration> read_configuration(const std::string& path, uid_t trusted_uid) {
    Admission<TrustedFolder> folder = open_trusted_folder(parent_path(path), trusted_uid);
    if (!folder) return Error(Errc::unavailable, folder.refusal().reason, folder.refusal().remedy);
    std::string stem = path.substr(path.rfind('/') + 1);
    if (!stem.ends_with(suffix))
        return Error(Errc::invalid_argument, path + " is not called NAME.json");
    stem.resize(stem.size() - suffix.size());
    Admission<TrustedFile> file =
        open_trusted_file(*folder, stem, std::string(suffix), trusted_uid);
    if (!file)
        return Error(Errc::unavailable, path + ": " + file.refusal().reason,
                     std::string(install_again));
    const std::string text = BANGER_TRY(read_all(file->fd.get(), max_file));
    return parse_configuration(text).context("reading " + path);
}

}  // namespace banger::root
