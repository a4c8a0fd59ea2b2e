// The same OCI images unpacked by umoci, as root: the same tree to the last mode, owner, time,
// attribute, link count and byte. Made by buildah and umoci from what usual programs do to a tree,
// and at random.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/file.hpp"
#include "core/images/ext4_image.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/images/stacks.hpp"
#include "tests/images/tree.hpp"

namespace banger::images {
namespace {

using testing::HasSubstr;

class UmociTest : public testing::Test {
protected:
    void SetUp() override {
        std::string missing;
        if (::geteuid() != 0) missing = "root, for owners and devices";
        for (const char* program : {"umoci", "buildah", "setfattr"})
            if (missing.empty() && !find_program(program)) missing = program;
        if (missing.empty()) return;
        const char* const required = std::getenv("BANGER_REQUIRE");
        if (required && std::string(required).find("root") != std::string::npos)
            FAIL() << "needs " << missing;
        GTEST_SKIP() << "needs " << missing;
    }

    /// Exit status zero and what it wrote, or an explanation.
    static Result<std::string> run(const std::string& program,
                                   const std::vector<std::string>& arguments) {
        Command command;
        command.program = BANGER_TRY(find_program(program));
        command.arguments = arguments;
        command.environment = minimal_environment();
        command.environment["HOME"] = "/nonexistent";
        const CommandOutput done =
            BANGER_TRY(run_command(command, std::chrono::minutes(10), ByteCount::mib(1), {}));
        if (!done.status.is_success())
            return Error(Errc::internal, command.text() + ": " + done.status.text() + "\n" +
                                             done.standard_error + done.standard_output);
        return done.standard_output;
    }

    [[nodiscard]] Result<nlohmann::json> read_json(const std::string& path) const {
        return nlohmann::json::parse(BANGER_TRY(read_file(path, ByteCount::mib(4))));
    }

    /// The layers of the only image in `layout`.
    [[nodiscard]] Result<std::vector<UniqueFd>> open_layers(const std::string& layout) const {
        const auto blob = [&](const nlohmann::json& descriptor) {
            std::string path = descriptor["digest"].get<std::string>();
            path.replace(path.find(':'), 1, "/");
            return layout + "/blobs/" + path;
        };
        const nlohmann::json index = BANGER_TRY(read_json(layout + "/index.json"));
        const nlohmann::json manifest = BANGER_TRY(read_json(blob(index["manifests"][0])));
        std::vector<UniqueFd> layers;
        for (const nlohmann::json& layer : manifest["layers"]) {
            layers.emplace_back(::open(blob(layer).c_str(), O_RDONLY | O_CLOEXEC));
            if (!layers.back()) return Error::from_errno(errno, "opening a layer");
        }
        return layers;
    }

    Result<Tree> ours(const std::string& layout) {
        const std::vector<UniqueFd> layers = BANGER_TRY(open_layers(layout));
        const UniqueFd image(
            ::open((folder_ / "image").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        BANGER_TRY(write_ext4_from_layers(layers, image, {}, {}));
        EXPECT_EQ(fsck(folder_ / "image"), "");
        return read_tree(Ext4Reader(folder_ / "image"));
    }
    Result<Tree> theirs(const std::string& layout) {
        EXPECT_TRUE(remove_tree(folder_ / "bundle"));
        BANGER_TRY(run("umoci", {"unpack", "--image", layout + ":image", folder_ / "bundle"}));
        return read_tree(folder_ / "bundle/rootfs");
    }

    TempFolder folder_;
};

/// Folders that no layer mentions have a time of ours and another of umoci's; and umoci leaves the
/// time of unpacking where it removed something by a whiteout further up.
void forget_times_nobody_gave(Tree& by_us, Tree& by_umoci) {
    const std::int64_t an_hour_ago = std::time(nullptr) - 3600;
    for (auto& [path, node] : by_us) {
        const Tree::iterator other = by_umoci.find(path);
        if (!S_ISDIR(node.mode) || other == by_umoci.end()) continue;
        if (node.seconds != 1'000'000'000 && other->second.seconds < an_hour_ago) continue;
        node.seconds = other->second.seconds;
        node.nanoseconds = other->second.nanoseconds;
    }
}

TEST_F(UmociTest, ImagesOfRealToolsAreTheSameTree) {
    for (const std::string tool : {"umoci", "buildah"}) {
        const std::string folder = folder_ / tool;
        ASSERT_TRUE(ensure_folder(folder, 0755));
        const Result<std::string> made =
            run("bash", {BANGER_SOURCE_FOLDER "/tests/images/make_images.sh", tool, folder});
        ASSERT_TRUE(made) << made.error().text();
        Result<Tree> by_us = ours(folder + "/layout");
        ASSERT_TRUE(by_us) << by_us.error().text();
        Result<Tree> by_umoci = theirs(folder + "/layout");
        ASSERT_TRUE(by_umoci) << by_umoci.error().text();
        EXPECT_GT(by_us->size(), 50U);
        forget_times_nobody_gave(*by_us, *by_umoci);
        EXPECT_EQ(difference(*by_us, *by_umoci), "") << tool;
    }
}

TEST_F(UmociTest, RandomStacksAreTheSameTree) {
    Stacks stacks(42);
    int compared = 0;
    for (int round = 0; compared < 8; ++round) {
        ASSERT_LT(round, 40);
        SCOPED_TRACE("round " + std::to_string(round));
        Stacks::Stack stack = stacks.make();
        while (!stack.is_possible || stack.layers.size() < 2)
            stack = stacks.make();
        const std::string layout = folder_ / ("layout" + std::to_string(round));
        Result<std::string> done = run("umoci", {"init", "--layout", layout});
        ASSERT_TRUE(done) << done.error().text();
        done = run("umoci", {"new", "--image", layout + ":image"});
        ASSERT_TRUE(done) << done.error().text();
        for (const std::string& layer : stack.layers) {
            ASSERT_TRUE(write_file_atomic(folder_ / "layer.tar", layer, 0600));
            done = run("umoci",
                       {"raw", "add-layer", "--image", layout + ":image", folder_ / "layer.tar"});
            ASSERT_TRUE(done) << done.error().text();
        }
        Result<Tree> by_us = ours(layout);
        ASSERT_TRUE(by_us) << by_us.error().text();
        Result<Tree> by_umoci = theirs(layout);
        if (!by_umoci) {
            // It removes a name before it links it, also where that was the target's only one.
            EXPECT_THAT(by_umoci.error().message, HasSubstr("link"));
            continue;
        }
        forget_times_nobody_gave(*by_us, *by_umoci);
        EXPECT_EQ(difference(*by_us, *by_umoci), "");
        ++compared;
    }
}

}  // namespace
}  // namespace banger::images
