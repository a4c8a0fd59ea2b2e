#include "plugins/image-oci/archive.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

#include "core/base/names.hpp"
#include "plugins/image-oci/bytes.hpp"
#include "plugins/image-oci/regular_file.hpp"
#include "plugins/image-oci/tar_index.hpp"

namespace banger::image_oci {

namespace {

/// The files of a layout or archive, by the names that its documents use.
class FileTree {
public:
    struct Found {
        std::uint64_t size = 0;
        std::string locator;  ///< for send_filed_part()
    };
    virtual ~FileTree() = default;
    /// Errc::not_found when there is none.
    virtual Result<Found> find(const std::string& name) = 0;
    virtual Result<std::string> read(const std::string& name) = 0;
};

Error missing(const std::string& name) {
    return {Errc::not_found, "there is no " + name + " in it"};
}

Error too_large(const std::string& name) {
    return {Errc::corrupt, name + " is larger than " + max_document.text(), "Write it again."};
}

/// A folder. Only names that have no way out of it are asked for: fixed ones, and digests.
class FolderTree final : public FileTree {
public:
    explicit FolderTree(std::string folder) : folder_(std::move(folder)) {}

    Result<Found> find(const std::string& name) override {
        const UniqueFd file = BANGER_TRY(open(name));
        return Found{BANGER_TRY(size_of(file)), name};
    }
    Result<std::string> read(const std::string& name) override {
        const UniqueFd file = BANGER_TRY(open(name));
        const std::uint64_t size = BANGER_TRY(size_of(file));
        if (size > max_document.count()) return too_large(name);
        return read_range(file, 0, size);
    }

private:
    Result<UniqueFd> open(const std::string& name) const {
        Result<UniqueFd> file = open_regular(folder_ + "/" + name);
        if (!file && file.error().code == Errc::not_found) return missing(name);
        return file;
    }
    std::string folder_;
};

/// "OFFSET+SIZE" of a run in an archive.
std::string locator_of(const TarIndex::Entry& entry) {
    return std::to_string(entry.offset) + "+" + std::to_string(entry.size);
}

class ArchiveTree final : public FileTree {
public:
    ArchiveTree(UniqueFd file, TarIndex index) : file_(std::move(file)), index_(std::move(index)) {}

    static Result<std::unique_ptr<ArchiveTree>> open(const std::string& path) {
        UniqueFd file = BANGER_TRY(open_regular(path));
        BANGER_TRY(refuse_compressed(file, path));
        TarIndex index = BANGER_TRY(TarIndex::read(file).context("reading " + path));
        return std::make_unique<ArchiveTree>(std::move(file), std::move(index));
    }
    Result<Found> find(const std::string& name) override {
        const TarIndex::Entry* entry = index_.find(name);
        if (!entry) return missing(name);
        return Found{entry->size, locator_of(*entry)};
    }
    Result<std::string> read(const std::string& name) override {
        const TarIndex::Entry* entry = index_.find(name);
        if (!entry) return missing(name);
        if (entry->size > max_document.count()) return too_large(name);
        return read_range(file_, entry->offset, entry->size);
    }

private:
    /// Layers are read where they lie, which a packed archive does not let us.
    static Result<void> refuse_compressed(const UniqueFd& file, const std::string& path) {
        const std::uint64_t size = BANGER_TRY(size_of(file));
        const std::string head = BANGER_TRY(read_range(file, 0, std::min<std::uint64_t>(size, 6)));
        const auto refuse = [&](const std::string& with, const std::string& tool) {
            return Error(Errc::unsupported, path + " is packed with " + with,
                         "Unpack it first: " + tool + " -dc " + path + " > image.tar");
        };
        if (head.starts_with("\x1f\x8b")) return refuse("gzip", "gzip");
        if (head.starts_with("\x28\xb5\x2f\xfd")) return refuse("zstd", "zstd");
        if (head.starts_with("\xfd"
                             "7zXZ"))
            return refuse("xz", "xz");
        if (head.starts_with("BZh")) return refuse("bzip2", "bzip2");
        return ok();
    }
    UniqueFd file_;
    TarIndex index_;
};

Result<std::unique_ptr<FileTree>> open_tree(const FileReference& reference) {
    const std::string& path = reference.path;
    if (reference.kind != FileReference::Kind::layout)
        return std::unique_ptr<FileTree>(BANGER_TRY(ArchiveTree::open(path)));
    const UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder && errno == ENOTDIR)
        return Error(Errc::invalid_argument, path + " is not a folder",
                     "For a tar file write oci-archive:" + path + ".");
    if (!folder) return Error::from_errno(errno, "opening " + path);
    return std::unique_ptr<FileTree>(std::make_unique<FolderTree>(path));
}

std::string blob_name(const Digest& digest) { return "blobs/sha256/" + std::string(digest.hex()); }

class FiledDocuments final : public Documents {
public:
    explicit FiledDocuments(FileTree& tree) : tree_(tree) {}
    Result<std::string> manifest(const Descriptor& descriptor, Call&) override {
        return read(descriptor);
    }
    Result<std::string> config(const Descriptor& descriptor, Call&) override {
        return read(descriptor);
    }

private:
    Result<std::string> read(const Descriptor& descriptor) {
        Result<std::string> text = tree_.read(blob_name(descriptor.digest));
        if (!text && text.error().code == Errc::not_found)
            return Error(Errc::corrupt, text.error().message, "Write the layout again.");
        return text;
    }
    FileTree& tree_;
};

std::string list_of(const std::vector<std::string>& names) {
    std::string text;
    for (std::size_t i = 0; i < names.size() && i < 16; ++i)
        text += (i == 0 ? "" : ", ") + quoted(names[i]);
    return text.empty() ? "none with a name" : text;
}

/// "3.20" is also the tag of "docker.io/library/alpine:3.20".
bool is_called(const std::string& full, const std::string& wanted) {
    return full == wanted || full.ends_with(":" + wanted);
}

Result<Descriptor> choose_entry(const Index& index, const FileReference& reference) {
    std::vector<std::string> names;
    std::vector<const Descriptor*> fitting;
    for (const Descriptor& entry : index.entries) {
        if (!entry.name.empty()) names.push_back(entry.name);
        const bool fits = reference.digest
                              ? entry.digest == *reference.digest
                              : reference.name.empty() || is_called(entry.name, reference.name);
        if (fits) fitting.push_back(&entry);
    }
    if (fitting.size() == 1) return *fitting.front();
    if (fitting.empty() && index.entries.empty())
        return Error(Errc::invalid_argument, reference.path + " has no image in it",
                     "Write it again, or name another one.");
    if (fitting.empty())
        return Error(Errc::invalid_argument,
                     reference.path + " has no such image; it has " + list_of(names),
                     "Write one of these after the path, as :TAG.");
    // One image under several names, or copied in twice.
    if (std::ranges::all_of(fitting, [&](const Descriptor* each) {
            return each->digest == fitting.front()->digest;
        }))
        return *fitting.front();
    return Error(Errc::invalid_argument, reference.path + " has several images: " + list_of(names),
                 "Write which one after the path, as :TAG.");
}

Result<FiledImage> read_layout(FileTree& tree, const FileReference& reference,
                               const std::string& architecture, Call& call) {
    const Result<std::string> mark = tree.read("oci-layout");
    if (!mark && mark.error().code == Errc::not_found) {
        const bool is_docker = tree.find("manifest.json").has_value();
        return Error(
            Errc::invalid_argument, reference.path + " is not an OCI layout",
            is_docker
                ? "It was written by docker save: write docker-archive:" + reference.path + "."
                : "Name what skopeo, buildah or podman wrote as oci or oci-archive.");
    }
    if (!mark) return mark.error();
    BANGER_TRY(check_layout_file(*mark));
    const Index index = BANGER_TRY(parse_layout_index(BANGER_TRY(tree.read("index.json"))));
    const Descriptor entry = BANGER_TRY(choose_entry(index, reference));
    FiledDocuments documents(tree);
    const std::string text = BANGER_TRY(documents.manifest(entry, call));
    BANGER_TRY(check_bytes(text, entry, "the manifest"));
    Image image = BANGER_TRY(find_image(BANGER_TRY(parse_manifest(text, entry.media_type)),
                                        entry.digest, architecture, documents, call));
    FiledImage filed{image.digest, std::move(image.config), {}, entry.name};
    for (const Descriptor& layer : image.manifest.layers) {
        const Result<FileTree::Found> found = tree.find(blob_name(layer.digest));
        if (!found)
            return Error(Errc::corrupt, "the layer " + layer.digest.str() + " is not in it",
                         "Write the layout again.");
        if (found->size != layer.size.count())
            return Error(Errc::corrupt,
                         "the layer " + layer.digest.str() + " has " + std::to_string(found->size) +
                             " bytes instead of " + std::to_string(layer.size.count()),
                         "Write the layout again.");
        filed.parts.push_back({PartFormat::tar_layer, layer.digest, layer.size, found->locator});
    }
    return filed;
}

Result<ArchivedImage> choose_archived(std::vector<ArchivedImage> images,
                                      const FileReference& reference) {
    std::vector<std::string> names;
    std::vector<ArchivedImage*> fitting;
    for (ArchivedImage& image : images) {
        names.insert(names.end(), image.names.begin(), image.names.end());
        const bool fits =
            reference.name.empty() || std::ranges::any_of(image.names, [&](const auto& name) {
                if (name == reference.name) return true;
                const Result<Reference> left = parse_reference(name, "docker.io");
                const Result<Reference> right = parse_reference(reference.name, "docker.io");
                return left && right && *left == *right;
            });
        if (fits) fitting.push_back(&image);
    }
    if (fitting.size() == 1) return std::move(*fitting.front());
    return Error(Errc::invalid_argument,
                 reference.path +
                     (fitting.empty() ? " has no such image; it has " : " has several images: ") +
                     list_of(names),
                 "Write which one after the path: docker-archive:" + reference.path + ":NAME:TAG.");
}

/// What `docker save` calls a file by its digest; nothing for the names of older versions.
std::optional<Digest> digest_in_name(std::string_view name) {
    if (name.starts_with("blobs/sha256/")) name.remove_prefix(13);
    if (name.ends_with(".json")) name.remove_suffix(5);
    const Result<Digest> digest = Digest::parse("sha256:" + std::string(name));
    return digest ? std::optional(*digest) : std::nullopt;
}

Result<FiledImage> read_docker_archive(FileTree& tree, const FileReference& reference,
                                       const std::string& architecture) {
    const Result<std::string> list = tree.read("manifest.json");
    if (!list && list.error().code == Errc::not_found) {
        const bool is_layout = tree.find("oci-layout").has_value();
        return Error(Errc::invalid_argument, reference.path + " was not written by docker save",
                     is_layout ? "Write oci-archive:" + reference.path + "."
                               : "Name a file that docker save or podman save wrote.");
    }
    if (!list) return list.error();
    const ArchivedImage image =
        BANGER_TRY(choose_archived(BANGER_TRY(parse_archive_manifest(*list)), reference));
    const std::string text = BANGER_TRY(tree.read(image.config).context("reading the config"));
    const Digest digest = digest_of(text);
    if (const auto named = digest_in_name(image.config); named && *named != digest)
        return Error(Errc::corrupt,
                     "the config has the digest " + digest.str() + " instead of " + named->str(),
                     "Save the image again.");
    FiledImage filed{
        digest, BANGER_TRY(parse_config(text)), {}, image.names.empty() ? "" : image.names.front()};
    if (!reference.name.empty()) filed.name = reference.name;
    BANGER_TRY(check_config(filed.config, image.layers.size(), architecture));
    for (std::size_t i = 0; i < image.layers.size(); ++i) {
        const Result<FileTree::Found> found = tree.find(image.layers[i]);
        if (!found)
            return Error(Errc::corrupt, "the layer " + quoted(image.layers[i]) + " is not in it",
                         "Save the image again.");
        // A blob may be packed, and is called by the digest of what it is. Before, layers were
        // plain, and the config has their digests.
        const bool is_blob = image.layers[i].starts_with("blobs/");
        const std::optional<Digest> named =
            is_blob ? digest_in_name(image.layers[i]) : std::nullopt;
        filed.parts.push_back({PartFormat::tar_layer, named.value_or(filed.config.diff_ids[i]),
                               ByteCount::bytes(found->size), found->locator});
    }
    return filed;
}

Result<TarIndex::Entry> parse_run(const std::string& locator) {
    TarIndex::Entry entry;
    const char* end = locator.data() + locator.size();
    const auto first = std::from_chars(locator.data(), end, entry.offset);
    if (first.ec == std::errc() && first.ptr != end && *first.ptr == '+') {
        const auto second = std::from_chars(first.ptr + 1, end, entry.size);
        if (second.ec == std::errc() && second.ptr == end && locator == locator_of(entry))
            return entry;
    }
    return Error(Errc::invalid_argument, "the part's locator is no place in an archive");
}

}  // namespace

Result<FiledImage> read_filed_image(const FileReference& reference, const std::string& architecture,
                                    Call& call) {
    const Result<std::unique_ptr<FileTree>> tree = open_tree(reference);
    if (!tree) {
        Error error = tree.error();
        // "Not mine" to those who ask image sources; and the daemon is not the user.
        if (error.code == Errc::not_found)
            return Error(Errc::invalid_argument, "there is no " + reference.path,
                         "Correct the path.");
        if (error.code == Errc::permission_denied && error.remedy.empty())
            error.remedy =
                "Make it readable to bangerd: it runs as you, but in system mode sees no "
                "more than your home and the system's folders, and a /tmp of its own.";
        return error;
    }
    Result<FiledImage> image = reference.kind == FileReference::Kind::docker_archive
                                   ? read_docker_archive(**tree, reference, architecture)
                                   : read_layout(**tree, reference, architecture, call);
    if (image || image.error().code != Errc::not_found) return image;
    return Error(Errc::corrupt, reference.path + " is not whole: " + image.error().message,
                 "Write it again.");
}

Result<void> send_filed_part(const FileReference& reference, const Part& part,
                             std::uint64_t resume_from, const UniqueFd& sink,
                             const std::string& stage, Call& call) {
    if (reference.kind != FileReference::Kind::layout) {
        const TarIndex::Entry run = BANGER_TRY(parse_run(part.locator));
        const UniqueFd file = BANGER_TRY(open_regular(reference.path));
        return send_range(file, run.offset, run.size, resume_from, sink, stage, call);
    }
    const std::optional<Digest> digest = digest_in_name(part.locator);
    if (!digest || part.locator != blob_name(*digest))
        return Error(Errc::invalid_argument, "the part's locator is no blob of a layout");
    const UniqueFd file = BANGER_TRY(open_regular(reference.path + "/" + part.locator));
    return send_range(file, 0, BANGER_TRY(size_of(file)), resume_from, sink, stage, call);
}

}  // namespace banger::image_oci
