#include "plugins/image-oci/documents.hpp"

#include <gmock/gmock.h>

#include "plugins/image-oci/image.hpp"
#include "tests/catalog/fake_host.hpp"
#include "tests/image-oci/made_image.hpp"

namespace banger::image_oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

template <class T>
void expect_refused(const Result<T>& result, Errc code, const std::string& text) {
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().code, code) << result.error().text();
    EXPECT_THAT(result.error().message, HasSubstr(text));
    EXPECT_THAT(result.error().remedy, Not(IsEmpty()));
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, text.npos) << from;
    return at == text.npos ? text : text.replace(at, from.size(), to);
}

TEST(manifest, of_both_families) {
    MadeImage made;
    for (const char* type : {oci_manifest, docker_manifest}) {
        made.write_manifest(
            type == oci_manifest ? oci_layer : "application/vnd.docker.image.rootfs.diff.tar",
            type);
        const Result<ManifestDocument> document = parse_manifest(made.manifest, type);
        ASSERT_TRUE(document) << document.error().text();
        const Manifest& manifest = std::get<Manifest>(*document);
        EXPECT_EQ(manifest.config.digest, digest_of(made.config));
        ASSERT_THAT(manifest.layers, SizeIs(2));
        EXPECT_EQ(manifest.layers[1].digest, digest_of(made.layers[1]));
        EXPECT_EQ(manifest.layers[1].size.count(), made.layers[1].size());
        for (const char* vague : {"", "application/json", "application/octet-stream; charset=x"})
            EXPECT_TRUE(parse_manifest(made.manifest, vague)) << vague;
    }
    // The OCI specification lets a manifest be silent about what it is.
    const std::string silent =
        replaced(made.manifest, R"("mediaType":")" + std::string(docker_manifest) + "\",", "");
    EXPECT_TRUE(parse_manifest(silent, oci_manifest));
    expect_refused(parse_manifest(silent, ""), Errc::unsupported, "unknown kind");
}

TEST(manifest, that_is_two_things_at_once_is_refused) {
    const MadeImage made;
    expect_refused(parse_manifest(made.manifest, oci_index), Errc::corrupt, "announced as");
    expect_refused(parse_manifest(made.manifest, docker_manifest), Errc::corrupt, "announced as");
    const std::string both = replaced(made.manifest, "\"layers\":", "\"manifests\":[],\"layers\":");
    expect_refused(parse_manifest(both, oci_manifest), Errc::corrupt, "at once");
    const std::string index =
        replaced(index_of({}), "\"manifests\"", "\"layers\":[],\"manifests\"");
    expect_refused(parse_manifest(index, oci_index), Errc::corrupt, "at once");
    const std::string twice =
        replaced(made.manifest, "\"schemaVersion\":2", "\"schemaVersion\":2,\"schemaVersion\":2");
    expect_refused(parse_manifest(twice, oci_manifest), Errc::corrupt, "twice");
}

TEST(manifest, of_schema_1_is_refused_with_the_way_out) {
    for (const char* type :
         {"application/vnd.docker.distribution.manifest.v1+prettyjws",
          "application/vnd.docker.distribution.manifest.v1+json", "", oci_manifest}) {
        const Result<ManifestDocument> document =
            parse_manifest(R"({"schemaVersion":1,"fsLayers":[]})", type);
        expect_refused(document, Errc::unsupported, "schema 1");
        EXPECT_THAT(document.error().remedy, HasSubstr("skopeo copy"));
    }
}

TEST(manifest, that_is_malformed_is_refused) {
    MadeImage made;
    const std::pair<std::string, std::string> cases[] = {
        {"", "not JSON"},
        {"[]", "not a JSON object"},
        {made.manifest + "x", "not JSON"},
        {replaced(made.manifest, "\"schemaVersion\":2", "\"schemaVersion\":3"), "schema version"},
        {replaced(made.manifest, "\"schemaVersion\":2", "\"schemaVersion\":\"2\""), "version"},
        {replaced(made.manifest, "\"config\":", "\"conf\":"), "no config"},
        {replaced(made.manifest, "sha256:", "sha256:Z"), "no digest"},
        {replaced(made.manifest, "\"size\":", "\"size\":-"), "no size"},
        {replaced(made.manifest, "\"size\":", "\"size\":1.5,\"s\":"), "no size"},
        {replaced(made.manifest, "\"size\":", "\"size\":99999999999999999999,\"s\":"), "no size"},
        {replaced(made.manifest, "\"size\":", "\"size\":9999999,\"s\":"), "config is larger"},
        {replaced(made.manifest, oci_config, "a\\u0000b"), "not a text"},
        {std::string(100'000, '[') + std::string(100'000, ']'), "nests deeper"},
        {std::string(5 << 20, ' '), "larger than 4 MiB"},
        {R"({"a":)" + std::string(40, '[') + std::string(40, ']') + "}", "nests deeper"},
    };
    for (const auto& [text, why] : cases)
        expect_refused(parse_manifest(text, oci_manifest), Errc::corrupt, why);
    std::vector<std::string> many(max_layers + 1, descriptor(oci_layer, "x"));
    made.manifest = R"({"schemaVersion":2,"config":)" + descriptor(oci_config, "x") +
                    R"(,"layers":[)" + joined(many) + "]}";
    expect_refused(parse_manifest(made.manifest, oci_manifest), Errc::corrupt, "more than 512");
}

TEST(manifest, of_what_is_no_image_here_is_unsupported) {
    MadeImage made;
    made.write_manifest("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    expect_refused(parse_manifest(made.manifest, oci_manifest), Errc::unsupported, "elsewhere");
    made.write_manifest("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    expect_refused(parse_manifest(made.manifest, oci_manifest), Errc::unsupported, "elsewhere");
    made.write_manifest("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
    expect_refused(parse_manifest(made.manifest, oci_manifest), Errc::unsupported, "encrypted");
    made.write_manifest("application/vnd.cncf.helm.chart");
    expect_refused(parse_manifest(made.manifest, oci_manifest), Errc::unsupported, "unknown kind");
    made.write_manifest();
    expect_refused(
        parse_manifest(replaced(made.manifest, oci_config, "application/vnd.wasm"), oci_manifest),
        Errc::unsupported, "no image of a container");
    expect_refused(parse_manifest(made.manifest, "text/html"), Errc::corrupt, "announced as");
    const MadeImage empty(0);
    expect_refused(parse_manifest(empty.manifest, oci_manifest), Errc::unsupported, "empty");
}

TEST(index, leads_to_the_plainest_of_linux_amd64) {
    const auto chosen = [](const std::vector<std::string>& entries) {
        const Result<ManifestDocument> document = parse_manifest(index_of(entries), oci_index);
        EXPECT_TRUE(document) << document.error().text();
        return choose_platform(std::get<Index>(*document), "amd64");
    };
    const auto entry = [](const std::string& what, const std::string& more) {
        return descriptor(oci_manifest, what, more);
    };
    const std::string arm = entry("arm", platform("linux", "arm64", "v8"));
    const std::string windows = entry("windows", platform("windows", "amd64"));
    const std::string proof = entry("proof", platform("unknown", "unknown"));
    const std::string plain = entry("plain", platform("linux", "amd64"));
    const std::string v2 = entry("v2", platform("linux", "amd64", "v2"));
    const std::string v3 = entry("v3", platform("linux", "amd64", "v3"));
    EXPECT_EQ(chosen({arm, windows, proof, v3, v2, plain})->digest, digest_of("plain"));
    EXPECT_EQ(chosen({v3, v2})->digest, digest_of("v2"));
    EXPECT_EQ(chosen({arm, entry("silent", "")})->digest, digest_of("silent"));
    expect_refused(chosen({arm, windows, proof, v3}), Errc::unsupported,
                   "linux/arm64/v8, windows/amd64, linux/amd64/v3");
    expect_refused(chosen({}), Errc::unsupported, "for nothing");
}

TEST(index, within_bounds) {
    std::vector<std::string> many(max_index_entries + 1, descriptor(oci_manifest, "x"));
    expect_refused(parse_manifest(index_of(many), oci_index), Errc::corrupt, "more than 1024");
    expect_refused(parse_manifest(R"({"schemaVersion":2,"manifests":{}})", oci_index),
                   Errc::corrupt, "no list");
}

TEST(config, becomes_what_the_machine_runs) {
    const MadeImage made;
    const Result<ImageConfig> config = parse_config(made.config);
    ASSERT_TRUE(config) << config.error().text();
    EXPECT_EQ(config->run, (RunConfig{{"PATH=/bin"}, "/w", "7:8", {"/e"}, {"a", "b"}}));
    EXPECT_THAT(config->diff_ids,
                ElementsAre(digest_of(made.layers[0]), digest_of(made.layers[1])));
    EXPECT_EQ(config->platform.text(), "linux/amd64");
    const Result<ImageConfig> bare =
        parse_config(R"({"os":"linux","architecture":"amd64","config":{"Cmd":null,"Env":null},)"
                     R"("rootfs":{"diff_ids":[]}})");
    ASSERT_TRUE(bare) << bare.error().text();
    EXPECT_EQ(bare->run, RunConfig());
}

TEST(config, that_is_malformed_is_corrupt) {
    for (const char* text :
         {"{}", R"({"rootfs":[]})", R"({"rootfs":{"diff_ids":["x"]}})",
          R"({"rootfs":{"diff_ids":[1]}})", R"({"rootfs":{},"config":[]})",
          R"({"rootfs":{},"config":{"Env":"x"}})", R"({"rootfs":{},"config":{"Cmd":[["x"]]}})",
          R"({"rootfs":{},"config":{"User":7}})",
          R"({"rootfs":{},"config":{"Cmd":["a\u0000b"]}})"}) {
        const Result<ImageConfig> config = parse_config(text);
        ASSERT_FALSE(config) << text;
        EXPECT_EQ(config.error().code, Errc::corrupt) << text;
    }
    const MadeImage made;
    const ImageConfig config = parse_config(made.config).value();
    EXPECT_TRUE(check_config(config, 2, "amd64"));
    expect_refused(check_config(config, 3, "amd64"), Errc::corrupt, "3 layers");
    expect_refused(check_config(config, 2, "arm64"), Errc::unsupported, "linux/amd64");
}

/// A registry of documents by their digest.
class MapDocuments final : public Documents {
public:
    std::map<std::string, std::string> bytes;
    int asked = 0;
    void add(const std::string& text) { bytes[digest_of(text).str()] = text; }
    Result<std::string> manifest(const Descriptor& descriptor, Call&) override {
        ++asked;
        return bytes[descriptor.digest.str()];
    }
    Result<std::string> config(const Descriptor& descriptor, Call&) override {
        return bytes[descriptor.digest.str()];
    }
};

Result<Image> find(const std::string& index, MapDocuments& documents) {
    FakeCall call;
    return find_image(BANGER_TRY(parse_manifest(index, oci_index)), digest_of(index), "amd64",
                      documents, call);
}

TEST(image, is_found_through_indices) {
    const MadeImage made;
    MapDocuments documents;
    documents.add(made.config);
    documents.add(made.manifest);
    std::string index =
        index_of({descriptor(oci_manifest, made.manifest, platform("linux", "amd64"))});
    const Result<Image> image = find(index, documents);
    ASSERT_TRUE(image) << image.error().text();
    EXPECT_EQ(image->digest, digest_of(made.manifest));
    EXPECT_THAT(image->manifest.layers, SizeIs(2));

    const auto wrap = [&] {
        documents.add(index);
        index = index_of({descriptor(oci_index, index, platform("linux", "amd64"))});
    };
    wrap();
    wrap();
    EXPECT_TRUE(find(index, documents));
    wrap();
    documents.asked = 0;
    expect_refused(find(index, documents), Errc::corrupt, "more than 3 indices");
    EXPECT_LE(documents.asked, 3);
}

TEST(image, is_refused_when_a_document_is_not_what_was_asked_for) {
    const MadeImage made;
    const std::string entry = descriptor(oci_manifest, made.manifest, platform("linux", "amd64"));
    MapDocuments documents;
    documents.add(made.config);
    documents.bytes[made.digest()] = made.manifest + " ";
    expect_refused(find(index_of({entry}), documents), Errc::corrupt, "bytes instead of");
    documents.bytes[made.digest()] = replaced(made.manifest, "\"size\":", "\"siZe\":");
    expect_refused(find(index_of({entry}), documents), Errc::corrupt, "instead of sha256:");
    documents.bytes[made.digest()] = made.manifest;
    documents.bytes[digest_of(made.config).str()] = replaced(made.config, "linux", "lInux");
    expect_refused(find(index_of({entry}), documents), Errc::corrupt, "config has the digest");
    const std::string large = replaced(entry, "\"size\":", "\"size\":99999999,\"s\":");
    expect_refused(find(index_of({large}), documents), Errc::corrupt, "larger than 4 MiB");
    const std::string other = replaced(entry, oci_manifest, docker_manifest);
    expect_refused(find(index_of({other}), documents), Errc::corrupt, "announced as");
}

TEST(token, reply) {
    EXPECT_EQ(parse_token(R"({"token":"abc","expires_in":300})").value(), (TokenReply{"abc", 300}));
    EXPECT_EQ(parse_token(R"({"access_token":"abc"})").value(), (TokenReply{"abc", 60}));
    EXPECT_EQ(parse_token(R"({"token":"a","expires_in":18446744073709551615})")->seconds, 86400);
    EXPECT_EQ(parse_token(R"({"token":"a","expires_in":-5})")->seconds, 0);
    for (const char* text : {"{}", R"({"token":""})", R"({"token":7})", R"({"token":"a b"})",
                             R"({"token":"a\r\nX: y"})", R"({"token":"a","expires_in":"5"})", "x"})
        EXPECT_FALSE(parse_token(text)) << text;
}

TEST(registry_complaint, is_the_first_sentence) {
    EXPECT_EQ(registry_complaint(R"({"errors":[{"code":"DENIED","message":"no"}]})"), "no");
    EXPECT_EQ(registry_complaint(R"({"errors":[{"code":"DENIED"}]})"), "DENIED");
    EXPECT_EQ(registry_complaint(R"({"details":"incorrect"})"), "incorrect");
    for (const char* text : {"", "<html>", "{}", R"({"errors":{}})", R"({"errors":[7]})"})
        EXPECT_EQ(registry_complaint(text), "");
}

TEST(archive_manifest, lists_images) {
    const auto images = parse_archive_manifest(
        R"([{"Config":"c.json","RepoTags":["a:1","b:2"],"Layers":["x/layer.tar"]},)"
        R"({"Config":"d.json","RepoTags":null,"Layers":[]}])");
    ASSERT_TRUE(images);
    EXPECT_THAT(*images, ElementsAre(ArchivedImage{"c.json", {"a:1", "b:2"}, {"x/layer.tar"}},
                                     ArchivedImage{"d.json", {}, {}}));
    for (const char* text : {"{}", "[7]", R"([{"Config":7}])", R"([{"Layers":["x"]}])",
                             R"([{"Config":"c","Layers":"x"}])"})
        EXPECT_FALSE(parse_archive_manifest(text)) << text;
}

TEST(layout, files) {
    EXPECT_TRUE(check_layout_file(R"({"imageLayoutVersion":"1.0.0"})"));
    expect_refused(check_layout_file(R"({"imageLayoutVersion":"2.0.0"})"), Errc::unsupported,
                   "version");
    EXPECT_TRUE(parse_layout_index(R"({"schemaVersion":2,"manifests":[]})"));
    expect_refused(parse_layout_index(R"({"mediaType":"text/x","manifests":[]})"), Errc::corrupt,
                   "says that it is");
}

}  // namespace
}  // namespace banger::image_oci
