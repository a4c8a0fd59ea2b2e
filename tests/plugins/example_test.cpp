// The worked plugin of docs/PLUGINS.md: loaded as a user's would be, and under its contract.

#include "banger/contract/image_source.hpp"
#include "core/plugins/loader.hpp"
#include "tests/plugins/sample.hpp"
#include "tests/support/plain_host.hpp"

namespace banger::contract {
namespace {

std::string source(const std::string& path) {
    return read_file(std::string(SOURCE_FOLDER) + "/" + path, ByteCount::mib(1)).value();
}

class FolderSubject final : public ImageSourceSubject {
public:
    FolderSubject() {
        folder_.write(folder_.library("image-folder"), PluginFolder::sample("image-folder"));
        folder_.write(folder_.manifest("image-folder"),
                      source("tests/third-party/image-folder/image-folder.toml"));
        folder_.write(images_ / "small.tar", std::string(300'000, 't'));
        restart();
    }
    ImageSource& role() override { return *plugin_->roles().image_source; }
    std::vector<std::string> exists() override { return list_folder(images_.path()).value(); }
    bool lose(const VmId&) override { return false; }
    std::string reference(ArtifactKind kind) override {
        return kind == ArtifactKind::image ? "image-folder:small" : "";
    }
    std::string broken_reference() override { return "image-folder:missing"; }
    void restart() override {
        plugin_.reset();
        std::vector<Admission<PluginFiles>> found = find_plugins(folder_.path(), ::geteuid());
        ASSERT_EQ(found.size(), 1u);
        ASSERT_TRUE(found[0]) << found[0].refusal().reason;
        host_.changeable_settings =
            check_settings(found[0]->manifest, {{"folder", images_.path()}}).value();
        Admission<Library> library = Library::open(*found[0]);
        ASSERT_TRUE(library) << library.refusal().reason;
        Admission<LoadedPlugin> plugin = LoadedPlugin::create(*found[0], *library, host_);
        ASSERT_TRUE(plugin) << plugin.refusal().reason;
        plugin_.emplace(std::move(*plugin));
    }

private:
    PluginFolder folder_;
    TempFolder images_;
    PlainHost host_;
    std::optional<LoadedPlugin> plugin_;
};

INSTANTIATE_TEST_SUITE_P(Example, ImageSourceContract,
                         testing::Values(Case<ImageSourceSubject>{
                             "folder", [] { return std::make_unique<FolderSubject>(); }}),
                         case_name);

TEST(example, the_page_shows_the_code_that_is_tested) {
    const std::string page = source("docs/PLUGINS.md");
    for (const char* file : {"plugin.cpp", "image-folder.toml"})
        EXPECT_NE(page.find(source(std::string("tests/third-party/image-folder/") + file)),
                  page.npos)
            << "docs/PLUGINS.md differs from tests/third-party/image-folder/" << file;
}

}  // namespace
}  // namespace banger::contract
