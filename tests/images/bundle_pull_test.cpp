// Bundles on their way into the store: whole or not at all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/images/image_store.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/images/bundle_parts.hpp"

namespace banger::images {
namespace {

using testing::HasSubstr;

class NoCall final : public Call {
public:
    [[nodiscard]] std::stop_token stop() const override { return {}; }
    void report(const Progress&) override {}
};

/// Offers one bundle as "team" of either kind.
class OneBundle final : public ImageSource {
public:
    std::string bytes;
    std::optional<Digest> digest;  ///< nothing: as nobody vouches for
    Result<Resolution> resolve(const ResolveRequest& request, Call&) override {
        ArtifactManifest manifest;
        manifest.kind = request.kind;
        manifest.reference = manifest.suggested_name = "team";
        manifest.provenance = "a test";
        manifest.parts.push_back({PartFormat::bundle, digest, ByteCount::bytes(bytes.size()), "x"});
        return Resolution(std::move(manifest));
    }
    Result<void> fetch(const ArtifactManifest&, std::size_t, std::uint64_t from,
                       const UniqueFd& sink, Call&) override {
        Result<void> written = write_all(sink.get(), bytes.substr(from));
        if (!written) return Error(Errc::cancelled, written.error().message);
        return written;
    }
    Result<std::vector<AvailableArtifact>> available(Call&) override {
        return std::vector<AvailableArtifact>{};
    }
    std::vector<Check> checks(std::stop_token) override { return {}; }
};

class BundlePullTest : public testing::Test {
protected:
    BundlePullTest()
        : image_(some_ext4(ByteCount::mib(16))),
          store_(Store::open(folder_ / "db").value()),
          images_(*store_, {{"one", &source_}}, places()) {
        EXPECT_TRUE(images_.recover());
    }
    ImageStore::Places places() {
        ImageStore::Places places;
        places.images = folder_ / "images";
        places.kernels = folder_ / "kernels";
        places.templates = folder_ / "templates";
        places.blobs = folder_ / "blobs";
        return places;
    }
    void offer(BundleManifest manifest, const std::vector<const UniqueFd*>& files) {
        const UniqueFd bundle = empty_file();
        const Result<WrittenBundle> written = write_from(std::move(manifest), files, bundle);
        ASSERT_TRUE(written) << written.error().text();
        source_.bytes = content_of(bundle);
        source_.digest = written->digest;
    }
    std::size_t left() {
        return list_folder(folder_ / "images")->size() + list_folder(folder_ / "kernels")->size();
    }

    TempFolder folder_;
    OneBundle source_;
    UniqueFd image_;
    std::unique_ptr<Store> store_;
    ImageStore images_;
    NoCall call_;
};

TEST_F(BundlePullTest, AnImageComesWithWhatItsManifestKnows) {
    for (const bool is_pinned : {true, false}) {
        offer(image_manifest(), {&image_});
        if (!is_pinned) source_.digest.reset();
        const Result<ImageRecord> image =
            images_.ensure_image("team", {.refresh = !is_pinned}, call_);
        ASSERT_TRUE(image) << image.error().text();
        EXPECT_EQ(image->name.str(), "team") << "what the catalog calls it";
        EXPECT_EQ(image->distro, "debian-12");
        EXPECT_EQ(image->kernel_reference, "debian-cloud");
        EXPECT_EQ(image->run_config, image_manifest().run_config);
        EXPECT_EQ(image->size, ByteCount::mib(16));
        const Result<UniqueFd> file = images_.open_root_file_system(*image);
        ASSERT_TRUE(file);
        EXPECT_EQ(content_of(*file), content_of(image_));
    }
}

TEST_F(BundlePullTest, AKernelToo) {
    const UniqueFd vmlinux = file_of(
        "\x7f"
        "ELF kernel");
    const UniqueFd initramfs = file_of("070701 archive");
    const UniqueFd modules = some_ext4(ByteCount::mib(8));
    offer(kernel_manifest(), {&vmlinux, &initramfs, &modules});
    const Result<KernelRecord> kernel = images_.ensure_kernel("team", {}, call_);
    ASSERT_TRUE(kernel) << kernel.error().text();
    EXPECT_EQ(kernel->version, "6.1.0-50-cloud-amd64");
    const Result<ImageStore::OpenKernel> open = images_.open_kernel(*kernel);
    ASSERT_TRUE(open);
    EXPECT_EQ(content_of(open->vmlinux), content_of(vmlinux));
    EXPECT_EQ(read_file(open->modules_path, ByteCount::mib(64)).value(), content_of(modules));
}

TEST_F(BundlePullTest, WhatIsWrongLeavesNothing) {
    offer(image_manifest(), {&image_});
    const std::string right = source_.bytes;
    const Digest digest = *source_.digest;
    source_.bytes.resize(right.size() - 1);
    EXPECT_EQ(images_.ensure_image("team", {}, call_).error().code, Errc::corrupt);
    source_.bytes = right;
    source_.bytes[right.size() / 2] ^= 1;
    EXPECT_EQ(images_.ensure_image("team", {}, call_).error().code, Errc::corrupt);
    source_.digest.reset();  // nobody vouches: the manifest inside still does
    EXPECT_EQ(images_.ensure_image("team", {}, call_).error().code, Errc::corrupt);
    source_.bytes = right;
    source_.digest = digest;
    EXPECT_THAT(images_.ensure_kernel("team", {}, call_).error().message,
                HasSubstr("holds an image"));
    EXPECT_EQ(left(), 0u);
    EXPECT_TRUE(images_.ensure_image("team", {}, call_));
    EXPECT_EQ(left(), 1u);
}

}  // namespace
}  // namespace banger::images
