#include <gtest/gtest.h>

#include "core/base/file.hpp"
#include "core/images/kernel.hpp"
#include "tests/kernel/fake_kernel.hpp"

namespace banger::images {
namespace {

struct Packing {
    const char* name;
    int filter;
};

class EveryPacking : public ::testing::TestWithParam<Packing> {};

TEST_P(EveryPacking, GivesTheKernelBack) {
    const std::string vmlinux = fake_vmlinux(true);
    std::string payload = packed(vmlinux, GetParam().filter);
    // The kernel's build appends the size, but for gzip, which ends in it already.
    if (GetParam().filter != ARCHIVE_FILTER_GZIP) payload += std::string("\x12\x34\x56\x78");
    const Result<std::string> extracted = extract_vmlinux(fake_bzimage(payload));
    ASSERT_TRUE(extracted) << extracted.error().text();
    EXPECT_EQ(*extracted, vmlinux);
}

INSTANTIATE_TEST_SUITE_P(
    Kernel, EveryPacking,
    ::testing::Values(Packing{"gzip", ARCHIVE_FILTER_GZIP}, Packing{"xz", ARCHIVE_FILTER_XZ},
                      Packing{"lzma", ARCHIVE_FILTER_LZMA}, Packing{"lz4", ARCHIVE_FILTER_LZ4},
                      Packing{"zstd", ARCHIVE_FILTER_ZSTD}, Packing{"bzip2", ARCHIVE_FILTER_BZIP2}),
    [](const auto& packing) { return packing.param.name; });

TEST(Kernel, AnElfIsTakenAsItIs) {
    EXPECT_EQ(*extract_vmlinux(fake_vmlinux(false)), fake_vmlinux(false));
}

TEST(Kernel, KnowsThePvhEntry) {
    EXPECT_TRUE(has_pvh_entry(fake_vmlinux(true)));
    EXPECT_FALSE(has_pvh_entry(fake_vmlinux(false)));
    EXPECT_FALSE(has_pvh_entry("not a kernel"));
}

/// Every cut and every changed header byte ends in an error or in the right kernel, never in a
/// crash (the sanitizers watch).
TEST(Kernel, SurvivesDamage) {
    const std::string vmlinux = fake_vmlinux(true);
    const std::string image = fake_bzimage(packed(vmlinux, ARCHIVE_FILTER_GZIP));
    for (std::size_t size = 0; size < image.size() - 16; size += 7)
        EXPECT_FALSE(extract_vmlinux(std::string_view(image).substr(0, size))) << size;
    for (std::size_t at = 0x1f0; at < 0x250; ++at) {
        for (const char value : {'\0', '\x7f', '\xff'}) {
            std::string damaged = image;
            damaged[at] = value;
            const Result<std::string> extracted = extract_vmlinux(damaged);
            EXPECT_TRUE(!extracted || *extracted == vmlinux) << at;
        }
    }
    for (std::size_t at = 0; at < 120; ++at) {
        for (const char value : {'\0', '\x7f', '\xff'}) {
            std::string damaged = vmlinux;
            damaged[at] = value;
            EXPECT_FALSE(has_pvh_entry(damaged) && !extract_vmlinux(damaged));
        }
    }
}

TEST(Kernel, RefusesWhatIsNone) {
    for (const std::string& bytes :
         {std::string(), std::string("MZ"), std::string(4096, '\0'), std::string(1 << 20, 'x'),
          fake_bzimage(packed("not an ELF", ARCHIVE_FILTER_GZIP)),
          fake_bzimage("unpacked rubbish that is long enough")})
        EXPECT_FALSE(extract_vmlinux(bytes));
}

TEST(Kernel, ReadsTheKernelOfThisHost) {
    const std::vector<std::string> files = list_folder("/boot").value_or({});
    bool is_any = false;
    for (const std::string& name : files) {
        if (!name.starts_with("vmlinuz-")) continue;
        is_any = true;
        const std::string image = read_file("/boot/" + name, ByteCount::mib(256)).value();
        EXPECT_TRUE(extract_vmlinux(image)) << name;
    }
    if (!is_any) GTEST_SKIP() << "needs a kernel in /boot";
}

}  // namespace
}  // namespace banger::images
