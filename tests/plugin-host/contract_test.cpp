// Image sources of third parties under their contract, each in processes of its own: the worked
// library of docs/PLUGINS.md, and the executable of tests/third-party in Python.

#include "banger/contract/image_source.hpp"
#include "tests/plugin-host/third_party.hpp"

namespace banger::contract {
namespace {

struct Kind {
    std::string plugin;
    std::string prefix;
};

class HostedSubject final : public ImageSourceSubject {
public:
    explicit HostedSubject(Kind kind) : kind_(std::move(kind)) {
        const PluginFolder& folder = third_party_.folder();
        if (kind_.plugin == "image-py") {
            const std::string from = "tests/third-party/python-image-source/";
            folder.write(folder.path() + "/image-py", source_file(from + "image-py"), 0755);
            folder.write(folder.manifest("image-py"), source_file(from + "image-py.toml"));
        } else {
            third_party_.install(kind_.plugin, "tests/third-party/image-folder/image-folder.toml");
        }
        folder.write(images_ / "small.tar", std::string(300'000, 't'));
        folder.write(images_ / "large.tar", std::string(3'000'000, 'l'));
        restart();
    }
    ImageSource& role() override { return *registry_->image_sources().at(0).second; }
    std::vector<std::string> exists() override { return list_folder(images_.path()).value(); }
    bool lose(const VmId&) override { return false; }
    std::string reference(ArtifactKind kind) override {
        return kind == ArtifactKind::image ? kind_.prefix + "large" : "";
    }
    std::string broken_reference() override { return kind_.prefix + "missing"; }
    void restart() override {
        registry_.reset();
        RegistryOptions options = third_party_.options({kind_.plugin});
        options.settings[kind_.plugin] = {{"folder", images_.path()}};
        registry_ = third_party_.open(std::move(options));
    }

private:
    const Kind kind_;
    ThirdParty third_party_;
    TempFolder images_;
    std::unique_ptr<Registry> registry_;
};

Case<ImageSourceSubject> hosted(const std::string& name, const Kind& kind) {
    return {name, [kind] { return std::make_unique<HostedSubject>(kind); }};
}

INSTANTIATE_TEST_SUITE_P(Hosted, ImageSourceContract,
                         testing::Values(hosted("library", {"image-folder", "image-folder:"}),
                                         hosted("python", {"image-py", "py:"})),
                         case_name);

}  // namespace
}  // namespace banger::contract
