#include "plugins/image-oci/documents.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/names.hpp"
#include "plugins/image-oci/bytes.hpp"

namespace banger::image_oci {

namespace {

using Json = nlohmann::json;

constexpr int max_depth = 32;
constexpr std::size_t max_run_words = 16384;
constexpr ByteCount max_layer = ByteCount::gib(256);
constexpr std::size_t max_secret = 64 << 10;

struct KnownType {
    std::string_view text;
    MediaType type;
};
constexpr std::array known_types{
    KnownType{"application/vnd.oci.image.index.v1+json", MediaType::index},
    KnownType{"application/vnd.docker.distribution.manifest.list.v2+json", MediaType::index},
    KnownType{"application/vnd.oci.image.manifest.v1+json", MediaType::manifest},
    KnownType{"application/vnd.docker.distribution.manifest.v2+json", MediaType::manifest},
    KnownType{"application/vnd.docker.distribution.manifest.v1+json", MediaType::schema_1},
    KnownType{"application/vnd.docker.distribution.manifest.v1+prettyjws", MediaType::schema_1},
    KnownType{"application/vnd.oci.image.config.v1+json", MediaType::config},
    KnownType{"application/vnd.docker.container.image.v1+json", MediaType::config},
    KnownType{"application/vnd.oci.image.layer.v1.tar", MediaType::layer},
    KnownType{"application/vnd.oci.image.layer.v1.tar+gzip", MediaType::layer},
    KnownType{"application/vnd.oci.image.layer.v1.tar+zstd", MediaType::layer},
    KnownType{"application/vnd.docker.image.rootfs.diff.tar", MediaType::layer},
    KnownType{"application/vnd.docker.image.rootfs.diff.tar.gzip", MediaType::layer},
    KnownType{"application/vnd.docker.image.rootfs.diff.tar.zstd", MediaType::layer},
    KnownType{"application/vnd.oci.image.layer.nondistributable.v1.tar", MediaType::foreign_layer},
    KnownType{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
              MediaType::foreign_layer},
    KnownType{"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
              MediaType::foreign_layer},
    KnownType{"application/vnd.docker.image.rootfs.foreign.diff.tar", MediaType::foreign_layer},
    KnownType{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
              MediaType::foreign_layer},
};

Error damaged(const std::string& what) {
    return {Errc::corrupt, what, "Report this to whoever publishes the image."};
}

Error refused(const std::string& what, std::string remedy) {
    return {Errc::unsupported, what, std::move(remedy)};
}

/// Reads the text with its bounds. `what` is for messages: "the manifest".
Result<Json> read(std::string_view text, const std::string& what) {
    if (text.size() > max_document.count())
        return damaged(what + " is larger than " + max_document.text());
    bool is_deep = false;
    std::string twice;
    std::vector<std::set<std::string>> names;  // of the objects we are in
    const auto look = [&](int depth, Json::parse_event_t event, Json& value) {
        using Event = Json::parse_event_t;
        if (depth > max_depth) is_deep = true;
        if (is_deep || !twice.empty()) return false;  // nothing is kept of what is refused
        if (event == Event::object_start) names.emplace_back();
        if (event == Event::object_end) names.pop_back();
        if (event == Event::key) {
            const std::string& name = value.get_ref<const std::string&>();
            if (!names.back().insert(name).second) twice = name.empty() ? "an empty name" : name;
        }
        return true;
    };
    Json json = Json::parse(text, look, false);
    if (is_deep) return damaged(what + " nests deeper than " + std::to_string(max_depth));
    if (!twice.empty()) return damaged(what + " has " + banger::quoted(twice) + " twice");
    if (json.is_discarded()) return damaged(what + " is not JSON");
    return json;
}

Result<Json> read_object(std::string_view text, const std::string& what) {
    Json json = BANGER_TRY(read(text, what));
    if (!json.is_object()) return damaged(what + " is not a JSON object");
    return json;
}

/// The member, or null when it is not there or null.
const Json* find(const Json& object, const char* name) {
    const auto member = object.find(name);
    return member == object.end() || member->is_null() ? nullptr : &*member;
}

Result<std::string> text_of(const Json& object, const char* name, const std::string& what) {
    const Json* member = find(object, name);
    if (!member) return std::string();
    const auto* text = member->get_ptr<const std::string*>();
    if (!text || text->find('\0') != text->npos)
        return damaged(std::string("\"") + name + "\" in " + what + " is not a text");
    return *text;
}

Result<std::vector<std::string>> texts_of(const Json& object, const char* name, std::size_t most,
                                          const std::string& what) {
    std::vector<std::string> texts;
    const Json* member = find(object, name);
    if (!member) return texts;
    const std::string place = std::string("\"") + name + "\" in " + what;
    if (!member->is_array()) return damaged(place + " is not a list");
    if (member->size() > most) return damaged(place + " has too many entries");
    for (const Json& each : *member) {
        const auto* text = each.get_ptr<const std::string*>();
        if (!text || text->find('\0') != text->npos)
            return damaged(place + " has an entry that is not a text");
        texts.push_back(*text);
    }
    return texts;
}

Result<Platform> platform_of(const Json& object, const std::string& what) {
    Platform platform;
    platform.os = BANGER_TRY(text_of(object, "os", what));
    platform.architecture = BANGER_TRY(text_of(object, "architecture", what));
    platform.variant = BANGER_TRY(text_of(object, "variant", what));
    return platform;
}

Result<Descriptor> descriptor_of(const Json& json, const std::string& what) {
    if (!json.is_object()) return damaged(what + " is not an object");
    const std::string digest_text = BANGER_TRY(text_of(json, "digest", what));
    if (digest_text.starts_with("sha512:"))
        return refused(what + " has a digest by sha512", "Choose another image.");
    const Result<Digest> digest = Digest::parse(digest_text);
    if (!digest) return damaged(what + " has no digest: " + banger::quoted(digest_text));
    const Json* size = find(json, "size");
    if (!size || !size->is_number_integer() || size->get<std::int64_t>() < 0)
        return damaged(what + " has no size");
    Descriptor descriptor{BANGER_TRY(text_of(json, "mediaType", what)), *digest,
                          ByteCount::bytes(size->get<std::uint64_t>()), std::nullopt, ""};
    if (const Json* platform = find(json, "platform")) {
        if (!platform->is_object()) return damaged("the platform of " + what + " is not an object");
        descriptor.platform = BANGER_TRY(platform_of(*platform, what));
    }
    if (const Json* notes = find(json, "annotations"); notes && notes->is_object()) {
        descriptor.name = BANGER_TRY(text_of(*notes, "org.opencontainers.image.ref.name", what));
        if (descriptor.name.empty())
            descriptor.name = BANGER_TRY(text_of(*notes, "io.containerd.image.name", what));
    }
    return descriptor;
}

Result<Index> index_of(const Json& json, const std::string& what) {
    const Json* manifests = find(json, "manifests");
    if (!manifests || !manifests->is_array()) return damaged(what + " has no list of manifests");
    if (find(json, "layers") || find(json, "config") || find(json, "fsLayers"))
        return damaged(what + " is an index and a manifest at once");
    if (manifests->size() > max_index_entries)
        return damaged(what + " has more than " + std::to_string(max_index_entries) + " entries");
    Index index;
    for (const Json& entry : *manifests)
        index.entries.push_back(BANGER_TRY(descriptor_of(entry, "an entry of " + what)));
    return index;
}

Result<void> check_layer(const Descriptor& layer) {
    const MediaType type = media_type_of(layer.media_type);
    if (type == MediaType::foreign_layer)
        return refused("the image has a layer that its publisher keeps elsewhere (" +
                           banger::quoted(layer.media_type) + ")",
                       "Choose an image that is whole in its registry.");
    if (layer.media_type.ends_with("+encrypted"))
        return refused("the image has encrypted layers",
                       "Decrypt it first: skopeo copy --decryption-key KEY …");
    if (type != MediaType::layer)
        return refused(
            "the image has a layer of an unknown kind, " + banger::quoted(layer.media_type),
            "Choose an image that docker can run.");
    if (layer.size.count() == 0 || layer.size > max_layer)
        return damaged("a layer has the impossible size of " + layer.size.text());
    return ok();
}

Result<Manifest> manifest_of(const Json& json) {
    const std::string what = "the manifest";
    if (find(json, "manifests") || find(json, "fsLayers"))
        return damaged(what + " is an index and a manifest at once");
    const Json* config = find(json, "config");
    const Json* layers = find(json, "layers");
    if (!config || !layers || !layers->is_array())
        return damaged(what + " has no config or no layers");
    Manifest manifest{BANGER_TRY(descriptor_of(*config, "the config of " + what)), {}};
    if (media_type_of(manifest.config.media_type) != MediaType::config)
        return refused(
            "this is no image of a container but " + banger::quoted(manifest.config.media_type),
            "Choose an image that docker can run.");
    if (manifest.config.size > max_document)
        return damaged("the image's config is larger than " + max_document.text());
    if (layers->size() > max_layers)
        return damaged(what + " has more than " + std::to_string(max_layers) + " layers");
    for (const Json& each : *layers) {
        manifest.layers.push_back(BANGER_TRY(descriptor_of(each, "a layer of " + what)));
        BANGER_TRY(check_layer(manifest.layers.back()));
    }
    if (manifest.layers.empty())
        return refused("the image is empty: it has no layers", "Choose another image.");
    return manifest;
}

/// "application/json; charset=utf-8" without its parameters.
std::string_view plain_type(std::string_view text) {
    text = text.substr(0, text.find(';'));
    while (text.ends_with(' ') || text.ends_with('\t'))
        text.remove_suffix(1);
    while (text.starts_with(' ') || text.starts_with('\t'))
        text.remove_prefix(1);
    return text;
}

/// What a plain file server says of any JSON.
bool says_nothing(std::string_view type) {
    return type.empty() || type == "application/json" || type == "application/octet-stream";
}

Error is_schema_1() {
    return refused(
        "the image is in the format of 2015 (schema 1), which has no digests of its parts",
        "Have it converted: skopeo copy --format v2s2 docker://… docker://…");
}

}  // namespace

MediaType media_type_of(std::string_view text) {
    const auto* known = std::ranges::find(known_types, plain_type(text), &KnownType::text);
    return known == known_types.end() ? MediaType::other : known->type;
}

std::string_view accepted_manifests() {
    return "application/vnd.oci.image.index.v1+json, "
           "application/vnd.oci.image.manifest.v1+json, "
           "application/vnd.docker.distribution.manifest.list.v2+json, "
           "application/vnd.docker.distribution.manifest.v2+json";
}

std::string Platform::text() const {
    return os + "/" + architecture + (variant.empty() ? "" : "/" + variant);
}

Result<ManifestDocument> parse_manifest(std::string_view text, std::string_view content_type) {
    const std::string what = "the manifest";
    const std::string_view said = plain_type(content_type);
    const bool is_vague = says_nothing(said);
    if (media_type_of(said) == MediaType::schema_1) return is_schema_1();
    const Json json = BANGER_TRY(read_object(text, what));
    const std::string own = BANGER_TRY(text_of(json, "mediaType", what));
    const Json* version = find(json, "schemaVersion");
    if (version && version->is_number_integer() && *version == 1) return is_schema_1();
    if (!version || !version->is_number_integer() || *version != 2)
        return damaged(what + " is not of schema version 2");
    if (!is_vague && !own.empty() && own != said)
        return damaged(what + " says that it is " + banger::quoted(own) +
                       ", but was announced as " + banger::quoted(said));
    const std::string type(is_vague ? std::string_view(own) : said);
    switch (media_type_of(type)) {
        case MediaType::index:
            return ManifestDocument(BANGER_TRY(index_of(json, "the index")));
        case MediaType::manifest:
            return ManifestDocument(BANGER_TRY(manifest_of(json)));
        case MediaType::schema_1:
            return is_schema_1();
        default:
            break;
    }
    return refused(what + " is of an unknown kind, " + banger::quoted(type),
                   "Check that the reference names an image.");
}

Result<void> check_content_type(std::string_view content_type, const Descriptor& descriptor) {
    const std::string_view said = plain_type(content_type);
    if (says_nothing(said) || said == plain_type(descriptor.media_type)) return ok();
    return damaged("the manifest was announced as " + banger::quoted(descriptor.media_type) +
                   ", but sent as " + banger::quoted(said));
}

Result<Index> parse_layout_index(std::string_view text) {
    const std::string what = "index.json";
    const Json json = BANGER_TRY(read_object(text, what));
    const std::string own = BANGER_TRY(text_of(json, "mediaType", what));
    if (!own.empty() && media_type_of(own) != MediaType::index)
        return damaged(what + " says that it is " + banger::quoted(own));
    return index_of(json, what);
}

Result<void> check_layout_file(std::string_view text) {
    const Json json = BANGER_TRY(read_object(text, "oci-layout"));
    const std::string version = BANGER_TRY(text_of(json, "imageLayoutVersion", "oci-layout"));
    if (version.starts_with("1.")) return ok();
    return refused("the layout has version " + banger::quoted(version) + ", known is 1.0.0",
                   "Write it again with a current tool.");
}

Result<Descriptor> choose_platform(const Index& index, std::string_view architecture) {
    // x86-64-v3 and later are not in every processor, and a guest's is the host's at best.
    constexpr std::array<std::string_view, 3> variants{"", "v1", "v2"};
    for (const std::string_view variant : variants)
        for (const Descriptor& entry : index.entries)
            if (entry.platform && entry.platform->os == "linux" &&
                entry.platform->architecture == architecture && entry.platform->variant == variant)
                return entry;
    // An index may leave the platform to the image's own config.
    for (const Descriptor& entry : index.entries)
        if (!entry.platform && media_type_of(entry.media_type) != MediaType::other) return entry;
    std::string offered;
    std::size_t count = 0;
    for (const Descriptor& entry : index.entries) {
        if (!entry.platform || entry.platform->os == "unknown" || ++count > 16) continue;
        offered += (offered.empty() ? "" : ", ") + entry.platform->text();
    }
    return refused("the image is not made for linux/" + std::string(architecture) + ", but for " +
                       (offered.empty() ? "nothing" : banger::quoted(offered)),
                   "Choose another image or tag.");
}

Result<ImageConfig> parse_config(std::string_view text) {
    const std::string what = "the image's config";
    const Json json = BANGER_TRY(read_object(text, what));
    ImageConfig config;
    config.platform = BANGER_TRY(platform_of(json, what));
    const Json* rootfs = find(json, "rootfs");
    if (!rootfs || !rootfs->is_object()) return damaged(what + " has no rootfs");
    for (const std::string& each :
         BANGER_TRY(texts_of(*rootfs, "diff_ids", max_layers, "the rootfs of " + what))) {
        const Result<Digest> digest = Digest::parse(each);
        if (!digest) return damaged(banger::quoted(each) + " in " + what + " is not a digest");
        config.diff_ids.push_back(*digest);
    }
    const Json* run = find(json, "config");
    if (!run) return config;
    if (!run->is_object()) return damaged("\"config\" in " + what + " is not an object");
    config.run.working_folder = BANGER_TRY(text_of(*run, "WorkingDir", what));
    config.run.user = BANGER_TRY(text_of(*run, "User", what));
    config.run.entrypoint = BANGER_TRY(texts_of(*run, "Entrypoint", max_run_words, what));
    config.run.command = BANGER_TRY(texts_of(*run, "Cmd", max_run_words, what));
    for (std::string& each : BANGER_TRY(texts_of(*run, "Env", max_run_words, what)))
        if (const std::size_t equals = each.find('='); equals != 0 && equals != each.npos)
            config.run.environment.push_back(std::move(each));
    if (const Json* labels = find(*run, "Labels"); labels && labels->is_object())
        for (const char* label :
             {"org.opencontainers.image.description", "org.opencontainers.image.title"})
            if (config.description.empty())
                config.description = BANGER_TRY(text_of(*labels, label, what));
    return config;
}

Result<std::vector<ArchivedImage>> parse_archive_manifest(std::string_view text) {
    const std::string what = "manifest.json";
    const Json json = BANGER_TRY(read(text, what));
    if (!json.is_array() || json.size() > max_index_entries)
        return damaged(what + " is not a list of images");
    std::vector<ArchivedImage> images;
    for (const Json& each : json) {
        if (!each.is_object()) return damaged(what + " has an entry that is not an object");
        ArchivedImage image;
        image.config = BANGER_TRY(text_of(each, "Config", what));
        image.names = BANGER_TRY(texts_of(each, "RepoTags", max_index_entries, what));
        image.layers = BANGER_TRY(texts_of(each, "Layers", max_layers, what));
        if (image.config.empty()) return damaged(what + " has an image without a config");
        images.push_back(std::move(image));
    }
    return images;
}

namespace {

/// What may stand in a header.
bool is_header_safe(std::string_view text) {
    return std::ranges::all_of(text, [](unsigned char c) { return c > 0x20 && c < 0x7f; });
}

}  // namespace

Result<TokenReply> parse_token(std::string_view text) {
    const std::string what = "the answer of the token server";
    const Json json = BANGER_TRY(read_object(text, what));
    TokenReply reply;
    reply.token = BANGER_TRY(text_of(json, "token", what));
    if (reply.token.empty()) reply.token = BANGER_TRY(text_of(json, "access_token", what));
    if (reply.token.empty() || reply.token.size() > max_secret || !is_header_safe(reply.token))
        return damaged(what + " has no token");
    if (const Json* seconds = find(json, "expires_in")) {
        if (!seconds->is_number_integer()) return damaged(what + " has no time in expires_in");
        constexpr std::int64_t day = 86400;
        reply.seconds = std::clamp<std::int64_t>(
            seconds->is_number_unsigned() && seconds->get<std::uint64_t>() > day
                ? day
                : seconds->get<std::int64_t>(),
            0, day);
    }
    return reply;
}

Result<HelperReply> parse_helper_reply(std::string_view text) {
    const std::string what = "what the helper printed";
    const Json json = BANGER_TRY(read_object(text, what));
    HelperReply reply;
    reply.user = BANGER_TRY(text_of(json, "Username", what));
    reply.secret = BANGER_TRY(text_of(json, "Secret", what));
    if (reply.user.size() + reply.secret.size() > max_secret)
        return damaged(what + " is too long for a login");
    return reply;
}

Result<DockerConfig> parse_docker_config(std::string_view text) {
    const std::string what = "the file of logins";
    const Json json = BANGER_TRY(read_object(text, what));
    DockerConfig config;
    if (const Json* auths = find(json, "auths")) {
        if (!auths->is_object()) return damaged("\"auths\" in " + what + " is not an object");
        for (const auto& [registry, entry] : auths->items()) {
            if (!entry.is_object()) return damaged("an entry of " + what + " is not an object");
            StoredLogin login;
            login.registry = registry;
            login.user = BANGER_TRY(text_of(entry, "username", what));
            login.password = BANGER_TRY(text_of(entry, "password", what));
            login.identity_token = BANGER_TRY(text_of(entry, "identitytoken", what));
            if (const std::string auth = BANGER_TRY(text_of(entry, "auth", what)); !auth.empty()) {
                const std::optional<std::string> both = from_base64(auth);
                const std::size_t colon = both ? both->find(':') : std::string::npos;
                if (colon == std::string::npos)
                    return damaged("\"auth\" of " + banger::quoted(registry) + " in " + what +
                                   " is not a login");
                login.user = both->substr(0, colon);
                login.password = both->substr(colon + 1);
                // Docker pads with NUL.
                login.password.resize(std::min(login.password.size(), login.password.find('\0')));
            }
            config.logins.push_back(std::move(login));
        }
    }
    if (const Json* helpers = find(json, "credHelpers")) {
        if (!helpers->is_object()) return damaged("\"credHelpers\" in " + what + " is no object");
        for (const auto& [registry, helper] : helpers->items()) {
            const auto* name = helper.get_ptr<const std::string*>();
            if (!name) return damaged("\"credHelpers\" in " + what + " has no name of a helper");
            config.helpers.emplace_back(registry, *name);
        }
    }
    config.store = BANGER_TRY(text_of(json, "credsStore", what));
    return config;
}

std::string registry_complaint(std::string_view body) {
    if (body.size() > (64 << 10)) return "";
    const Result<Json> json = read(body, "the answer");
    if (!json || !json->is_object()) return "";
    const Json* errors = find(*json, "errors");
    if (errors && errors->is_array() && !errors->empty() && errors->front().is_object()) {
        const Json& first = errors->front();
        if (const Result<std::string> said = text_of(first, "message", "it");
            said && !said->empty())
            return *said;
        return text_of(first, "code", "it").value_or("");
    }
    return text_of(*json, "details", "it").value_or("");
}

}  // namespace banger::image_oci
