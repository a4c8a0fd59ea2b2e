#include "plugins/image-oci/credentials.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/names.hpp"
#include "plugins/image-oci/documents.hpp"
#include "plugins/image-oci/regular_file.hpp"

namespace banger::image_oci {

namespace {

constexpr ByteCount max_file = ByteCount::mib(1);

/// A link to where somebody keeps all his settings is common.
Result<std::string> read_logins(const std::string& path) {
    const UniqueFd file = BANGER_TRY(open_regular(path));
    return read_all(file.get(), max_file);
}

/// The name under which Docker keeps the login to its hub.
constexpr std::string_view hub_key = "https://index.docker.io/v1/";

std::string key_of(const std::string& registry) {
    return registry == "docker.io" ? std::string(hub_key) : registry;
}

/// "https://index.docker.io/v1/" and "index.docker.io" are docker.io; "https://r.example/v2/" is
/// r.example; "ghcr.io/team" stays.
std::string plain_key(std::string_view key) {
    const std::size_t scheme = key.find("://");
    if (scheme != key.npos) {
        key.remove_prefix(scheme + 3);
        key = key.substr(0, key.find('/'));
    }
    for (const std::string_view ending : {"/v1/", "/v2/", "/v1", "/v2", "/"})
        if (key.ends_with(ending)) key.remove_suffix(ending.size());
    if (key == "index.docker.io" || key == "registry-1.docker.io") return "docker.io";
    return std::string(key);
}

Login login_of(const StoredLogin& stored) {
    if (!stored.identity_token.empty()) return {"", "", stored.identity_token};
    return {stored.user, stored.password, ""};
}

/// Of the entries whose key is the repository or a folder above it, the longest.
Login find_stored(const DockerConfig& config, const std::string& registry,
                  const std::string& repository) {
    const std::string whole = registry + "/" + repository + "/";
    const StoredLogin* best = nullptr;
    std::size_t length = 0;
    for (const StoredLogin& login : config.logins) {
        const std::string key = plain_key(login.registry);
        if (!whole.starts_with(key + "/") || key.size() < length) continue;
        if (login_of(login).is_empty()) continue;  // its secret is in a helper
        best = &login;
        length = key.size();
    }
    return best ? login_of(*best) : Login();
}

Result<UniqueFd> input_of(const std::string& text) {
    UniqueFd file(::memfd_create("input", MFD_CLOEXEC));
    if (!file) return Error::from_errno(errno, "memfd_create");
    BANGER_TRY(write_all(file.get(), text));
    if (::lseek(file.get(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek");
    return file;
}

/// Keyrings are reached over the session's bus.
void add_session(std::map<std::string, std::string>& environment) {
    const std::string folder = "/run/user/" + std::to_string(::getuid());
    if (!path_exists(folder)) return;
    environment["XDG_RUNTIME_DIR"] = folder;
    if (path_exists(folder + "/bus"))
        environment["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=" + folder + "/bus";
}

std::string remedy_of(const std::string& registry) {
    return "Log in again with docker login " + registry +
           ", or correct plugin.image-oci.docker_config.";
}

}  // namespace

Result<std::string> helper_program(std::string_view name) {
    const auto is_alnum = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    };
    if (!name.empty() && name.size() <= 64 && is_alnum(name.front()) &&
        std::ranges::all_of(
            name, [&](char c) { return is_alnum(c) || c == '.' || c == '_' || c == '-'; }))
        return "docker-credential-" + std::string(name);
    return Error(Errc::invalid_argument, quoted(name) + " is not the name of a credential helper",
                 "Correct credsStore and credHelpers in the file of logins.");
}

Result<Login> Credentials::find(const std::string& registry, const std::string& repository,
                                std::stop_token stop) const {
    if (file_.empty()) return Login();
    const Result<std::string> text = read_logins(file_);
    if (!text && text.error().code == Errc::not_found) return Login();
    if (!text) return text.error().context("reading the logins");
    Result<DockerConfig> config = parse_docker_config(*text);
    if (!config) {
        Error error = std::move(config).error().context("reading " + file_);
        error.remedy = remedy_of(registry);
        return error;
    }
    const auto helper = std::ranges::find_if(
        config->helpers, [&](const auto& each) { return plain_key(each.first) == registry; });
    if (helper != config->helpers.end()) return ask_helper(helper->second, key_of(registry), stop);
    if (Login login = find_stored(*config, registry, repository);
        !login.is_empty() || config->store.empty())
        return login;
    return ask_helper(config->store, key_of(registry), stop);
}

Result<Login> Credentials::ask_helper(const std::string& name, const std::string& registry,
                                      std::stop_token stop) const {
    const std::string program = BANGER_TRY(helper_program(name));
    const Result<std::string> path = find_program(program);
    if (!path)
        return Error(Errc::unavailable, program + ", which has the logins, is not installed",
                     "Install it, or take it out of " + file_ + ".");
    const UniqueFd input = BANGER_TRY(input_of(registry + "\n"));
    Command command;
    command.program = *path;
    command.arguments = {"get"};
    command.environment = minimal_environment();
    add_session(command.environment);
    command.standard_input = input.get();
    command.dies_with_parent = true;
    Result<CommandOutput> output =
        run_command(std::move(command), helper_deadline_, ByteCount::kib(64), stop);
    if (!output) {
        if (output.error().code != Errc::timed_out)
            return output.error().context("asking " + program);
        return Error(Errc::timed_out, program + " gave no answer",
                     "Run it by hand: echo " + registry + " | " + program + " get");
    }
    if (!output->status.is_success()) {
        // The helpers' protocol has this sentence for "no login"; what else they print may not be
        // shown.
        if (output->standard_output.find("credentials not found") != std::string::npos)
            return Login();
        return Error(Errc::unavailable, program + " failed: " + output->status.text(),
                     "Run it by hand: echo " + registry + " | " + program + " get");
    }
    Result<HelperReply> reply = parse_helper_reply(output->standard_output);
    if (!reply)
        return Error(Errc::corrupt, program + " printed no login",
                     "Run it by hand: echo " + registry + " | " + program + " get");
    if (reply->user == "<token>") return Login{"", "", reply->secret};
    return Login{reply->user, reply->secret, ""};
}

Check Credentials::check() const {
    const std::string name = "registry logins";
    if (file_.empty()) return {name, CheckStatus::pass, "none: there is no home folder", ""};
    const Result<std::string> text = read_logins(file_);
    if (!text && text.error().code == Errc::not_found)
        return {name, CheckStatus::pass, "none: there is no " + file_, ""};
    if (!text)
        return {name, CheckStatus::warn, text.error().message,
                "Make it readable to you, or set plugin.image-oci.docker_config."};
    const Result<DockerConfig> config = parse_docker_config(*text);
    if (!config)
        return {name, CheckStatus::warn, config.error().context("reading " + file_).message,
                "Correct it, or log in again with docker login."};
    std::vector<std::string> helpers;
    for (const auto& [registry, helper] : config->helpers)
        helpers.push_back(helper);
    if (!config->store.empty()) helpers.push_back(config->store);
    for (const std::string& helper : helpers) {
        const Result<std::string> program = helper_program(helper);
        if (!program)
            return {name, CheckStatus::warn, program.error().message, program.error().remedy};
        if (!find_program(*program))
            return {name, CheckStatus::warn, *program + " is not installed",
                    "Install it, or take it out of " + file_ + "."};
    }
    return {name, CheckStatus::pass,
            file_ + ": " + std::to_string(config->logins.size()) + " registries" +
                (helpers.empty() ? "" : ", with credential helpers"),
            ""};
}

}  // namespace banger::image_oci
