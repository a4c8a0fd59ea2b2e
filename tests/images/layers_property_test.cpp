// Random stacks of layers, against a model that applies them one after the other, in maps: the same
// tree to the last name, and no block for what is deleted.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <string>
#include <thread>
#include <vector>

#include "core/images/ext4_image.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/images/stacks.hpp"

namespace banger::images {
namespace {

class LayersPropertyTest : public testing::TestWithParam<unsigned> {
protected:
    Result<Ext4Summary> write(std::span<const UniqueFd> layers, const std::string& name) {
        const UniqueFd image(
            ::open((folder_ / name).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        return write_ext4_from_layers(layers, image, {.size = ByteCount::mib(16)}, {});
    }
    static std::vector<UniqueFd> files_of(const std::vector<std::string>& layers) {
        std::vector<UniqueFd> files;
        for (const std::string& layer : layers)
            files.push_back(file_of(layer));
        return files;
    }
    /// Blocks of the host that the image takes.
    [[nodiscard]] std::int64_t taken(const std::string& name) const {
        struct ::stat status {};
        EXPECT_EQ(::stat((folder_ / name).c_str(), &status), 0);
        return status.st_blocks * 512;
    }
    TempFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Seeds, LayersPropertyTest, testing::Range(1U, 9U));

TEST_P(LayersPropertyTest, EqualsPlainApplicationAndHasNoRoomForWhatIsGone) {
    Stacks stacks(GetParam());
    int refused = 0;
    int twice = 0;
    for (int round = 0; round < 25; ++round) {
        const Stacks::Stack stack = stacks.make();
        SCOPED_TRACE("round " + std::to_string(round));
        const Result<Ext4Summary> summary = write(files_of(stack.layers), "image");
        if (!stack.is_possible) {
            ASSERT_FALSE(summary);
            EXPECT_EQ(summary.error().code, Errc::corrupt) << summary.error().text();
            ++refused;
            continue;
        }
        ASSERT_TRUE(summary) << summary.error().text();
        twice += summary->readings == 2;
        ASSERT_EQ(difference(read_tree(Ext4Reader(folder_ / "image")), stack.model.tree()), "");
        if (round % 4 == 0 || summary->readings == 2) {
            ASSERT_EQ(fsck(folder_ / "image"), "");
        }

        // As one layer the same tree takes as much; a folder that was larger once may stay so.
        const Result<Ext4Summary> flat = write(files_of({stack.model.flat()}), "flat");
        ASSERT_TRUE(flat) << flat.error().text();
        ASSERT_EQ(difference(read_tree(Ext4Reader(folder_ / "flat")), stack.model.tree()), "");
        EXPECT_EQ(summary->used, flat->used);
        EXPECT_LE(taken("image"), taken("flat") + (64 << 10));
    }
    EXPECT_GT(refused, 0);
    EXPECT_LT(twice, 10);  // what is guessed is mostly right
}

TEST_P(LayersPropertyTest, PipesGiveTheSameBytesAsFiles) {
    Stacks stacks(GetParam() + 1000);
    Stacks::Stack stack = stacks.make();
    while (!stack.is_possible || stack.layers.size() < 3)
        stack = stacks.make();
    const Result<Ext4Summary> files = write(files_of(stack.layers), "files");
    std::vector<UniqueFd> pipes;
    std::vector<UniqueFd> ends;
    for (std::size_t i = 0; i < stack.layers.size(); ++i) {
        int both[2];
        ASSERT_EQ(::pipe2(both, O_CLOEXEC), 0);
        pipes.emplace_back(both[0]);
        ends.emplace_back(both[1]);
    }
    // One after the other, as a program that unpacks an archive of layers would.
    std::thread writer([&] {
        for (std::size_t i = 0; i < ends.size(); ++i) {
            const std::string& bytes = stack.layers[i];
            for (std::size_t done = 0; done < bytes.size();) {
                const ::ssize_t count =
                    ::write(ends[i].get(), bytes.data() + done, bytes.size() - done);
                if (count <= 0) break;
                done += static_cast<std::size_t>(count);
            }
            ends[i].reset();
        }
    });
    const Result<Ext4Summary> piped = write(pipes, "pipes");
    writer.join();
    ASSERT_TRUE(files) << files.error().text();
    ASSERT_TRUE(piped) << piped.error().text();
    EXPECT_EQ(piped->uuid, files->uuid);
    const auto bytes = [&](const char* name) {
        const UniqueFd fd(::open((folder_ / name).c_str(), O_RDONLY | O_CLOEXEC));
        std::string all(16 << 20, '\0');
        EXPECT_EQ(::read(fd.get(), all.data(), all.size()), 16 << 20);
        return all;
    };
    EXPECT_TRUE(bytes("pipes") == bytes("files"));
}

}  // namespace
}  // namespace banger::images
