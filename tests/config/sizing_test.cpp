#include "core/config/sizing.hpp"

#include <gmock/gmock.h>

namespace banger {
namespace {

using testing::HasSubstr;

HostSize host(std::uint32_t cpus, std::uint64_t gib) { return {cpus, ByteCount::gib(gib)}; }

Config::VmDefaults configured() {
    const Source source{Source::Kind::file, "c.toml", 7};
    return {.vcpu = {3, source},
            .memory = {ByteCount::gib(3), source},
            .disk_size = {ByteCount::gib(30), source},
            .system_overlay_size = {ByteCount::gib(40), source}};
}

TEST(Sizing, ASmallHostGivesTheFloor) {
    const MachineSizes sizes = work_out_sizes({}, {}, host(2, 8)).value();
    EXPECT_EQ(spec_line(sizes), "spec: 2 vCPU (floor), 2 GiB RAM (floor), 8 GiB disk (default)");
    EXPECT_EQ(*sizes.system_overlay, ByteCount::gib(8));
}

TEST(Sizing, AMiddlingHostGivesItsShare) {
    const MachineSizes sizes = work_out_sizes({}, {}, host(12, 32)).value();
    EXPECT_EQ(spec_line(sizes),
              "spec: 3 vCPU (host: 12 CPUs), 4 GiB RAM (host: 32 GiB RAM), 8 GiB disk (default)");
}

TEST(Sizing, ALargeHostIsCapped) {
    const MachineSizes sizes = work_out_sizes({}, {}, host(128, 1024)).value();
    EXPECT_EQ(*sizes.vcpus, 4u);
    EXPECT_EQ(*sizes.memory, ByteCount::gib(8));
}

TEST(Sizing, TheShareIsARoundNumber) {
    const HostSize odd{16, ByteCount::mib(32 * 1024 - 700)};
    EXPECT_EQ(*work_out_sizes({}, {}, odd).value().memory, ByteCount::mib(3840));
}

TEST(Sizing, WhatWasAskedWinsOverConfigurationOverHost) {
    MachineSizes sizes = work_out_sizes({}, configured(), host(16, 64)).value();
    EXPECT_EQ(spec_line(sizes),
              "spec: 3 vCPU (c.toml:7), 3 GiB RAM (c.toml:7), 30 GiB disk (c.toml:7)");
    EXPECT_EQ(*sizes.system_overlay, ByteCount::gib(40));

    sizes = work_out_sizes({.vcpus = 1, .memory = ByteCount::mib(512), .disk = ByteCount::gib(1)},
                           configured(), host(16, 64))
                .value();
    EXPECT_EQ(spec_line(sizes),
              "spec: 1 vCPU (--vcpu), 512 MiB RAM (--memory), 1 GiB disk (--disk-size)");
}

TEST(Sizing, SizesAreWholeMebibytes) {
    const SizeRequest request{.memory = ByteCount::bytes((700 << 20) + 123)};
    EXPECT_EQ(*work_out_sizes(request, {}, host(4, 8)).value().memory, ByteCount::mib(700));
}

TEST(Sizing, AbsurdSizesAreRefusedWithTheRange) {
    const std::vector<SizeRequest> absurd = {
        {.vcpus = 0},
        {.vcpus = 257},
        {.memory = ByteCount()},
        {.memory = ByteCount::mib(127)},
        {.memory = ByteCount::bytes((std::uint64_t{8} << 30) + 1)},
        {.memory = ByteCount::bytes(~std::uint64_t{0})},
        {.disk = ByteCount()},
        {.disk = ByteCount::bytes(~std::uint64_t{0})},
        {.system_overlay = ByteCount::mib(1)},
    };
    for (const SizeRequest& request : absurd) {
        const Result<MachineSizes> sizes = work_out_sizes(request, {}, host(4, 8));
        ASSERT_FALSE(sizes);
        EXPECT_EQ(sizes.error().code, Errc::invalid_argument);
        EXPECT_THAT(sizes.error().remedy, HasSubstr(" to "));
    }
}

TEST(Sizing, AnErrorSaysWhereTheSizeComesFrom) {
    const Error error = work_out_sizes({}, configured(), host(16, 2)).error();
    EXPECT_EQ(error.message,
              "a machine of 3 GiB is larger than this host, which has 2 GiB (c.toml:7)");
    EXPECT_EQ(error.remedy, "Use --memory with 128 MiB to 2 GiB.");
}

TEST(Sizing, ThisHostHasCpusAndMemory) {
    const HostSize here = HostSize::of_this_host().value();
    EXPECT_GE(here.cpus, 1u);
    EXPECT_GT(here.memory, ByteCount::mib(64));
}

}  // namespace
}  // namespace banger
