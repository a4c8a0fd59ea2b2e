#include "core/rpc/role_fields.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace banger::rpc {
namespace {

/// Every value of the roles, with every member other than its default and no two alike, so that a
/// map that mixes two up shows. The golden file is what the wire and the store hold: a change of
/// one is a change of format. BANGER_REGENERATE_GOLDEN=1 writes them anew.
template <class T>
void expect_golden(const std::string& name, const T& value) {
    const std::string path = std::string(BANGER_GOLDEN_FOLDER) + "/" + name + ".json";
    const std::string text = encode(value).pretty_text() + "\n";
    if (std::getenv("BANGER_REGENERATE_GOLDEN") != nullptr) {
        std::ofstream(path) << text;
        GTEST_SKIP() << "wrote " << path << ": look at the difference before you commit it";
    }
    std::stringstream golden;
    golden << std::ifstream(path).rdbuf();
    ASSERT_EQ(text, golden.str()) << path;
    const Result<T> again = decode_text<T>(golden.str());
    ASSERT_TRUE(again) << again.error().text();
    if constexpr (std::equality_comparable<T>) {
        EXPECT_EQ(*again, value);
    }
    EXPECT_EQ(encode(*again).pretty_text() + "\n", golden.str());
}

VmId vm() { return VmId::parse("0a1b2c3d4e5f").value(); }
VmName name() { return VmName::parse("brave-otter").value(); }
MacAddress mac() { return MacAddress::parse("02:1a:2b:3c:4d:5e").value(); }
Digest digest() { return Digest::parse("sha256:" + std::string(64, 'a')).value(); }
Ipv4Address address(const char* text) { return Ipv4Address::parse(text).value(); }
Ipv4Prefix prefix(const char* text) { return Ipv4Prefix::parse(text).value(); }

PortForward forward() { return {address("127.0.0.1"), 2222, 22}; }
Disk disk() { return {"/state/root.qcow2", DiskFormat::qcow2, true, "root"}; }
NetworkLink link() {
    return {vm(),
            LinkKind::tap,
            "banger-tap1",
            mac(),
            prefix("172.16.0.5/24"),
            address("172.16.0.1"),
            address("172.16.0.2"),
            true,
            {forward()}};
}
Part part() { return {PartFormat::kernel_tree, digest(), ByteCount::mib(3), "pool/main/l"}; }
RunConfig run_config() { return {{"A=1", "B=2"}, "/srv", "nobody", {"/bin/sh", "-c"}, {"true"}}; }
ArtifactManifest manifest() {
    return {ArtifactKind::kernel,
            "debian:bookworm",
            "debian-bookworm",
            "debian",
            "amd64",
            "Debian 12",
            "signed Debian archive",
            "debian-cloud",
            {part(), {PartFormat::tar_layer, std::nullopt, std::nullopt, ""}},
            run_config()};
}
Redirect redirect() { return {"debian:bookworm", "bookworm", "debian", "Debian 12", "cloud"}; }

TEST(Golden, Check) {
    expect_golden("check", Check{"qemu binary", CheckStatus::warn, "too old", "Install it."});
}
TEST(Golden, ProcessId) { expect_golden("process_id", ProcessId{4711, 123456789012}); }
TEST(Golden, Progress) {
    expect_golden("progress", Progress{"downloading", 5, 10, Progress::Unit::bytes});
}
TEST(Golden, Settings) {
    expect_golden("settings", Settings{{"binary", std::string("/usr/bin/qemu")},
                                       {"enabled", true},
                                       {"mirrors", std::vector<std::string>{"one", "two"}},
                                       {"none", std::vector<std::string>{}},
                                       {"timeout", std::int64_t{-30}}});
}
TEST(Golden, HttpRequest) {
    expect_golden("http_request", HttpRequest{"https://deb.example/x",
                                              {{"accept", "text/plain"}},
                                              ByteCount::kib(7),
                                              99,
                                              std::chrono::seconds(61)});
}
TEST(Golden, HttpResponse) {
    expect_golden("http_response", HttpResponse{206, {{"etag", "\"x\""}}, "a\n\"b\"\t€"});
}
TEST(Golden, DnsRecord) {
    expect_golden("dns_record", DnsRecord{vm(), name(), address("10.0.0.9")});
}
TEST(Golden, DnsZone) { expect_golden("dns_zone", DnsZone{"vm", address("127.0.0.1"), 42069}); }
TEST(Golden, Part) { expect_golden("part", part()); }
TEST(Golden, RunConfig) { expect_golden("run_config", run_config()); }
TEST(Golden, ArtifactManifest) { expect_golden("artifact_manifest", manifest()); }
TEST(Golden, Redirect) { expect_golden("redirect", redirect()); }
TEST(Golden, ResolutionManifest) { expect_golden("resolution_manifest", Resolution(manifest())); }
TEST(Golden, ResolutionRedirect) { expect_golden("resolution_redirect", Resolution(redirect())); }
TEST(Golden, ResolveRequest) {
    expect_golden("resolve_request", ResolveRequest{ArtifactKind::kernel, "debian-cloud", "arm64"});
}
TEST(Golden, AvailableArtifact) {
    expect_golden("available_artifact", AvailableArtifact{ArtifactKind::kernel, "debian-cloud",
                                                          "debian", "amd64", "a kernel"});
}
TEST(Golden, PortForward) { expect_golden("port_forward", forward()); }
TEST(Golden, LinkRequest) {
    expect_golden("link_request",
                  LinkRequest{vm(), name(), mac(), address("172.16.0.5"), true, 1000, {forward()}});
}
TEST(Golden, NetworkLink) { expect_golden("network_link", link()); }
TEST(Golden, Addressing) { expect_golden("addressing", Addressing{prefix("172.16.0.1/24")}); }
TEST(Golden, AddressingNone) { expect_golden("addressing_none", Addressing{}); }
TEST(Golden, VolumeRequest) {
    expect_golden("volume_request", VolumeRequest{vm(),
                                                  VolumeRole::work,
                                                  -1,
                                                  ByteCount::gib(8),
                                                  {DiskFormat::qcow2, DiskFormat::raw},
                                                  1000});
}
TEST(Golden, Volume) {
    expect_golden("volume", Volume{vm(), VolumeRole::work, "/state/work", DiskFormat::qcow2,
                                   ByteCount::gib(20)});
}
TEST(Golden, VolumeUsage) {
    expect_golden("volume_usage",
                  VolumeUsage{ByteCount::gib(8), ByteCount::mib(3), ByteCount::kib(1)});
}
TEST(Golden, BackendCapabilities) {
    expect_golden("backend_capabilities", BackendCapabilities{{LinkKind::user, LinkKind::tap},
                                                              {DiskFormat::qcow2},
                                                              true,
                                                              false,
                                                              true,
                                                              false,
                                                              "/dev/kvm is missing",
                                                              16});
}
TEST(Golden, Disk) { expect_golden("disk", disk()); }
TEST(Golden, MachineSpec) {
    expect_golden("machine_spec", MachineSpec{vm(),
                                              name(),
                                              4,
                                              ByteCount::gib(2),
                                              -1,
                                              -1,
                                              "console=ttyS0 quiet",
                                              {disk()},
                                              link(),
                                              ByteCount::mib(5)});
}
TEST(Golden, VmProcess) { expect_golden("vm_process", VmProcess{vm(), {4711, 99}, "{\"qmp\":1}"}); }

/// One word an enumerator, both ways.
template <class Enum>
void expect_words() {
    for (int i = 0; i <= static_cast<int>(EnumText<Enum>::last); ++i) {
        const auto value = static_cast<Enum>(i);
        const std::string_view word = EnumText<Enum>::to_text(value);
        EXPECT_FALSE(word.empty());
        EXPECT_EQ(EnumText<Enum>::parse(word), value) << word;
    }
    EXPECT_EQ(EnumText<Enum>::parse(""), std::nullopt);
    EXPECT_EQ(EnumText<Enum>::parse("nonsense"), std::nullopt);
}

TEST(Words, EveryEnumIsWholeBothWays) {
    expect_words<ArtifactKind>();
    expect_words<PartFormat>();
    expect_words<LinkKind>();
    expect_words<VolumeRole>();
    expect_words<DiskFormat>();
    expect_words<CheckStatus>();
    expect_words<Errc>();
    expect_words<Role>();
    expect_words<Progress::Unit>();
    expect_words<LogLevel>();
}

TEST(Settings, OtherTypesAreRefused) {
    for (const std::string_view text :
         {"1.5", "null", "{}", "[1]", "[[\"a\"]]", "18446744073709551615"})
        EXPECT_FALSE(decode_text<SettingValue>(text)) << text;
}

}  // namespace
}  // namespace banger::rpc
