#pragma once

#include <map>
#include <string>
#include <vector>

#include "plugins/image-oci/bytes.hpp"
#include "tests/images/tar_builder.hpp"

namespace banger::image_oci {

inline constexpr const char* oci_manifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr const char* oci_index = "application/vnd.oci.image.index.v1+json";
inline constexpr const char* oci_config = "application/vnd.oci.image.config.v1+json";
inline constexpr const char* oci_layer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr const char* docker_manifest =
    "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr const char* docker_list =
    "application/vnd.docker.distribution.manifest.list.v2+json";

/// A descriptor as JSON; `more` are further members, each with its comma in front.
inline std::string descriptor(const std::string& type, const std::string& bytes,
                              const std::string& more = "") {
    return R"({"mediaType":")" + type + R"(","digest":")" + digest_of(bytes).str() +
           R"(","size":)" + std::to_string(bytes.size()) + more + "}";
}

inline std::string platform(const std::string& os, const std::string& architecture,
                            const std::string& variant = "") {
    return R"(,"platform":{"os":")" + os + R"(","architecture":")" + architecture +
           (variant.empty() ? "" : R"(","variant":")" + variant) + "\"}";
}

inline std::string joined(const std::vector<std::string>& texts) {
    std::string all;
    for (const std::string& text : texts)
        all += (all.empty() ? "" : ",") + text;
    return all;
}

inline std::string index_of(const std::vector<std::string>& entries,
                            const std::string& type = oci_index) {
    return R"({"schemaVersion":2,"mediaType":")" + type + R"(","manifests":[)" + joined(entries) +
           "]}";
}

/// A small image of plain layers, with everything in place; tests spoil what they are about.
struct MadeImage {
    std::vector<std::string> layers;
    std::string config;
    std::string manifest;

    explicit MadeImage(std::size_t count = 2, const std::string& architecture = "amd64",
                       const std::string& os = "linux") {
        for (std::size_t i = 0; i < count; ++i)
            layers.push_back(images::TarBuilder()
                                 .file("file" + std::to_string(i), std::string(70'000, 'x'))
                                 .finish());
        std::vector<std::string> ids;
        for (const std::string& layer : layers)
            ids.push_back("\"" + digest_of(layer).str() + "\"");
        config = R"({"os":")" + os + R"(","architecture":")" + architecture +
                 R"(","config":{"Env":["PATH=/bin","broken","=x"],"WorkingDir":"/w","User":"7:8",)"
                 R"("Entrypoint":["/e"],"Cmd":["a","b"],)"
                 R"("Labels":{"org.opencontainers.image.title":"made\nhere"}},)"
                 R"("rootfs":{"type":"layers","diff_ids":[)" +
                 joined(ids) + "]}}";
        write_manifest();
    }
    void write_manifest(const std::string& layer_type = oci_layer,
                        const std::string& type = oci_manifest) {
        std::vector<std::string> entries;
        for (const std::string& layer : layers)
            entries.push_back(descriptor(layer_type, layer));
        manifest = R"({"schemaVersion":2,"mediaType":")" + type + R"(","config":)" +
                   descriptor(oci_config, config) + R"(,"layers":[)" + joined(entries) + "]}";
    }
    [[nodiscard]] std::string digest() const { return digest_of(manifest).str(); }
};

/// The files of a layout, by name.
using Files = std::map<std::string, std::string>;

inline std::string blob_name(const std::string& bytes) {
    return "blobs/sha256/" + std::string(digest_of(bytes).hex());
}

inline Files layout_of(const MadeImage& made, const std::string& name = "3.20") {
    Files files;
    files["oci-layout"] = R"({"imageLayoutVersion":"1.0.0"})";
    files["index.json"] =
        R"({"schemaVersion":2,"manifests":[)" +
        descriptor(oci_manifest, made.manifest,
                   R"(,"annotations":{"org.opencontainers.image.ref.name":")" + name + "\"}") +
        "]}";
    for (const std::string& bytes : made.layers)
        files[blob_name(bytes)] = bytes;
    files[blob_name(made.config)] = made.config;
    files[blob_name(made.manifest)] = made.manifest;
    return files;
}

inline std::string tar_of(const Files& files, int format = ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE) {
    images::TarBuilder tar(format);
    for (const auto& [name, bytes] : files)
        tar.file(name, bytes);
    return tar.finish();
}

}  // namespace banger::image_oci
