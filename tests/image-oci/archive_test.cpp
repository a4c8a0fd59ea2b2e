#include "plugins/image-oci/archive.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugins/image-oci/tar_index.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/catalog/fake_host.hpp"
#include "tests/image-oci/made_image.hpp"

namespace banger::image_oci {
namespace {

using images::TarBuilder;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

void write(const std::string& path, const std::string& content) {
    ASSERT_TRUE(ensure_folder(parent_path(path), 0755));
    ASSERT_TRUE(write_file_atomic(path, content, 0644));
}

Files docker_save_of(const MadeImage& made, bool is_new) {
    Files files;
    std::vector<std::string> layers;
    for (const std::string& bytes : made.layers) {
        const std::string name =
            is_new ? blob_name(bytes) : std::string(digest_of(bytes).hex()) + "/layer.tar";
        files[name] = bytes;
        layers.push_back("\"" + name + "\"");
    }
    const std::string config =
        is_new ? blob_name(made.config) : std::string(digest_of(made.config).hex()) + ".json";
    files[config] = made.config;
    files["manifest.json"] = R"([{"Config":")" + config +
                             R"(","RepoTags":["team/app:2","team/app:latest"],"Layers":[)" +
                             joined(layers) + "]}]";
    return files;
}

Result<FiledImage> read(const std::string& reference) {
    FakeCall call;
    const Reference parsed = BANGER_TRY(parse_reference(reference, "docker.io"));
    return read_filed_image(std::get<FileReference>(parsed), "amd64", call);
}

Result<std::string> fetched(const std::string& reference, const Part& part,
                            std::uint64_t resume_from = 0) {
    FakeCall call;
    const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
    const Reference parsed = BANGER_TRY(parse_reference(reference, "docker.io"));
    BANGER_TRY(
        send_filed_part(std::get<FileReference>(parsed), part, resume_from, sink, "reading", call));
    ::lseek(sink.get(), 0, SEEK_SET);
    return read_all(sink.get(), ByteCount::mib(64));
}

void expect_whole(const std::string& reference, const MadeImage& made) {
    const Result<FiledImage> image = read(reference);
    ASSERT_TRUE(image) << reference << ": " << image.error().text();
    EXPECT_EQ(image->config.run.command, (std::vector<std::string>{"a", "b"}));
    ASSERT_THAT(image->parts, SizeIs(made.layers.size()));
    for (std::size_t i = 0; i < made.layers.size(); ++i) {
        EXPECT_EQ(image->parts[i].digest, digest_of(made.layers[i]));
        EXPECT_EQ(image->parts[i].size->count(), made.layers[i].size());
        EXPECT_TRUE(fetched(reference, image->parts[i]).value_or("") == made.layers[i]);
        EXPECT_TRUE(fetched(reference, image->parts[i], 1000).value_or("") ==
                    made.layers[i].substr(1000));
    }
}

template <class T>
void expect_refused(const Result<T>& result, Errc code, const std::string& text,
                    const std::string& remedy = "") {
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().code, code) << result.error().text();
    EXPECT_THAT(result.error().message, HasSubstr(text));
    EXPECT_THAT(result.error().remedy, Not(IsEmpty()));
    EXPECT_THAT(result.error().remedy, HasSubstr(remedy));
}

TEST(layout, in_a_folder_and_in_an_archive) {
    const TempFolder folder;
    const MadeImage made;
    for (const auto& [name, bytes] : layout_of(made))
        write(folder / "layout/" + name, bytes);
    write(folder / "layout.tar", tar_of(layout_of(made)));
    write(folder / "gnu.tar", tar_of(layout_of(made), ARCHIVE_FORMAT_TAR_GNUTAR));
    ASSERT_EQ(::symlink("layout.tar", (folder / "link.tar").c_str()), 0);
    for (const std::string& what :
         {"oci:" + folder / "layout", "oci:" + folder / "layout/",
          "oci-archive:" + folder / "layout.tar", "oci-archive:" + folder / "gnu.tar",
          "oci-archive:" + folder / "link.tar"}) {
        expect_whole(what, made);
        expect_whole(what + ":3.20", made);
        expect_whole(what + "@" + made.digest(), made);
        expect_refused(read(what + ":other"), Errc::invalid_argument, "it has \"3.20\"");
    }
}

TEST(layout, of_several_images) {
    const TempFolder folder;
    const MadeImage first(1);
    const MadeImage second(3);
    Files files = layout_of(first, "one");
    for (const auto& [name, bytes] : layout_of(second, "docker.io/library/x:two"))
        if (name != "index.json") files[name] = bytes;
    const auto entry = [](const MadeImage& made, const std::string& name) {
        return descriptor(
            oci_manifest, made.manifest,
            R"(,"annotations":{"org.opencontainers.image.ref.name":")" + name + "\"}");
    };
    files["index.json"] = R"({"schemaVersion":2,"manifests":[)" +
                          joined({entry(first, "one"), entry(second, "docker.io/library/x:two")}) +
                          "]}";
    write(folder / "all.tar", tar_of(files));
    const std::string reference = "oci-archive:" + folder / "all.tar";
    expect_whole(reference + ":one", first);
    expect_whole(reference + ":two", second);
    expect_refused(read(reference), Errc::invalid_argument, "several images: \"one\"", ":TAG");
}

TEST(layout, that_is_none_or_not_whole) {
    const TempFolder folder;
    const MadeImage made;
    const auto archive = [&](const Files& files) {
        write(folder / "a.tar", tar_of(files));
        return "oci-archive:" + folder / "a.tar";
    };
    expect_refused(read("oci:" + folder / "none"), Errc::invalid_argument, "there is no");
    expect_refused(read("oci-archive:" + folder / "none"), Errc::invalid_argument, "there is no");
    expect_refused(read(archive({{"x", "y"}})), Errc::invalid_argument, "not an OCI layout");
    expect_refused(read(archive(docker_save_of(made, false))), Errc::invalid_argument,
                   "not an OCI layout", "docker-archive:");
    expect_refused(read("oci:" + folder / "a.tar"), Errc::invalid_argument, "not a folder",
                   "oci-archive:");
    for (const std::string& lost : {std::string("index.json"), blob_name(made.manifest),
                                    blob_name(made.config), blob_name(made.layers[1])}) {
        Files files = layout_of(made);
        files.erase(lost);
        expect_refused(read(archive(files)), Errc::corrupt, "");
    }
    for (const std::string& spoilt :
         {blob_name(made.manifest), blob_name(made.config), blob_name(made.layers[1])}) {
        Files files = layout_of(made);
        files[spoilt] += " ";
        expect_refused(read(archive(files)), Errc::corrupt, "bytes instead of");
    }
    Files empty = layout_of(made);
    empty["index.json"] = R"({"schemaVersion":2,"manifests":[]})";
    expect_refused(read(archive(empty)), Errc::invalid_argument, "no image in it");
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    expect_refused(read("oci-archive:" + folder / "pipe"), Errc::invalid_argument, "not a file");
    expect_refused(read("oci-archive:" + folder.path()), Errc::invalid_argument, "not a file");
}

TEST(docker_archive, of_old_and_new_docker) {
    const TempFolder folder;
    const MadeImage made;
    for (const bool is_new : {false, true}) {
        write(folder / "saved.tar", tar_of(docker_save_of(made, is_new)));
        const std::string reference = "docker-archive:" + folder / "saved.tar";
        expect_whole(reference, made);
        expect_whole(reference + ":team/app:2", made);
        expect_whole(reference + ":docker.io/team/app", made);
        EXPECT_EQ(read(reference)->name, "team/app:2");
        expect_refused(read(reference + ":team/app:3"), Errc::invalid_argument,
                       "it has \"team/app:2\"", "NAME:TAG");
    }
}

TEST(docker_archive, whose_layers_are_links) {
    const TempFolder folder;
    const MadeImage made(2);
    const std::string config = std::string(digest_of(made.config).hex()) + ".json";
    TarBuilder tar;
    tar.file("./first/layer.tar", made.layers[0])
        .symlink("./second/layer.tar", "../third/layer.tar");
    tar.file("./third/layer.tar", made.layers[1])
        .hard_link("./fourth/layer.tar", "./third/layer.tar");
    tar.file("./" + config, made.config);
    tar.file("./manifest.json",
             R"([{"Config":")" + config + R"(","Layers":["first/layer.tar","second/layer.tar"]}])");
    write(folder / "a.tar", tar.finish());
    expect_whole("docker-archive:" + folder / "a.tar", made);
    const UniqueFd file(::open((folder / "a.tar").c_str(), O_RDONLY | O_CLOEXEC));
    const TarIndex index = TarIndex::read(file).value();
    ASSERT_NE(index.find("fourth/layer.tar"), nullptr);
    EXPECT_EQ(*index.find("fourth/layer.tar"), *index.find("./second/../third/layer.tar"));
}

TEST(docker_archive, that_is_none_or_not_whole) {
    const TempFolder folder;
    const MadeImage made;
    const auto archive = [&](const Files& files) {
        write(folder / "a.tar", tar_of(files));
        return "docker-archive:" + folder / "a.tar";
    };
    expect_refused(read(archive({{"x", "y"}})), Errc::invalid_argument, "docker save");
    expect_refused(read(archive(layout_of(made))), Errc::invalid_argument, "docker save",
                   "oci-archive:");
    Files files = docker_save_of(made, true);
    files.erase(blob_name(made.layers[0]));
    expect_refused(read(archive(files)), Errc::corrupt, "is not in it");
    files = docker_save_of(made, true);
    files[blob_name(made.config)] += " ";
    expect_refused(read(archive(files)), Errc::corrupt, "config has the digest");
    files = docker_save_of(made, true);
    files.erase(blob_name(made.config));
    expect_refused(read(archive(files)), Errc::corrupt, "not whole");
    files["manifest.json"] = "[]";
    expect_refused(read(archive(files)), Errc::invalid_argument, "no such image");
    expect_refused(read(archive(docker_save_of(MadeImage(1, "arm64"), true))), Errc::unsupported,
                   "linux/arm64");
    for (const std::string head : {"\x1f\x8b\x08", "\x28\xb5\x2f\xfd",
                                   "\xfd"
                                   "7zXZ",
                                   "BZh9"}) {
        write(folder / "packed", head + std::string(2000, 'x'));
        expect_refused(read("docker-archive:" + folder / "packed"), Errc::unsupported,
                       "packed with", " -dc ");
    }
}

TEST(locator, that_is_forged_is_refused) {
    const TempFolder folder;
    const MadeImage made;
    write(folder / "a.tar", tar_of(layout_of(made)));
    for (const auto& [name, bytes] : layout_of(made))
        write(folder / "layout/" + name, bytes);
    for (const std::string locator :
         {"", "x", "1", "+", "1+", "+1", "-1+2", "1+2x", " 1+2", "01+2", "99999999999999999999+1",
          "../a", "index.json", "blobs/sha256/../../index.json"})
        for (const std::string& reference :
             {"oci-archive:" + folder / "a.tar", "oci:" + folder / "layout"}) {
            const Result<std::string> bytes =
                fetched(reference, {PartFormat::tar_layer, {}, {}, locator});
            ASSERT_FALSE(bytes) << locator;
            EXPECT_EQ(bytes.error().code, Errc::invalid_argument) << locator;
        }
    expect_refused(fetched("oci-archive:" + folder / "a.tar",
                           {PartFormat::tar_layer, {}, {}, "512+9000000000"}),
                   Errc::corrupt, "ends early");
}

Result<TarIndex> indexed(const std::string& bytes) {
    return TarIndex::read(images::file_of(bytes));
}

TEST(tar_index, refuses_what_is_damaged) {
    using images::RawHeader;
    const std::string good = tar_of({{"a", std::string(600, 'x')}, {"b", "y"}});
    ASSERT_TRUE(indexed(good));
    EXPECT_EQ(indexed(good)->size(), 2u);
    EXPECT_EQ(indexed(good)->find("b")->size, 1u);
    expect_refused(indexed(""), Errc::corrupt, "ends early");
    expect_refused(indexed("short"), Errc::corrupt, "ends early");
    expect_refused(indexed(std::string(2048, 'x')), Errc::corrupt, "no tar archive");
    expect_refused(indexed(good.substr(0, 700)), Errc::corrupt, "ends early");
    expect_refused(indexed(RawHeader{.wrong_checksum = true}.bytes()), Errc::corrupt, "no tar");
    expect_refused(indexed(RawHeader{.size = "0000000x000"}.bytes()), Errc::corrupt, "size");
    expect_refused(
        indexed(RawHeader{.size = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}.bytes()),
        Errc::corrupt, "size");
    expect_refused(
        indexed(RawHeader{.size = "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}.bytes()),
        Errc::corrupt, "size");
    expect_refused(
        indexed(RawHeader{.type = 'L', .size = "00010000000"}.bytes() + std::string(3 << 20, 'a')),
        Errc::corrupt, "too long");
    for (const std::string record : {"x", "9999 path=a\n", "4 a\n", "9 path=a\0", "0 a=b\n",
                                     "12 size=9x9\n", "27 size=9999999999999999999\n"}) {
        const std::string header =
            RawHeader{.type = 'x', .size = images::octal(record.size())}.bytes();
        expect_refused(indexed(header + images::padded(record) + RawHeader{}.bytes()),
                       Errc::corrupt, "");
    }
    const std::string loop =
        RawHeader{.name = "a", .type = '2', .link = "b"}.bytes() +
        RawHeader{.name = "b", .type = '2', .link = "a"}.bytes() +
        RawHeader{.name = "c", .type = '2', .link = "../../etc/passwd"}.bytes() +
        images::end_mark();
    const Result<TarIndex> links = indexed(loop);
    ASSERT_TRUE(links);
    EXPECT_EQ(links->find("a"), nullptr);
    EXPECT_EQ(links->find("c"), nullptr);
}

TEST(tar_index, takes_long_names_and_sizes_from_where_they_are) {
    const std::string name(150, 'n');
    const std::string path = name + "/" + name;
    for (const int format : {ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE, ARCHIVE_FORMAT_TAR_GNUTAR}) {
        const Result<TarIndex> index = indexed(tar_of({{path, "content"}, {"z", "zz"}}, format));
        ASSERT_TRUE(index) << index.error().text();
        ASSERT_NE(index->find(path), nullptr);
        EXPECT_EQ(index->find(path)->size, 7u);
        EXPECT_EQ(index->find("z")->size, 2u);
    }
}

}  // namespace
}  // namespace banger::image_oci
