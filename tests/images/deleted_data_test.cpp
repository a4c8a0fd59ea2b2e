// What layers further up delete: neither written, nor counted in the size, also where the paths
// alone do not show it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <string>
#include <thread>
#include <vector>

#include "core/images/ext4_image.hpp"
#include "core/images/hash_set.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/images/tar_builder.hpp"
#include "tests/images/tree.hpp"

namespace banger::images {
namespace {

constexpr std::size_t large = 150'000'000;

class DeletedDataTest : public testing::Test {
protected:
    Result<Ext4Summary> write_from(std::span<const UniqueFd> layers, Ext4Options options = {}) {
        options.on_progress = [this](const Ext4Progress& progress) {
            written_ = progress.bytes_written;
        };
        const UniqueFd image(::open(path().c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        Result<Ext4Summary> summary = write_ext4_from_layers(layers, image, options, {});
        EXPECT_TRUE(summary) << summary.error().text();
        EXPECT_EQ(fsck(path()), "");
        return summary;
    }
    Result<Ext4Summary> write(const std::vector<std::string>& layers, Ext4Options options = {}) {
        std::vector<UniqueFd> files;
        for (const std::string& layer : layers)
            files.push_back(file_of(layer));
        return write_from(files, std::move(options));
    }
    [[nodiscard]] std::string path() const { return folder_ / "image"; }
    [[nodiscard]] std::string tree() const { return outline(read_tree(Ext4Reader(path()))); }
    /// Bytes that the image takes on the host.
    [[nodiscard]] std::int64_t taken() const {
        struct ::stat status {};
        EXPECT_EQ(::stat(path().c_str(), &status), 0);
        return status.st_blocks * 512;
    }
    /// A layer with a file that would make the file system larger; packed, so that tests are fast.
    static std::string with_large(const std::function<void(TarBuilder&)>& more = {}) {
        TarBuilder tar(ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE, ARCHIVE_FILTER_ZSTD);
        tar.file("large", std::string(large, 'x')).file("small", "kept");
        if (more) more(tar);
        return tar.finish();
    }

    TempFolder folder_;
    std::uint64_t written_ = 0;
};

TEST_F(DeletedDataTest, IsNeitherWrittenNorCounted) {
    TarBuilder upper;
    upper.file(".wh.large", "");
    const Result<Ext4Summary> with = write({with_large()});
    ASSERT_TRUE(with);
    EXPECT_EQ(with->size, ByteCount::mib(256));
    EXPECT_EQ(written_, large + 4);
    const Result<Ext4Summary> without = write({with_large(), upper.finish()});
    ASSERT_TRUE(without);
    EXPECT_EQ(without->size, ByteCount::mib(128));
    EXPECT_EQ(without->readings, 1U);
    EXPECT_EQ(written_, 4U);
    EXPECT_LT(taken(), 4 << 20);
    EXPECT_EQ(tree(), "small=kept\n");
}

TEST_F(DeletedDataTest, FitsIntoASizeThatHasNoRoomForIt) {
    TarBuilder upper;
    upper.file("large", "2");
    ASSERT_TRUE(write({with_large(), upper.finish()}, {.size = ByteCount::mib(16)}));
    EXPECT_EQ(tree(), "large=2\nsmall=kept\n");
}

TEST_F(DeletedDataTest, OfAHardLinkThatStaysIsReadAgain) {
    const std::string lower = with_large([](TarBuilder& tar) { tar.hard_link("other", "large"); });
    TarBuilder upper;
    upper.file(".wh.large", "");
    const Result<Ext4Summary> summary = write({lower, upper.finish()});
    ASSERT_TRUE(summary);
    EXPECT_EQ(summary->readings, 2U);
    EXPECT_EQ(summary->size, ByteCount::mib(256));
    const Ext4Reader image(path());
    EXPECT_EQ(image.find("/large"), 0U);
    EXPECT_EQ(image.size("/other"), large);
    EXPECT_EQ(image.content("/other", large - 5), "xxxxx");
    EXPECT_EQ(image.inode("/other").i_links_count, 1);
}

TEST_F(DeletedDataTest, OfHardLinksThatAllGoIsNotWritten) {
    const std::string lower = with_large([](TarBuilder& tar) { tar.hard_link("other", "large"); });
    TarBuilder upper;
    upper.file(".wh.other", "").file(".wh.large", "");
    const Result<Ext4Summary> summary = write({lower, upper.finish()});
    ASSERT_TRUE(summary);
    EXPECT_EQ(summary->readings, 1U);
    EXPECT_EQ(written_, 4U);
    EXPECT_EQ(tree(), "small=kept\n");
}

TEST_F(DeletedDataTest, ThroughASymbolicLinkIsFoundOutAfterwards) {
    const std::string lower = with_large([](TarBuilder& tar) { tar.symlink("here", "."); });
    TarBuilder upper;
    upper.file("here/.wh.large", "");
    const Result<Ext4Summary> summary = write({lower, upper.finish()});
    ASSERT_TRUE(summary);
    EXPECT_EQ(summary->readings, 2U);
    EXPECT_EQ(summary->size, ByteCount::mib(128));
    EXPECT_LT(taken(), 4 << 20);
    EXPECT_EQ(tree(), "here->.\nsmall=kept\n");
}

TEST_F(DeletedDataTest, InTheSameLayerIsFoundOutAfterwards) {
    const std::string layer = with_large([](TarBuilder& tar) { tar.file("large", "2"); });
    const Result<Ext4Summary> summary = write({layer});
    ASSERT_TRUE(summary);
    EXPECT_EQ(summary->readings, 2U);
    EXPECT_EQ(summary->size, ByteCount::mib(128));
    EXPECT_LT(taken(), 4 << 20);
    EXPECT_EQ(tree(), "large=2\nsmall=kept\n");
}

TEST_F(DeletedDataTest, InAPipeThatCannotBeReadAgainIsGivenBackToTheHost) {
    const std::string layer = with_large([](TarBuilder& tar) { tar.file("large", "2"); });
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    std::vector<UniqueFd> layers;
    layers.emplace_back(ends[0]);
    std::thread writer([&, to = UniqueFd(ends[1])] {
        for (std::size_t done = 0; done < layer.size();) {
            const ::ssize_t count = ::write(to.get(), layer.data() + done, layer.size() - done);
            if (count <= 0) return;
            done += static_cast<std::size_t>(count);
        }
    });
    const Result<Ext4Summary> summary = write_from(layers);
    writer.join();
    ASSERT_TRUE(summary);
    EXPECT_EQ(summary->readings, 1U);
    EXPECT_LT(taken(), 4 << 20);
    EXPECT_EQ(tree(), "large=2\nsmall=kept\n");
}

TEST_F(DeletedDataTest, LeavesItsBlocksToWhatComesNext) {
    TarBuilder tar(ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE, ARCHIVE_FILTER_ZSTD);
    for (int i = 0; i < 10; ++i)
        tar.file("f", std::string(10'000'000, static_cast<char>('a' + i)));
    ASSERT_TRUE(write({tar.finish()}, {.size = ByteCount::mib(48)}));
    const Ext4Reader image(path());
    EXPECT_EQ(image.content("/f", 9'999'990), std::string(10, 'j'));
    EXPECT_LT(taken(), 12 << 20);
}

TEST(HashSetTest, NamesThatAHostileImageChoseAreNotSlow) {
    // Alike in their lower and upper half, so that a fixed place for each would be one place for
    // all: as many steps as the square of these would be minutes.
    constexpr std::uint64_t count = 1 << 19;
    HashSet set(count);
    for (std::uint64_t i = 1; i <= count; ++i)
        ASSERT_TRUE(set.insert(i << 32 | i));
    for (std::uint64_t i = 1; i <= count; ++i)
        ASSERT_TRUE(set.contains(i << 32 | i));
    EXPECT_FALSE(set.contains(7));
    EXPECT_FALSE(set.insert(7)) << "it is full";
}

}  // namespace
}  // namespace banger::images
