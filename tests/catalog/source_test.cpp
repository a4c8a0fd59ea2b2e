#include "plugins/catalog/source.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "tests/base/temp_folder.hpp"
#include "tests/catalog/fake_host.hpp"

namespace banger::catalog {
namespace {

using testing::HasSubstr;

const std::string digits = std::string(64, 'a');

class CatalogSourceTest : public testing::Test {
protected:
    CatalogSourceTest() {
        std::ofstream(folder_ / "mine.yaml")
            << "version: 1\nimages:\n  - name: mine\n    distro: d\n    arch: amd64\n"
               "    description: x\n    kernel: k\n    bundle:\n      url: https://x.example/m\n"
               "      sha256: "
            << digits << "\n      size: 10\n";
    }
    void with_broken_file() { std::ofstream(folder_ / "bad.yaml") << "version: 1\nimagse: []\n"; }
    CatalogSource source() {
        return CatalogSource(host_, {folder_ / "mine.yaml", folder_ / "bad.yaml"}, {});
    }
    CatalogSource good_source() { return CatalogSource(host_, {folder_ / "mine.yaml"}, {}); }
    Result<std::string> fetch(std::uint64_t from) {
        CatalogSource source = good_source();
        const Result<Resolution> resolution =
            source.resolve({ArtifactKind::image, "mine", "amd64"}, call_);
        const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
        BANGER_TRY(
            source.fetch(std::get<ArtifactManifest>(resolution.value()), 0, from, sink, call_));
        EXPECT_EQ(::lseek(sink.get(), 0, SEEK_SET), 0);
        return read_all(sink.get(), ByteCount::mib(1));
    }

    TempFolder folder_;
    FakeHost host_;
    FakeCall call_;
};

TEST_F(CatalogSourceTest, ARecipeIsARedirect) {
    const Result<Resolution> resolution =
        good_source().resolve({ArtifactKind::image, "debian-bookworm", "amd64"}, call_);
    ASSERT_TRUE(resolution);
    const Redirect& redirect = std::get<Redirect>(*resolution);
    EXPECT_EQ(redirect.reference, "debian:bookworm-dev");
    EXPECT_EQ(redirect.suggested_name, "debian-bookworm");
    EXPECT_EQ(redirect.kernel_reference, "debian-cloud");
}

TEST_F(CatalogSourceTest, ABundleIsOnePart) {
    const Result<Resolution> resolution =
        good_source().resolve({ArtifactKind::image, "mine", "amd64"}, call_);
    ASSERT_TRUE(resolution);
    const ArtifactManifest& manifest = std::get<ArtifactManifest>(*resolution);
    EXPECT_EQ(manifest.kernel_reference, "k");
    ASSERT_EQ(manifest.parts.size(), 1u);
    EXPECT_EQ(manifest.parts[0].format, PartFormat::bundle);
    EXPECT_EQ(manifest.parts[0].digest->str(), "sha256:" + digits);
    EXPECT_EQ(manifest.parts[0].size, ByteCount::bytes(10));
}

TEST_F(CatalogSourceTest, LeavesOtherReferencesToOthers) {
    for (const char* reference :
         {"alpine", "alpine:3.20", "registry.example/o/r", "debian:bookworm-dev", ""})
        EXPECT_EQ(
            good_source().resolve({ArtifactKind::image, reference, "amd64"}, call_).error().code,
            Errc::not_found)
            << reference;
}

TEST_F(CatalogSourceTest, ABrokenFileSpoilsOnlyNamesThatNobodyHas) {
    with_broken_file();
    EXPECT_TRUE(source().resolve({ArtifactKind::image, "debian-bookworm", "amd64"}, call_));
    EXPECT_TRUE(source().resolve({ArtifactKind::image, "mine", "amd64"}, call_));
    EXPECT_EQ(source().resolve({ArtifactKind::image, "alpine:3.20", "amd64"}, call_).error().code,
              Errc::not_found);
    const Result<Resolution> unknown =
        source().resolve({ArtifactKind::image, "perhaps-in-bad", "amd64"}, call_);
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().code, Errc::invalid_argument);
    EXPECT_THAT(unknown.error().message, HasSubstr("bad.yaml:2: unknown key \"imagse\""));
}

TEST_F(CatalogSourceTest, ABrokenFileIsARowOfDoctor) {
    EXPECT_EQ(good_source().checks({})[0].status, CheckStatus::pass);
    with_broken_file();
    const std::vector<Check> rows = source().checks({});
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].status, CheckStatus::fail);
    EXPECT_THAT(rows[0].name, HasSubstr("bad.yaml"));
    EXPECT_EQ(source().available(call_)->size(), 4u);
    EXPECT_EQ(host_.logged.size(), 1u);
}

TEST_F(CatalogSourceTest, FetchesABundleThroughTheHost) {
    host_.server = [](const HttpRequest&) { return std::pair(200, std::string("0123456789")); };
    EXPECT_EQ(fetch(0).value(), "0123456789");
    ASSERT_EQ(host_.requests.size(), 1u);
    EXPECT_EQ(host_.requests[0].url, "https://x.example/m");
    EXPECT_EQ(host_.requests[0].max_body, ByteCount::bytes(10));
}

TEST_F(CatalogSourceTest, ResumesWhereTheServerCan) {
    host_.server = [](const HttpRequest& request) {
        if (request.resume_from > 0)
            return std::pair(206, std::string("0123456789").substr(request.resume_from));
        return std::pair(206, std::string("0"));
    };
    EXPECT_EQ(fetch(4).value(), "456789");
}

TEST_F(CatalogSourceTest, WritesNothingWhenTheServerCannotResume) {
    host_.server = [](const HttpRequest&) { return std::pair(200, std::string("0123456789")); };
    EXPECT_EQ(fetch(4).error().code, Errc::unsupported);
    EXPECT_EQ(host_.requests.size(), 1u) << "only asked, nothing downloaded";
}

TEST_F(CatalogSourceTest, SaysWhatTheServerRefused) {
    host_.server = [](const HttpRequest&) { return std::pair(404, std::string("no")); };
    EXPECT_EQ(fetch(0).error().code, Errc::not_found);
    EXPECT_EQ(fetch(4).error().code, Errc::not_found);
    host_.server = [](const HttpRequest&) { return std::pair(503, std::string("no")); };
    EXPECT_EQ(fetch(0).error().code, Errc::unreachable);
    host_.server = nullptr;
    EXPECT_EQ(fetch(0).error().code, Errc::unreachable);
    EXPECT_EQ(fetch(4).error().code, Errc::unreachable);
}

TEST_F(CatalogSourceTest, RefusesALocatorThatIsNoUrl) {
    CatalogSource source = good_source();
    ArtifactManifest manifest;
    manifest.parts.push_back({PartFormat::bundle, {}, {}, "file:///etc/passwd"});
    EXPECT_EQ(source.fetch(manifest, 0, 0, UniqueFd(), call_).error().code, Errc::invalid_argument);
    EXPECT_EQ(source.fetch(manifest, 1, 0, UniqueFd(), call_).error().code, Errc::invalid_argument);
    EXPECT_TRUE(host_.requests.empty());
}

// ---- bundles beside a catalog of this host -----------------------------------------------------

class LocalBundleTest : public CatalogSourceTest {
protected:
    LocalBundleTest() {
        EXPECT_TRUE(ensure_folder(folder_ / "usb/images", 0700));
        std::ofstream(folder_ / "usb/images/b.tar.zst") << "0123456789";
        write_catalog("images/b.tar.zst");
    }
    void write_catalog(const std::string& url) {
        std::ofstream(folder_ / "usb/catalog.yaml")
            << "version: 1\nimages:\n  - name: near\n    distro: d\n    arch: amd64\n"
               "    description: x\n    bundle:\n      url: "
            << url << "\n      sha256: " << digits << "\n      size: 10\n";
    }
    Result<std::string> fetch_near(std::uint64_t from = 0) {
        CatalogSource source(host_, {folder_ / "usb/catalog.yaml"}, {});
        const Resolution resolution =
            BANGER_TRY(source.resolve({ArtifactKind::image, "near", "amd64"}, call_));
        const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
        BANGER_TRY(source.fetch(std::get<ArtifactManifest>(resolution), 0, from, sink, call_));
        EXPECT_EQ(::lseek(sink.get(), 0, SEEK_SET), 0);
        return read_all(sink.get(), ByteCount::mib(1));
    }
};

TEST_F(LocalBundleTest, IsReadFromTheCatalogsFolder) {
    EXPECT_EQ(fetch_near().value(), "0123456789");
    EXPECT_EQ(fetch_near(4).value(), "456789");
    EXPECT_TRUE(host_.requests.empty());
}

TEST_F(LocalBundleTest, NothingOutsideOfItIs) {
    std::ofstream(folder_ / "secret") << "0123456789";
    for (const char* url :
         {"../secret", "/etc/passwd", "images/../../secret", "file:///etc/passwd"}) {
        write_catalog(url);
        EXPECT_FALSE(fetch_near()) << url;
    }
    write_catalog("images/link");
    ASSERT_EQ(::symlink("../../secret", (folder_ / "usb/images/link").c_str()), 0);
    EXPECT_FALSE(fetch_near());
    ASSERT_EQ(::symlink("..", (folder_ / "usb/up").c_str()), 0);
    write_catalog("up/secret");
    EXPECT_FALSE(fetch_near());
    write_catalog("images/fifo");
    ASSERT_EQ(::mkfifo((folder_ / "usb/images/fifo").c_str(), 0600), 0);
    EXPECT_EQ(fetch_near().error().code, Errc::invalid_argument);
    write_catalog("images/gone");
    EXPECT_EQ(fetch_near().error().code, Errc::not_found);
    EXPECT_THAT(fetch_near().error().remedy, HasSubstr("medium"));
}

TEST_F(LocalBundleTest, OneThatIsTooLargeIsNotRead) {
    std::ofstream(folder_ / "usb/images/b.tar.zst") << "0123456789x";
    EXPECT_EQ(fetch_near().error().code, Errc::corrupt);
}

}  // namespace
}  // namespace banger::catalog
