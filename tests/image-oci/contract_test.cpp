#include <condition_variable>

#include "banger/contract/image_source.hpp"
#include "core/base/file.hpp"
#include "plugins/image-oci/source.hpp"
#include "tests/image-oci/scripted_registry.hpp"
#include "tests/image-oci/web_host.hpp"

namespace banger {
namespace {

using contract::ImageSourceContract;
using image_oci::MadeImage;

class Subject : public contract::ImageSourceSubject {
public:
    Subject() { restart(); }
    ImageSource& role() override { return *source_; }
    std::vector<std::string> exists() override { return list_folder(host_.state_folder()).value(); }
    void restart() override {
        source_ = std::make_unique<image_oci::OciSource>(host_, host_, image_oci::Options());
    }
    bool lose(const VmId&) override { return false; }
    std::string broken_reference() override { return "Alpine:3.20"; }

protected:
    MadeImage made_{2};
    image_oci::WebHost host_;

private:
    std::unique_ptr<image_oci::OciSource> source_;
};

class RegistrySubject final : public Subject {
public:
    RegistrySubject() { registry_.serve(made_); }
    std::string reference(ArtifactKind kind) override {
        return kind == ArtifactKind::image ? registry_.host() + "/x:1" : "";
    }
    bool hang_next() override {
        registry_.set_special(
            [this](const std::string& path, const std::string&, auto& connection) {
                if (path == "/v2/") return false;
                {
                    const std::lock_guard lock(mutex_);
                    is_hanging_ = true;
                }
                hangs_.notify_all();
                connection.wait();
                return true;
            });
        return true;
    }
    void await_hang() override {
        std::unique_lock lock(mutex_);
        hangs_.wait(lock, [this] { return is_hanging_; });
    }

private:
    std::mutex mutex_;
    std::condition_variable hangs_;
    bool is_hanging_ = false;
    image_oci::ScriptedRegistry registry_;
};

class ArchiveSubject final : public Subject {
public:
    explicit ArchiveSubject(bool is_folder) : is_folder_(is_folder) {
        const image_oci::Files files = image_oci::layout_of(made_);
        EXPECT_TRUE(write_file_atomic(folder_ / "image.tar", image_oci::tar_of(files), 0600));
        for (const auto& [name, bytes] : files) {
            EXPECT_TRUE(ensure_folder(parent_path(folder_ / name), 0700));
            EXPECT_TRUE(write_file_atomic(folder_ / name, bytes, 0600));
        }
    }
    std::string reference(ArtifactKind kind) override {
        if (kind != ArtifactKind::image) return "";
        return is_folder_ ? "oci:" + folder_.path() : "oci-archive:" + folder_ / "image.tar";
    }
    std::string broken_reference() override { return "oci-archive:/nonexistent.tar"; }

private:
    TempFolder folder_;
    bool is_folder_;
};

using Case = contract::Case<contract::ImageSourceSubject>;
INSTANTIATE_TEST_SUITE_P(
    Oci, ImageSourceContract,
    testing::Values(Case{"registry", [] { return std::make_unique<RegistrySubject>(); }},
                    Case{"archive", [] { return std::make_unique<ArchiveSubject>(false); }},
                    Case{"layout", [] { return std::make_unique<ArchiveSubject>(true); }}),
    contract::case_name);

}  // namespace
}  // namespace banger
