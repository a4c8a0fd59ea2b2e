#pragma once

#include <sys/mman.h>

#include <filesystem>
#include <memory>

#include "banger/contract/dns.hpp"
#include "banger/contract/image_source.hpp"
#include "banger/contract/network.hpp"
#include "banger/contract/storage.hpp"
#include "banger/contract/vm_backend.hpp"
#include "core/base/process.hpp"
#include "fake_plugin.hpp"
#include "tests/support/plain_host.hpp"

/// The fakes as subjects of the contract suites: in process (tests/fake) and through the proxy
/// (tests/remote).
namespace banger::contract {

/// How the suite gets to the roles of a fake: itself, or through another process' door. A new
/// plugin is put in the old one's place by a second call; null before it goes.
class Way {
public:
    virtual ~Way() = default;
    virtual Roles lead(FakePlugin* plugin) { return plugin != nullptr ? plugin->roles() : Roles(); }
};

/// A host with the fake plugin on it, for every role alike.
template <class RoleSubject>
class FakeSubject : public RoleSubject {
public:
    explicit FakeSubject(std::unique_ptr<Way> way, Settings settings = {}) : way_(std::move(way)) {
        host_.changeable_settings = std::move(settings);
        restart();
    }
    ~FakeSubject() override { way_->lead(nullptr); }
    void restart() override {
        way_->lead(nullptr);
        plugin_.reset();
        plugin_ = FakePlugin::make(host_).value();
        roles_ = way_->lead(&*plugin_);
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
    Roles roles_;

private:
    std::unique_ptr<Way> way_;

    /// What a new plugin makes before it is asked for anything.
    bool is_fixed(const std::filesystem::path& path) {
        return path.parent_path() == host_.run_folder() ||
               path.parent_path() == host_.state_folder();
    }
};

class FakeNetworkSubject final : public FakeSubject<NetworkSubject> {
public:
    using FakeSubject::FakeSubject;
    Network& role() override { return *roles_.network; }
    bool lose(const VmId& vm) override {
        return remove_file(host_.run_folder() + "/net/" + vm.str()).has_value();
    }
    std::string step() override { return "network.attach"; }
};

class FakeDnsSubject final : public FakeSubject<DnsSubject> {
public:
    using FakeSubject::FakeSubject;
    Dns& role() override { return *roles_.dns; }
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
    using FakeSubject::FakeSubject;
    Storage& role() override { return *roles_.storage; }
    bool lose(const VmId& vm) override {
        for (const char* disk : {"-root.raw", "-work.raw"})
            if (!remove_file(host_.state_folder() + "/disks/" + vm.str() + disk)) return false;
        return true;
    }
    std::string step() override { return "storage.create"; }
};

class FakeImageSourceSubject final : public FakeSubject<ImageSourceSubject> {
public:
    using FakeSubject::FakeSubject;
    ImageSource& role() override { return *roles_.image_source; }
    bool lose(const VmId&) override { return false; }
    std::string reference(ArtifactKind kind) override {
        return kind == ArtifactKind::image ? "fake:small" : "fake:kernel";
    }
    std::string broken_reference() override { return "fake:small,fail"; }
    std::string step() override { return "image-source.resolve"; }
};

class FakeVmBackendSubject final : public FakeSubject<VmBackendSubject> {
public:
    using FakeSubject::FakeSubject;
    VmBackend& role() override { return *roles_.vm_backend; }
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

/// All five suites on the fakes, reached by a fresh `WayType` each; once in a test program, inside
/// banger::contract.
#define BANGER_FAKE_CONTRACTS(Prefix, WayType)                                                     \
    INSTANTIATE_TEST_SUITE_P(                                                                      \
        Prefix, NetworkContract,                                                                   \
        testing::Values(                                                                           \
            Case<NetworkSubject>{                                                                  \
                "pool",                                                                            \
                [] { return std::make_unique<FakeNetworkSubject>(std::make_unique<WayType>()); }}, \
            Case<NetworkSubject>{"user",                                                           \
                                 [] {                                                              \
                                     return std::make_unique<FakeNetworkSubject>(                  \
                                         std::make_unique<WayType>(),                              \
                                         Settings{{"addressing", std::string("user")}});           \
                                 }}),                                                              \
        case_name);                                                                                \
    BANGER_FAKE_CONTRACT(Prefix, Dns, WayType, "files");                                           \
    BANGER_FAKE_CONTRACT(Prefix, Storage, WayType, "files");                                       \
    BANGER_FAKE_CONTRACT(Prefix, ImageSource, WayType, "memory");                                  \
    BANGER_FAKE_CONTRACT(Prefix, VmBackend, WayType, "process")
#define BANGER_FAKE_CONTRACT(Prefix, RoleName, WayType, what)                                  \
    INSTANTIATE_TEST_SUITE_P(                                                                  \
        Prefix, RoleName##Contract,                                                            \
        testing::Values(Case<RoleName##Subject>{                                               \
            what,                                                                              \
            [] {                                                                               \
                return std::make_unique<Fake##RoleName##Subject>(std::make_unique<WayType>()); \
            }}),                                                                               \
        case_name)

}  // namespace banger::contract
