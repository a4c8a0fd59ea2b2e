#include "banger/contract/image_source.hpp"
#include "plugins/image-debian/source.hpp"
#include "tests/catalog/fake_host.hpp"
#include "tests/image-debian/fake_mmdebstrap.hpp"

namespace banger {
namespace {

using contract::ImageSourceContract;

/// The real plugin on a script that writes as many bytes as fill a pipe.
class DebianSubject : public contract::ImageSourceSubject {
public:
    DebianSubject() {
        fake_.does("head -c 200000 /dev/zero");
        host_.folder = fake_.cache_folder();
        restart();
    }
    ImageSource& role() override { return *source_; }
    std::vector<std::string> exists() override { return list_folder(fake_.work_folder()).value(); }
    void restart() override {
        image_debian::Options options;
        options.mmdebstrap = fake_.program();
        options.work_folder = fake_.work_folder();
        source_ = std::make_unique<image_debian::DebianSource>(host_, options);
    }
    bool lose(const VmId&) override { return false; }
    std::string reference(ArtifactKind kind) override {
        return kind == ArtifactKind::image ? "debian:bookworm-slim"
                                           : "debian-kernel:bookworm-cloud";
    }

private:
    image_debian::FakeMmdebstrap fake_;
    FakeHost host_;
    std::unique_ptr<image_debian::DebianSource> source_;
};

INSTANTIATE_TEST_SUITE_P(Debian, ImageSourceContract,
                         testing::Values(contract::Case<contract::ImageSourceSubject>{
                             "debian", [] { return std::make_unique<DebianSubject>(); }}),
                         contract::case_name);

}  // namespace
}  // namespace banger
