#include "plugins/image-oci/settings.hpp"

#include <algorithm>

#include "core/base/names.hpp"
#include "plugins/image-oci/reference.hpp"

namespace banger::image_oci {

namespace {

std::string text_of(const Settings& settings, std::string_view key, std::string otherwise) {
    const auto found = settings.find(key);
    if (found == settings.end()) return otherwise;
    const auto* text = std::get_if<std::string>(&found->second);
    return text ? *text : otherwise;
}

std::vector<std::string> list_of(const Settings& settings, std::string_view key) {
    const auto found = settings.find(key);
    if (found == settings.end()) return {};
    const auto* list = std::get_if<std::vector<std::string>>(&found->second);
    return list ? *list : std::vector<std::string>();
}

Error in_setting(Error error, std::string_view key) {
    return std::move(error).context("reading plugin.image-oci." + std::string(key));
}

Result<Mirror> read_mirror(const std::string& text) {
    const std::size_t equals = text.find('=');
    if (equals == text.npos)
        return Error(Errc::invalid_argument, quoted(text) + " is not a mirror",
                     "Write REGISTRY=HOST, such as docker.io=mirror.example:5000.");
    Mirror mirror;
    mirror.registry = text.substr(0, equals);
    const std::string rest = text.substr(equals + 1);
    const std::size_t slash = rest.find('/');
    mirror.host = rest.substr(0, slash);
    BANGER_TRY(check_registry(mirror.registry));
    BANGER_TRY(check_registry(mirror.host));
    if (slash == rest.npos) return mirror;
    mirror.prefix = rest.substr(slash + 1);
    while (mirror.prefix.ends_with('/'))
        mirror.prefix.pop_back();
    if (mirror.prefix.empty()) return mirror;
    BANGER_TRY(check_repository(mirror.prefix));
    mirror.prefix += '/';
    return mirror;
}

}  // namespace

bool Options::may_be_plain(std::string_view registry) const {
    return is_loopback(registry) ||
           std::ranges::find(insecure_registries, registry) != insecure_registries.end();
}

Result<Options> read_options(const Settings& settings, const std::string& home) {
    Options options;
    options.default_registry = text_of(settings, "default_registry", options.default_registry);
    if (Result<void> right = check_registry(options.default_registry); !right)
        return in_setting(std::move(right).error(), "default_registry");
    for (const std::string& text : list_of(settings, "mirrors")) {
        Result<Mirror> mirror = read_mirror(text);
        if (!mirror) return in_setting(std::move(mirror).error(), "mirrors");
        options.mirrors.push_back(*std::move(mirror));
    }
    options.insecure_registries = list_of(settings, "insecure_registries");
    for (const std::string& each : options.insecure_registries)
        if (Result<void> right = check_registry(each); !right)
            return in_setting(std::move(right).error(), "insecure_registries");
    std::string& file = options.docker_config;
    file = text_of(settings, "docker_config", "~/.docker/config.json");
    if (file.starts_with("~/")) file = home.empty() ? "" : home + file.substr(1);
    if (!file.empty() && !file.starts_with('/'))
        return in_setting(Error(Errc::invalid_argument, quoted(file) + " is not an absolute path",
                                "Begin it with / or ~/."),
                          "docker_config");
    return options;
}

}  // namespace banger::image_oci
