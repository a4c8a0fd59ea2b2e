#include <banger/contract/image_source.hpp>
#include <banger/contract/plain_host.hpp>
#include <banger/contract/plugin_library.hpp>
#include <filesystem>
#include <fstream>

namespace banger::contract {
namespace {

/// The plugin on a host with one tar file. subject.hpp says what each function is for.
class FolderSubject final : public ImageSourceSubject {
public:
    FolderSubject() {
        std::filesystem::create_directory(images_);
        std::ofstream(images_ + "/small.tar") << std::string(300'000, 't');
        host_.changeable_settings = {{"folder", images_}};
        restart();
    }
    ImageSource& role() override { return *plugin_->roles().image_source; }
    std::vector<std::string> exists() override {
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(images_))
            names.push_back(entry.path().filename());
        return names;
    }
    void restart() override {
        plugin_.reset();
        plugin_ = std::make_unique<PluginLibrary>(PLUGIN_LIBRARY, host_);
    }
    bool lose(const VmId&) override { return false; }
    std::string reference(ArtifactKind kind) override {
        return kind == ArtifactKind::image ? "image-folder:small" : "";
    }
    std::string broken_reference() override { return "image-folder:missing"; }

private:
    PlainHost host_;
    std::string images_ = host_ / "images";
    std::unique_ptr<PluginLibrary> plugin_;
};

INSTANTIATE_TEST_SUITE_P(Folder, ImageSourceContract,
                         testing::Values(Case<ImageSourceSubject>{
                             "folder", [] { return std::make_unique<FolderSubject>(); }}),
                         case_name);

}  // namespace
}  // namespace banger::contract
