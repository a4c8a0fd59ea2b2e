// The fakes under the contract suites of all five roles.

#include <sys/mman.h>

#include <filesystem>

#include "banger/contract/dns.hpp"
#include "banger/contract/image_source.hpp"
#include "banger/contract/network.hpp"
#include "banger/contract/storage.hpp"
#include "banger/contract/vm_backend.hpp"
#include "core/base/process.hpp"
#include "fake_plugin.hpp"
#include "tests/support/plain_host.hpp"

namespace banger::contract {

namespace {

/// A host with the fake plugin on it, for every role alike.
template <class RoleSubject>
class FakeSubject : public RoleSubject {
public:
    explicit FakeSubject(Settings settings = {}) {
        host_.changeable_settings = std::move(settings);
        restart();
    }
    void restart() override {
        plugin_.reset();
        plugin_ = FakePlugin::make(host_).value();
    }
    /// Every file in the folders, and every process of fake-vmm that was told of them.
    std::vector<std::string> exists() override {
        std::vector<std::string> words;
        for (const std::string& folder : {host_.run_folder(), host_.state_folder()})
            for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
                if (!is_fixed(entry.path())) words.push_back(entry.path().string());
        for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
            const Result<std::string> line =
                read_file(entry.path().string() + "/cmdline", ByteCount::kib(64));
            if (line && line->find(host_.run_folder() + "/vms/") != line->npos)
                words.push_back("process " + entry.path().filename().string());
        }
        return words;
    }
    bool fail_next() override {
        plugin_->failpoints().fail(step());
        return true;
    }
    bool hang_next() override {
        plugin_->failpoints().hang(step());
        return true;
    }
    void await_hang() override { plugin_->failpoints().await_hang(); }

protected:
    virtual std::string step() = 0;
    PlainHost host_;
    std::unique_ptr<FakePlugin> plugin_;

private:
    /// What a new plugin makes before it is asked for anything.
    bool is_fixed(const std::filesystem::path& path) {
        return path.parent_path() == host_.run_folder() ||
               path.parent_path() == host_.state_folder();
    }
};

class FakeNetworkSubject final : public FakeSubject<NetworkSubject> {
public:
    using FakeSubject::FakeSubject;
    Network& role() override { return *plugin_->roles().network; }
    bool lose(const VmId& vm) override {
        return remove_file(host_.run_folder() + "/net/" + vm.str()).has_value();
    }
    std::string step() override { return "network.attach"; }
};

class FakeDnsSubject final : public FakeSubject<DnsSubject> {
public:
    Dns& role() override { return *plugin_->roles().dns; }
    bool lose(const VmId& vm) override {
        return remove_file(host_.run_folder() + "/dns/" + vm.str()).has_value();
    }
    bool keeps_records() override { return true; }
    std::optional<Ipv4Address> lookup(const VmName& name) override {
        return plugin_->dns().lookup(name);
    }
    std::string step() override { return "dns.publish"; }
};

class FakeStorageSubject final : public FakeSubject<StorageSubject> {
public:
    Storage& role() override { return *plugin_->roles().storage; }
    bool lose(const VmId& vm) override {
        for (const char* disk : {"-root.raw", "-work.raw"})
            if (!remove_file(host_.state_folder() + "/disks/" + vm.str() + disk)) return false;
        return true;
    }
    std::string step() override { return "storage.create"; }
};

class FakeImageSourceSubject final : public FakeSubject<ImageSourceSubject> {
public:
    ImageSource& role() override { return *plugin_->roles().image_source; }
    bool lose(const VmId&) override { return false; }
    std::string reference(ArtifactKind kind) override {
        return kind == ArtifactKind::image ? "fake:small" : "fake:kernel";
    }
    std::string broken_reference() override { return "fake:small,fail"; }
    std::string step() override { return "image-source.resolve"; }
};

class FakeVmBackendSubject final : public FakeSubject<VmBackendSubject> {
public:
    VmBackend& role() override { return *plugin_->roles().vm_backend; }
    MachineSpec spec(const VmId& vm, const VmName& name) override {
        const MacAddress mac = MacAddress::of(vm);
        const Ipv4Prefix address = Ipv4Prefix::parse("10.99.0.15/24").value();
        return {vm,
                name,
                1,
                ByteCount::mib(64),
                kernel_.get(),
                initramfs_.get(),
                "console=ttyS0",
                {},
                {vm, LinkKind::user, "", mac, address, {}, {}, false, {}},
                ByteCount::mib(1)};
    }
    bool lose(const VmId& vm) override {
        const std::string text =
            read_file(host_.run_folder() + "/vms/" + vm.str() + "/process", ByteCount::kib(1))
                .value();
        return kill_and_wait(process_id_of(std::stoll(text)).value()).has_value();
    }
    std::string step() override { return "vm-backend.start"; }

private:
    UniqueFd kernel_{::memfd_create("kernel", MFD_CLOEXEC)};
    UniqueFd initramfs_{::memfd_create("initramfs", MFD_CLOEXEC)};
};

}  // namespace

INSTANTIATE_TEST_SUITE_P(
    Fake, NetworkContract,
    testing::Values(Case<NetworkSubject>{"pool",
                                         [] { return std::make_unique<FakeNetworkSubject>(); }},
                    Case<NetworkSubject>{"user",
                                         [] {
                                             return std::make_unique<FakeNetworkSubject>(
                                                 Settings{{"addressing", std::string("user")}});
                                         }}),
    case_name);
INSTANTIATE_TEST_SUITE_P(Fake, DnsContract,
                         testing::Values(Case<DnsSubject>{
                             "files", [] { return std::make_unique<FakeDnsSubject>(); }}),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Fake, StorageContract,
                         testing::Values(Case<StorageSubject>{
                             "files", [] { return std::make_unique<FakeStorageSubject>(); }}),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Fake, ImageSourceContract,
                         testing::Values(Case<ImageSourceSubject>{
                             "memory", [] { return std::make_unique<FakeImageSourceSubject>(); }}),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Fake, VmBackendContract,
                         testing::Values(Case<VmBackendSubject>{
                             "process", [] { return std::make_unique<FakeVmBackendSubject>(); }}),
                         case_name);

}  // namespace banger::contract
