#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "core/store/store.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {

inline constexpr const char* image_id = "aaaaaaaaaaaa";
inline constexpr const char* kernel_id = "bbbbbbbbbbbb";

inline UnixTime at(std::int64_t seconds) { return UnixTime(std::chrono::seconds(seconds)); }

inline ImageRecord an_image(const std::string& id = image_id,
                            const std::string& name = "debian-bookworm") {
    return {
        .id = id,
        .name = ArtifactName::parse(name).value(),
        .reference = "catalog:" + name,
        .distro = "debian",
        .architecture = "amd64",
        .description = "Debian 12",
        .provenance = "signed archive",
        .kernel_reference = "debian-cloud",
        .size = ByteCount::gib(1),
        .created_at = at(1000),
        .state = ArtifactState::ready,
        .run_config = {{"A=1", "B=two words"}, "/srv", "1000:1000", {"/init"}, {"sh", "-c", ""}}};
}

inline KernelRecord a_kernel(const std::string& id = kernel_id,
                             const std::string& name = "debian-cloud") {
    return {.id = id,
            .name = ArtifactName::parse(name).value(),
            .version = "6.1.0-1-cloud-amd64",
            .reference = "catalog:" + name,
            .architecture = "amd64",
            .description = "Debian's cloud kernel",
            .provenance = "signed archive",
            .size = ByteCount::mib(90),
            .created_at = at(1001),
            .state = ArtifactState::ready};
}

/// As it is before it is reserved.
inline VmRecord a_machine(const std::string& name, VmId id = VmId::random()) {
    return {.id = id,
            .name = VmName::parse(name).value(),
            .image = ArtifactName::parse("debian-bookworm").value(),
            .image_id = image_id,
            .kernel = ArtifactName::parse("debian-cloud").value(),
            .kernel_id = kernel_id,
            .backend = PluginName::parse("vmm-qemu").value(),
            .network = PluginName::parse("net-user").value(),
            .storage = PluginName::parse("storage-file").value(),
            .mac = MacAddress::of(id),
            .vcpus = 2,
            .memory = ByteCount::mib(2048),
            .disk_size = ByteCount::gib(8),
            .system_overlay_size = ByteCount::gib(9)};
}

/// Every optional part present.
inline VmRecord running(VmRecord machine) {
    const VmId vm = machine.id;
    machine.state = VmState::running;
    machine.nat = true;
    machine.started_at = at(2000);
    machine.stopped_at = at(1500);
    machine.process = VmProcess{vm, {4711, 123456789}, "qmp=/run/x\n\"quoted\""};
    machine.link = NetworkLink{vm,
                               LinkKind::user,
                               "",
                               machine.mac,
                               Ipv4Prefix::parse("10.0.2.15/24").value(),
                               Ipv4Address::parse("10.0.2.2").value(),
                               Ipv4Address::parse("10.0.2.3").value(),
                               true,
                               {{Ipv4Address::parse("127.0.0.1").value(), 40022, 22},
                                {Ipv4Address::parse("127.0.0.1").value(), 40080, 80}}};
    machine.volumes = {
        {vm, VolumeRole::root, "/s/root.qcow2", DiskFormat::qcow2, ByteCount::gib(9)},
        {vm, VolumeRole::work, "/s/work.raw", DiskFormat::raw, ByteCount::gib(8)}};
    machine.workspace =
        WorkspaceRecord{"/root/repo", "/home/ü/repo", "0123abcd", at(2001), "89ef4567",
                        "fix",        "full-copy",    true,       true,     "42"};
    machine.ssh_host_key = "ssh-ed25519 AAAAC3Nz";
    return machine;
}

/// A store with one image and one kernel, and a clock that stands still until it is moved.
class StoreTest : public testing::Test {
protected:
    StoreTest() { reopen(); }

    void reopen() {
        store_.reset();
        Result<std::unique_ptr<Store>> opened = Store::open(path_, options());
        ASSERT_TRUE(opened) << opened.error().text();
        store_ = std::move(opened).value();
        if (!store_->images().value().empty()) return;
        ASSERT_TRUE(store_->add_image(an_image()));
        ASSERT_TRUE(store_->add_kernel(a_kernel()));
    }
    [[nodiscard]] StoreOptions options() {
        return {.quarantine = std::chrono::seconds(60), .clock = [this] { return now_; }};
    }
    Store& store() { return *store_; }
    VmRecord reserve(const std::string& name) {
        return store().reserve_machine(a_machine(name), std::nullopt).value();
    }

    TempFolder folder_;
    std::string path_ = folder_ / "state/banger.db";
    UnixTime now_ = at(5000);
    std::unique_ptr<Store> store_;
};

}  // namespace banger
