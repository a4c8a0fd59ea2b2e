#include "fake_image_source.hpp"

#include <elf.h>
#include <openssl/evp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <condition_variable>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/file.hpp"
#include "core/base/process.hpp"

namespace banger {

namespace {

using namespace std::string_view_literals;
using Words = std::set<std::string, std::less<>>;

constexpr std::string_view prefix = "fake:";
/// A tar archive of the host's, by its path: an image that boots, for the boot tests.
constexpr std::string_view tar_prefix = "fake:tar=";
constexpr std::array known_words{"slow"sv, "stall"sv, "fail"sv,     "fail-fetch"sv,
                                 "lie"sv,  "short"sv, "no-digest"sv};

struct Product {
    std::string_view name;
    ArtifactKind kind;
    std::string_view description;
};
constexpr std::array products{
    Product{"small", ArtifactKind::image, "a root file system of a few files"},
    Product{"large", ArtifactKind::image, "the same and 32 MiB"},
    Product{"kernel", ArtifactKind::kernel, "a kernel that boots nothing"},
};
constexpr std::string_view alias = "alias";

/// "fake:small,slow" taken apart.
struct Reference {
    std::string name;
    Words words;
};

Result<Reference> parse_reference(std::string_view text) {
    Reference reference;
    std::string_view rest = text.substr(prefix.size());
    for (bool is_first = true; is_first || !rest.empty(); is_first = false) {
        const std::size_t comma = rest.find(',');
        const std::string_view word = rest.substr(0, comma);
        rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 1);
        if (is_first)
            reference.name = word;
        else if (std::ranges::find(known_words, word) != known_words.end())
            reference.words.emplace(word);
        else
            return Error(Errc::invalid_argument, "the reference has a word that fake does not know",
                         "Use slow, stall, fail, fail-fetch, lie, short or no-digest.");
    }
    return reference;
}

/// One member of a tar archive in ustar format (POSIX.1-1988). Fixed time, so that the same content
/// is the same archive.
void add_member(std::string& tar, const std::string& name, char type, unsigned mode,
                std::string_view content, const std::string& link = {}) {
    std::array<char, 512> header{};
    const auto text = [&](std::size_t at, std::string_view value) {
        std::memcpy(header.data() + at, value.data(), value.size());
    };
    const auto octal = [&](std::size_t at, std::size_t digits, std::size_t value) {
        for (; digits > 0; value >>= 3)
            header[at + --digits] = static_cast<char>('0' + (value & 7));
    };
    text(0, name);
    octal(100, 7, mode);
    octal(108, 7, 0);
    octal(116, 7, 0);
    octal(124, 11, content.size());
    octal(136, 11, 1'700'000'000);
    text(148, "        ");
    header[156] = type;
    text(157, link);
    text(257, "ustar\00000"sv);
    text(265, "root");
    text(297, "root");
    std::size_t sum = 0;
    for (const char c : header)
        sum += static_cast<unsigned char>(c);
    octal(148, 6, sum);
    tar.append(header.data(), header.size());
    tar.append(content);
    tar.append((512 - content.size() % 512) % 512, '\0');
}

std::string finished(std::string tar) {
    tar.append(1024, '\0');
    return tar;
}

std::string image_layer(std::size_t filler_bytes) {
    std::string tar;
    for (const char* folder : {"dev/", "etc/", "proc/", "root/", "run/", "sys/", "tmp/", "usr/",
                               "usr/bin/", "usr/sbin/", "var/"})
        add_member(tar, folder, '5', folder == "tmp/"sv ? 01777 : 0755, "");
    add_member(tar, "bin", '2', 0777, "", "usr/bin");
    add_member(tar, "sbin", '2', 0777, "", "usr/sbin");
    add_member(tar, "etc/os-release", '0', 0644, "ID=fake\nPRETTY_NAME=\"fake\"\n");
    add_member(tar, "etc/passwd", '0', 0644, "root:x:0:0:root:/root:/bin/sh\n");
    add_member(tar, "root/.profile", '0', 0600, "# made by fake\n");
    add_member(tar, "usr/bin/sh", '0', 0755, "#!/nothing\n");
    std::string filler(filler_bytes, '\0');
    std::uint32_t state = 1;
    for (char& c : filler)
        c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    add_member(tar, "usr/filler", '0', 0644, filler);
    return finished(std::move(tar));
}

std::string kernel_tree() {
    // An ELF header alone: whoever only looks at it finds a kernel, whoever boots it does not.
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_ehsize = sizeof header;
    std::string kernel(reinterpret_cast<const char*>(&header), sizeof header);
    kernel.append(64 << 10, '\0');

    std::string tar;
    const std::string modules = "lib/modules/6.1.0-fake/";
    for (const char* folder : {"boot/", "lib/", "lib/modules/"})
        add_member(tar, folder, '5', 0755, "");
    add_member(tar, modules, '5', 0755, "");
    add_member(tar, modules + "kernel/", '5', 0755, "");
    add_member(tar, "boot/vmlinuz-6.1.0-fake", '0', 0644, kernel);
    add_member(tar, modules + "kernel/virtio_fake.ko", '0', 0644, "no module");
    add_member(tar, modules + "modules.dep", '0', 0644, "kernel/virtio_fake.ko:\n");
    add_member(tar, modules + "modules.builtin", '0', 0644, "");
    add_member(tar, modules + "modules.order", '0', 0644, "kernel/virtio_fake.ko\n");
    return finished(std::move(tar));
}

/// What stands beside the archive in PATH.json, as image configurations have it.
Result<RunConfig> run_config_beside(const std::string& path) {
    const Result<std::string> text = read_file(path + ".json", ByteCount::kib(64));
    if (!text)
        return text.error().code == Errc::not_found ? RunConfig{} : Result<RunConfig>(text.error());
    const nlohmann::json json = nlohmann::json::parse(*text, nullptr, false);
    if (!json.is_object()) return Error(Errc::corrupt, path + ".json is not an object");
    RunConfig config;
    try {
        config.environment = json.value("Env", config.environment);
        config.working_folder = json.value("WorkingDir", "");
        config.user = json.value("User", "");
        config.entrypoint = json.value("Entrypoint", config.entrypoint);
        config.command = json.value("Cmd", config.command);
    } catch (const nlohmann::json::exception& wrong) {
        return Error(Errc::corrupt, path + ".json: " + wrong.what());
    }
    return config;
}

Digest digest_of(std::string_view bytes) {
    std::array<unsigned char, 32> sum{};
    unsigned size = 0;
    EVP_Digest(bytes.data(), bytes.size(), sum.data(), &size, EVP_sha256(), nullptr);
    std::string text = "sha256:";
    for (const unsigned char byte : sum) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return Digest::parse(text).value();
}

/// Returns when the token is triggered.
void wait_for_stop(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait(lock, stop, [] { return false; });
}

Error gone() { return {Errc::cancelled, "the fetch was cancelled"}; }

Result<void> write_piece(std::string_view piece, const UniqueFd& sink,
                         const std::stop_token& stop) {
    while (!piece.empty()) {
        const int ready =
            BANGER_TRY(poll_fd(sink.get(), POLLOUT, std::chrono::milliseconds(-1), stop));
        static_cast<void>(ready);  // an error shows at the write
        // POLLOUT promises room for PIPE_BUF bytes in a pipe; more could block out of reach.
        const ssize_t done =
            ::write(sink.get(), piece.data(), std::min<std::size_t>(piece.size(), PIPE_BUF));
        if (done < 0 && errno == EPIPE) return gone();
        if (done < 0 && errno != EAGAIN && errno != EINTR)
            return Error::from_errno(errno, "writing a part");
        if (done > 0) piece.remove_prefix(static_cast<std::size_t>(done));
    }
    return ok();
}

}  // namespace

FakeImageSource::Bytes FakeImageSource::bytes_of(const std::string& name) {
    const std::lock_guard lock(mutex_);
    Bytes& bytes = made_[name];
    if (!bytes) {
        std::string tar = name == "kernel"  ? kernel_tree()
                          : name == "large" ? image_layer(32 << 20)
                                            : image_layer(1 << 20);
        bytes = std::make_shared<const std::string>(std::move(tar));
    }
    return bytes;
}

Result<Resolution> FakeImageSource::resolve_tar(const std::string& reference) {
    const std::string path = reference.substr(tar_prefix.size());
    const Bytes bytes =
        std::make_shared<const std::string>(BANGER_TRY(read_file(path, ByteCount::mib(256))));
    {
        const std::lock_guard lock(mutex_);
        made_[reference] = bytes;
    }
    ArtifactManifest manifest;
    manifest.kind = ArtifactKind::image;
    manifest.reference = reference;
    manifest.suggested_name = path.substr(path.rfind('/') + 1);
    manifest.suggested_name.resize(
        std::min(manifest.suggested_name.find('.'), manifest.suggested_name.size()));
    manifest.distro = "fake";
    manifest.architecture = "amd64";
    manifest.provenance = "a file of the host's";
    manifest.run_config = BANGER_TRY(run_config_beside(path));
    manifest.parts.push_back(
        {PartFormat::tar_layer, digest_of(*bytes), ByteCount::bytes(bytes->size()), reference});
    return Resolution(std::move(manifest));
}

Result<Resolution> FakeImageSource::resolve(const ResolveRequest& request, Call& call) {
    if (!request.reference.starts_with(prefix))
        return Error(Errc::not_found, "not a reference of the fake source");
    BANGER_TRY(failpoints_.pass("image-source.resolve", call.stop()));
    if (request.reference.starts_with(tar_prefix)) return resolve_tar(request.reference);
    const Reference reference = BANGER_TRY(parse_reference(request.reference));
    if (reference.name == alias && request.kind == ArtifactKind::image)
        return Resolution(Redirect{"fake:small", alias.data(), "", "small by another name", ""});
    const auto product = std::ranges::find_if(products, [&](const Product& known) {
        return known.name == reference.name && known.kind == request.kind;
    });
    if (product == products.end())
        return Error(Errc::invalid_argument,
                     "fake has no " + std::string(to_string(request.kind)) + " of that name",
                     "Use fake:small, fake:large or fake:alias for an image, fake:kernel for a "
                     "kernel.");
    if (reference.words.contains("fail"))
        return Error(Errc::unreachable, "fake does not answer, as the reference wants",
                     "Take the word fail out.");

    const Bytes bytes = bytes_of(reference.name);
    Part part{
        product->kind == ArtifactKind::kernel ? PartFormat::kernel_tree : PartFormat::tar_layer,
        digest_of(*bytes), ByteCount::bytes(bytes->size()), reference.name};
    if (reference.words.contains("lie")) part.digest = digest_of("something else");
    if (reference.words.contains("short")) part.size = ByteCount::bytes(bytes->size() / 2);
    if (reference.words.contains("no-digest")) part.digest.reset();
    ArtifactManifest manifest;
    manifest.kind = request.kind;
    manifest.reference = request.reference;
    manifest.suggested_name = "fake-" + reference.name;
    manifest.distro = "fake";
    manifest.architecture = "amd64";
    manifest.description = product->description;
    manifest.provenance = "made in memory by the fake plugin";
    if (request.kind == ArtifactKind::image) manifest.kernel_reference = "fake:kernel";
    manifest.parts.push_back(std::move(part));
    return Resolution(std::move(manifest));
}

Result<void> FakeImageSource::fetch(const ArtifactManifest& manifest, std::size_t part,
                                    std::uint64_t resume_from, const UniqueFd& sink, Call& call) {
    if (call.stop().stop_requested()) return gone();
    if (part >= manifest.parts.size())
        return Error(Errc::invalid_argument, "the image has no such part");
    if (!manifest.reference.starts_with(prefix))
        return Error(Errc::invalid_argument, "not a reference of the fake source");
    const bool is_tar = manifest.reference.starts_with(tar_prefix);
    const Reference reference = is_tar ? Reference{manifest.reference, {}}
                                       : BANGER_TRY(parse_reference(manifest.reference));
    if (!is_tar && (manifest.parts[part].locator != reference.name ||
                    std::ranges::find(products, reference.name, &Product::name) == products.end()))
        return Error(Errc::invalid_argument, "the part is none of fake's", "Resolve it again.");
    const Bytes bytes = bytes_of(reference.name);
    if (resume_from > bytes->size())
        return Error(Errc::invalid_argument, "the part has no byte to resume from");

    const std::string_view whole = *bytes;
    const std::size_t piece = reference.words.contains("slow") ? 512 : 256 << 10;
    for (std::size_t at = resume_from; at < whole.size();) {
        if (at >= whole.size() / 2) {
            BANGER_TRY(failpoints_.pass("image-source.fetch", call.stop()));
            if (reference.words.contains("fail-fetch"))
                return Error(Errc::unreachable, "the fetch broke off, as the reference wants",
                             "Take the word fail-fetch out.");
            if (reference.words.contains("stall")) wait_for_stop(call.stop());
        }
        if (call.stop().stop_requested()) return gone();
        const std::string_view next = whole.substr(at, piece);
        BANGER_TRY(write_piece(next, sink, call.stop()));
        at += next.size();
        call.report({"reading " + reference.name, at, whole.size(), Progress::Unit::bytes});
    }
    return ok();
}

Result<std::vector<AvailableArtifact>> FakeImageSource::available(Call&) {
    std::vector<AvailableArtifact> artifacts;
    artifacts.reserve(std::size(products));
    for (const Product& product : products)
        artifacts.push_back({product.kind, std::string(prefix) + std::string(product.name), "fake",
                             "amd64", std::string(product.description)});
    return artifacts;
}

std::vector<Check> FakeImageSource::checks(std::stop_token) {
    return {{"fake image source", CheckStatus::pass, "everything is made in memory", ""}};
}

}  // namespace banger
