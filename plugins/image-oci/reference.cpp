#include "plugins/image-oci/reference.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "core/base/names.hpp"
#include "plugins/image-oci/bytes.hpp"

namespace banger::image_oci {

namespace {

constexpr std::size_t max_reference = 4096;  // a path may be in it
constexpr std::size_t max_name = 255;
constexpr std::size_t max_tag = 128;
constexpr std::string_view docker_hub = "docker.io";

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alnum(char c) { return is_lower(c) || is_upper(c) || is_digit(c); }
char to_lower(char c) { return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lower(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(), to_lower);
    return result;
}

bool is_hex_64(std::string_view text) {
    return text.size() == 64 &&
           std::ranges::all_of(text, [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

Error wrong(std::string_view what, std::string_view text, std::string remedy) {
    return {Errc::invalid_argument, quoted(text) + " is not " + std::string(what),
            std::move(remedy)};
}

bool is_port(std::string_view text) {
    unsigned port = 0;
    const char* end = text.data() + text.size();
    const auto [rest, problem] = std::from_chars(text.data(), end, port);
    return problem == std::errc() && rest == end && text.size() <= 5 && port >= 1 && port <= 65535;
}

/// "ghcr.io", "my-host": labels of letters, digits and inner hyphens.
bool is_host_name(std::string_view host) {
    if (host.empty() || host.size() > 253) return false;
    for (;;) {
        const std::size_t dot = host.find('.');
        const std::string_view label = host.substr(0, dot);
        const bool is_label =
            !label.empty() && label.size() <= 63 && is_alnum(label.front()) &&
            is_alnum(label.back()) &&
            std::ranges::all_of(label, [](char c) { return is_alnum(c) || c == '-'; });
        if (!is_label) return false;
        if (dot == host.npos) return true;
        host.remove_prefix(dot + 1);
    }
}

struct Authority {
    std::string_view host;  ///< an IPv6 address with its brackets
    std::string_view port;  ///< empty when there is none
    bool has_port = false;
};

Authority split_authority(std::string_view registry) {
    const std::size_t colon = registry.rfind(':');
    const std::size_t bracket = registry.rfind(']');
    if (colon == registry.npos || (bracket != registry.npos && colon < bracket))
        return {registry, {}, false};
    return {registry.substr(0, colon), registry.substr(colon + 1), true};
}

/// Whether the first component of a name is a registry, by Docker's rule.
bool looks_like_registry(std::string_view component) {
    return component.find_first_of(".:") != component.npos || component == "localhost" ||
           std::ranges::any_of(component, is_upper);
}

/// "a", "a.b", "a_b", "a__b", "a--b".
bool is_path_component(std::string_view text) {
    const auto is_word = [](char c) { return is_lower(c) || is_digit(c); };
    std::size_t at = 0;
    while (true) {
        const std::size_t begin = at;
        while (at < text.size() && is_word(text[at]))
            ++at;
        if (at == begin) return false;
        if (at == text.size()) return true;
        const std::size_t mark = at;
        while (at < text.size() && !is_word(text[at]))
            ++at;
        const std::string_view separator = text.substr(mark, at - mark);
        const bool is_separator = separator == "." || separator == "_" || separator == "__" ||
                                  separator.find_first_not_of('-') == separator.npos;
        if (!is_separator) return false;
    }
}

Result<void> check_tag(std::string_view tag) {
    const auto is_word = [](char c) { return is_alnum(c) || c == '_'; };
    if (!tag.empty() && tag.size() <= max_tag && is_word(tag.front()) &&
        std::ranges::all_of(tag, [&](char c) { return is_word(c) || c == '.' || c == '-'; }))
        return ok();
    return wrong("a tag", tag,
                 "Use 1 to 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'.");
}

Result<Digest> parse_digest(std::string_view text) {
    if (text.starts_with("sha512:"))
        return Error(Errc::unsupported, "digests by sha512 are not supported",
                     "Name the image by its sha256 digest, or by its tag.");
    const Result<Digest> digest = Digest::parse(text);
    if (digest) return digest;
    return wrong("a digest", text,
                 "Write sha256: and 64 lower-case hexadecimal digits after the '@'.");
}

struct Scheme {
    std::string_view prefix;
    FileReference::Kind kind;
};
constexpr std::array schemes{Scheme{"oci:", FileReference::Kind::layout},
                             Scheme{"oci-archive:", FileReference::Kind::oci_archive},
                             Scheme{"docker-archive:", FileReference::Kind::docker_archive}};

std::string_view prefix_of(FileReference::Kind kind) {
    return std::ranges::find(schemes, kind, &Scheme::kind)->prefix;
}

Result<FileReference> parse_file(const Scheme& scheme, std::string_view rest) {
    FileReference file;
    file.kind = scheme.kind;
    const std::size_t at = rest.find("@sha");
    const std::size_t colon = rest.find(':');
    if (at != rest.npos && at < colon) {
        file.digest = BANGER_TRY(parse_digest(rest.substr(at + 1)));
        file.path = rest.substr(0, at);
    } else {
        file.path = rest.substr(0, colon);
        if (colon != rest.npos) file.name = rest.substr(colon + 1);
    }
    const std::string form = std::string(scheme.prefix) +
                             (scheme.kind == FileReference::Kind::layout ? "/FOLDER" : "/FILE");
    if (!file.path.starts_with('/'))
        return wrong("an absolute path", file.path, "Write " + form + ", with the whole path.");
    const bool is_plain = std::ranges::all_of(file.name, [](char c) {
        return is_alnum(c) || std::string_view("._:/@-").find(c) != std::string_view::npos;
    });
    if (!is_plain || file.name.size() > max_name + max_tag || file.name.starts_with('-') ||
        (file.name.empty() && rest.ends_with(':')))
        return wrong("a name of an image in it", file.name,
                     "Write " + form + ":TAG; the path itself must not contain a colon.");
    if (file.kind == FileReference::Kind::docker_archive && file.digest)
        return wrong("something to find an image in such an archive by", file.digest->str(),
                     "Write " + form + ":NAME:TAG, or nothing when it has only one.");
    return file;
}

}  // namespace

Result<void> check_registry(std::string_view registry) {
    const auto [host, port, has_port] = split_authority(registry);
    bool is_host = is_host_name(host);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        in6_addr address{};
        is_host = ::inet_pton(AF_INET6, std::string(host.substr(1, host.size() - 2)).c_str(),
                              &address) == 1;
    }
    if (is_host && (!has_port || is_port(port)) && registry.size() <= max_name) return ok();
    return wrong("a registry", registry, "Write a host name or address, perhaps with :PORT.");
}

Result<void> check_repository(std::string_view repository) {
    const std::string whole(repository);
    if (repository.empty() || repository.size() > max_name)
        return wrong("a repository", repository, "Use 1 to 255 characters.");
    if (std::ranges::any_of(repository, is_upper))
        return wrong("a repository", repository,
                     "Names are lower-case: " + quoted(lower(repository)) + ".");
    for (std::string_view rest = repository;;) {
        const std::size_t slash = rest.find('/');
        if (!is_path_component(rest.substr(0, slash)))
            return wrong("a repository", repository,
                         "Use lower-case letters and digits, with single '.', '_', '-' or '/' "
                         "between them.");
        if (slash == rest.npos) return ok();
        rest.remove_prefix(slash + 1);
    }
}

std::string host_of(std::string_view registry) {
    std::string_view host = split_authority(registry).host;
    if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
    return lower(host);
}

bool is_loopback(std::string_view registry) {
    const std::string host = host_of(registry);
    in_addr v4{};
    in6_addr v6{};
    if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    if (::inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
    return host == "localhost";
}

std::string ImageReference::text() const {
    return registry + "/" + repository + (digest ? "@" + digest->str() : ":" + tag);
}

std::string FileReference::text() const {
    return std::string(prefix_of(kind)) + path + (name.empty() ? "" : ":" + name) +
           (digest ? "@" + digest->str() : "");
}

Result<Reference> parse_reference(std::string_view text, std::string_view default_registry) {
    if (text.empty()) return Error(Errc::not_found, "an empty reference is nobody's");
    if (text.size() > max_reference)
        return wrong("a reference", text, "It is longer than any; leave out what does not belong.");
    for (const Scheme& scheme : schemes)
        if (text.starts_with(scheme.prefix)) {
            if (text.find('\0') != text.npos)
                return wrong("a path", text, "Leave out the NUL character.");
            return Reference(BANGER_TRY(parse_file(scheme, text.substr(scheme.prefix.size()))));
        }
    if (text.find("://") != text.npos)
        return wrong("a reference to an image", text,
                     "Write it without https://, as REGISTRY/NAME:TAG.");
    if (text.starts_with('/') || text.starts_with("./") || text.starts_with("../") ||
        text.starts_with("~/"))
        return wrong("a reference to an image", text,
                     "For files write oci-archive:FILE or docker-archive:FILE, for a folder "
                     "oci:FOLDER.");
    const bool is_plain = std::ranges::all_of(text, [](char c) {
        return is_alnum(c) || std::string_view("._:/@[]-").find(c) != std::string_view::npos;
    });
    if (!is_plain || text.starts_with('-'))
        return wrong("a reference to an image", text, "Write [REGISTRY/]NAME[:TAG|@DIGEST].");

    // "debian-kernel:x/y" is another source's: the word before the colon is no host with a port.
    if (const std::size_t slash = text.find('/'); slash != text.npos) {
        const Authority authority = split_authority(text.substr(0, slash));
        if (authority.has_port && !authority.port.empty() && !is_digit(authority.port.front()))
            return Error(Errc::not_found, "not a reference of a registry");
    }
    ImageReference image;
    std::string_view name = text;
    if (const std::size_t at = name.find('@'); at != name.npos) {
        image.digest = BANGER_TRY(parse_digest(name.substr(at + 1)));
        name = name.substr(0, at);
    }
    const std::size_t slash = name.find('/');
    const std::string_view first = name.substr(0, slash);
    if (slash != name.npos && looks_like_registry(first)) {
        BANGER_TRY(check_registry(first));
        image.registry = lower(first);
        name.remove_prefix(slash + 1);
    } else {
        image.registry = default_registry;
    }
    if (image.registry == "index.docker.io") image.registry = docker_hub;
    if (const std::size_t colon = name.rfind(':'); colon != name.npos) {
        image.tag = name.substr(colon + 1);
        BANGER_TRY(check_tag(image.tag));
        name = name.substr(0, colon);
    }
    BANGER_TRY(check_repository(name));
    if (is_hex_64(name))
        return wrong("a repository", name,
                     "It looks like the id of an image; name the image instead.");
    image.repository = name;
    if (image.registry == docker_hub && name.find('/') == name.npos)
        image.repository = "library/" + image.repository;
    if (image.registry.size() + 1 + image.repository.size() > max_name)
        return wrong("a name of an image", name, "Use at most 255 characters.");
    if (image.digest)
        image.tag.clear();
    else if (image.tag.empty())
        image.tag = "latest";
    return Reference(std::move(image));
}

namespace {

std::string readable_name(const ImageReference& image) {
    std::string name = image.repository;
    if (image.registry != docker_hub)
        name = image.registry + "-" + name;
    else if (name.starts_with("library/"))
        name = name.substr(8);
    if (image.digest) return name + "-" + std::string(image.digest->hex().substr(0, 12));
    return image.tag == "latest" ? name : name + "-" + image.tag;
}

std::string readable_name(const FileReference& file) {
    std::string_view path = file.path;
    while (path.ends_with('/'))
        path.remove_suffix(1);
    std::string stem(path.substr(path.rfind('/') + 1));
    for (const std::string_view ending : {".tar", ".oci"})
        if (stem.ends_with(ending) && stem.size() > ending.size())
            stem.resize(stem.size() - ending.size());
    if (file.digest) return stem + "-" + std::string(file.digest->hex().substr(0, 12));
    if (file.name.empty()) return stem;
    // What is in a docker archive has a whole name already.
    if (file.kind == FileReference::Kind::docker_archive)
        if (const Result<Reference> inner = parse_reference(file.name, docker_hub))
            return suggested_name(*inner);
    return stem + "-" + file.name;
}

}  // namespace

std::string suggested_name(const Reference& reference) {
    const std::string readable =
        std::visit([](const auto& each) { return readable_name(each); }, reference);
    std::string name;
    for (const char c : readable) {
        const bool is_kept = is_alnum(c) || c == '.' || c == '_' || c == '-';
        if (name.empty() && !is_alnum(c)) continue;
        name += is_kept ? to_lower(c) : '-';
    }
    constexpr std::size_t longest = 64;
    // What was cut off or folded would make two images one.
    const bool is_folded = std::ranges::any_of(readable, is_upper);
    if (name.empty()) name = "image";
    if (name.size() <= longest && !is_folded) return name;
    const std::string text = std::visit([](const auto& each) { return each.text(); }, reference);
    name.resize(std::min(name.size(), longest - 13));
    return name + "-" + std::string(digest_of(text).hex().substr(0, 12));
}

}  // namespace banger::image_oci
