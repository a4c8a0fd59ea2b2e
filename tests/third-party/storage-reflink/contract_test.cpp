#include <fcntl.h>
#include <unistd.h>

#include <banger/contract/plain_host.hpp>
#include <banger/contract/plugin_library.hpp>
#include <banger/contract/storage.hpp>
#include <filesystem>

namespace banger::contract {
namespace {

/// On the file system of $TMPDIR: on btrfs or XFS this tests reflinks, elsewhere copies.
class ReflinkSubject final : public Subject<Storage> {
public:
    ReflinkSubject() {
        host_.changeable_settings = {{"without_reflinks", "copy"}};
        restart();
    }
    Storage& role() override { return *plugin_->roles().storage; }
    std::vector<std::string> exists() override {
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(host_.state_folder()))
            names.push_back(entry.path().filename());
        return names;
    }
    void restart() override {
        plugin_.reset();
        plugin_ = std::make_unique<PluginLibrary>(PLUGIN_LIBRARY, host_);
    }
    bool lose(const VmId& vm) override {
        bool had_any = false;
        for (const std::string& name : exists())
            if (name.starts_with(vm.str()))
                had_any |= std::filesystem::remove(host_.state_folder() + "/" + name);
        return had_any;
    }

private:
    PlainHost host_;
    std::unique_ptr<PluginLibrary> plugin_;
};

INSTANTIATE_TEST_SUITE_P(Reflink, StorageContract,
                         testing::Values(Case<StorageSubject>{
                             "reflink", [] { return std::make_unique<ReflinkSubject>(); }}),
                         case_name);

/// A base with 8 MiB of data, and a request for a disk of it.
struct Base {
    explicit Base(const PlainHost& host)
        : fd(::open((host / "base").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
        const std::string data(8 << 20, 'x');
        EXPECT_EQ(::write(fd.get(), data.data(), data.size()), static_cast<ssize_t>(data.size()));
        EXPECT_EQ(::fsync(fd.get()), 0);
    }
    [[nodiscard]] VolumeRequest request() const {
        return {VmId::random(),     VolumeRole::root,  fd.get(),
                ByteCount::mib(16), {DiskFormat::raw}, ::getuid()};
    }
    UniqueFd fd;
};

TEST(Reflink, SharesTheBlocksOfItsBase) {
    PlainHost host;
    host.changeable_settings = {{"without_reflinks", "refuse"}};
    const PluginLibrary plugin(PLUGIN_LIBRARY, host);
    Storage& storage = *plugin.roles().storage;
    if (storage.checks(never()).at(0).status != CheckStatus::pass)
        GTEST_SKIP() << "no reflinks in " << host.state_folder();
    const Base base(host);
    const Result<Volume> volume = storage.create(base.request(), never());
    ASSERT_TRUE(succeeded(volume));
    const Result<VolumeUsage> usage = storage.usage(*volume);
    ASSERT_TRUE(succeeded(usage));
    EXPECT_EQ(usage->allocated, ByteCount());
    EXPECT_EQ(usage->size, ByteCount::mib(16));
}

TEST(Reflink, WithoutThemItRefusesWhenToldTo) {
    PlainHost host;
    host.changeable_settings = {{"without_reflinks", "refuse"}};
    const PluginLibrary plugin(PLUGIN_LIBRARY, host);
    Storage& storage = *plugin.roles().storage;
    if (storage.checks(never()).at(0).status == CheckStatus::pass)
        GTEST_SKIP() << "there are reflinks in " << host.state_folder();
    const Base base(host);
    const Result<Volume> volume = storage.create(base.request(), never());
    EXPECT_TRUE(failed_with(volume, Errc::unsupported));
    EXPECT_TRUE(has_remedy(volume));
    EXPECT_TRUE(std::filesystem::is_empty(host.state_folder()));
}

}  // namespace
}  // namespace banger::contract
