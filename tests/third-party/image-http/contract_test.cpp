#include <banger/contract/image_source.hpp>
#include <banger/contract/plain_host.hpp>
#include <banger/contract/plugin_library.hpp>

namespace banger::contract {
namespace {

const std::string url = "https://images.example.org/roots";
const std::string digest(64, 'a');

class HttpSubject final : public ImageSourceSubject {
public:
    HttpSubject() {
        host_.changeable_settings = {{"url", url + "/"}};
        host_.pages[url + "/SHA256SUMS"] = digest + "  small.tar.gz\n" + digest + " *other.tar\n";
        host_.pages[url + "/small.tar.gz"] = std::string(300'000, 't');
        host_.pages[url + "/other.tar"] = "other";
        restart();
    }
    ImageSource& role() override { return *plugin_->roles().image_source; }
    std::vector<std::string> exists() override { return {}; }
    void restart() override {
        plugin_.reset();
        plugin_ = std::make_unique<PluginLibrary>(PLUGIN_LIBRARY, host_);
    }
    bool lose(const VmId&) override { return false; }
    std::string reference(ArtifactKind kind) override {
        return kind == ArtifactKind::image ? "image-http:small" : "";
    }
    std::string broken_reference() override { return "image-http:missing"; }

private:
    PlainHost host_;
    std::unique_ptr<PluginLibrary> plugin_;
};

INSTANTIATE_TEST_SUITE_P(Http, ImageSourceContract,
                         testing::Values(Case<ImageSourceSubject>{
                             "http", [] { return std::make_unique<HttpSubject>(); }}),
                         case_name);

std::vector<std::string> names_in(const std::string& sums) {
    PlainHost host;
    host.changeable_settings = {{"url", url}};
    host.pages[url + "/SHA256SUMS"] = sums;
    const PluginLibrary plugin(PLUGIN_LIBRARY, host);
    QuietCall call;
    std::vector<std::string> names;
    for (const AvailableArtifact& artifact : plugin.roles().image_source->available(call).value())
        names.push_back(artifact.reference);
    return names;
}

TEST(Listing, WhatIsNoTarFileIsPassedOver) {
    EXPECT_THAT(names_in(digest + "  root.tar.xz\n" + digest + "  README\n" + "short  a.tar\n" +
                         digest + "  ../../etc/passwd.tar\n" + digest + "  -o.tar\n" +
                         std::string(64, 'A') + "  upper.tar\n" + digest + "  root.tar.bz2\n"),
                testing::ElementsAre("image-http:root"));
    EXPECT_THAT(names_in("\n\n" + std::string(70, ' ') + "\n<html>404</html>"), testing::IsEmpty());
}

TEST(Server, AnErrorOfTheServersIsSaid) {
    PlainHost host;
    host.changeable_settings = {{"url", url}};
    host.pages["https://elsewhere.example.org"] = "";
    const PluginLibrary plugin(PLUGIN_LIBRARY, host);
    QuietCall call;
    const Result<Resolution> resolution = plugin.roles().image_source->resolve(
        {ArtifactKind::image, "image-http:small", "amd64"}, call);
    EXPECT_TRUE(failed_with(resolution, Errc::unavailable));
    EXPECT_TRUE(has_remedy(resolution));
}

TEST(Server, WithoutOneTheReferenceIsStillOurs) {
    PlainHost host;
    host.changeable_settings = {{"url", ""}};
    const PluginLibrary plugin(PLUGIN_LIBRARY, host);
    QuietCall call;
    EXPECT_TRUE(failed_with(plugin.roles().image_source->resolve(
                                {ArtifactKind::image, "image-http:small", "amd64"}, call),
                            Errc::unavailable));
    EXPECT_THAT(plugin.roles().image_source->available(call).value(), testing::IsEmpty());
}

}  // namespace
}  // namespace banger::contract
