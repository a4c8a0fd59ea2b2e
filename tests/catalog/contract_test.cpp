#include <fstream>

#include "banger/contract/image_source.hpp"
#include "plugins/catalog/source.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/catalog/fake_host.hpp"

namespace banger {
namespace {

using contract::ImageSourceContract;

/// A catalog with a bundle of 64 KiB on a server in this process.
class CatalogSubject : public contract::ImageSourceSubject {
public:
    CatalogSubject() {
        std::ofstream(folder_ / "c.yaml")
            << "version: 1\nimages:\n  - name: bundled\n    distro: d\n    arch: amd64\n"
               "    description: x\n    bundle:\n      url: https://x.example/m\n      sha256: "
            << std::string(64, 'b') << "\n      size: " << body_.size() << "\n";
        host_.folder = folder_.path();
        host_.server = [this](const HttpRequest& request) {
            if (request.resume_from > 0) return std::pair(206, body_.substr(request.resume_from));
            if (!request.headers.empty()) return std::pair(206, body_.substr(0, 1));
            return std::pair(200, body_);
        };
        restart();
    }
    ImageSource& role() override { return *source_; }
    std::vector<std::string> exists() override { return list_folder(folder_.path()).value(); }
    void restart() override {
        source_ = std::make_unique<catalog::CatalogSource>(
            host_, std::vector<std::string>{folder_ / "c.yaml"}, folder_ / "added");
    }
    bool lose(const VmId&) override { return false; }
    std::string reference(ArtifactKind kind) override {
        return kind == ArtifactKind::image ? "bundled" : "debian-cloud";
    }

private:
    TempFolder folder_;
    FakeHost host_;
    std::string body_ = std::string(60000, 'x') + "the end";
    std::unique_ptr<catalog::CatalogSource> source_;
};

INSTANTIATE_TEST_SUITE_P(Catalog, ImageSourceContract,
                         testing::Values(contract::Case<contract::ImageSourceSubject>{
                             "catalog", [] { return std::make_unique<CatalogSubject>(); }}),
                         contract::case_name);

}  // namespace
}  // namespace banger
