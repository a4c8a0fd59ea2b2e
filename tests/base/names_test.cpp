#include "core/base/names.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace banger {
namespace {

TEST(RandomVmName, IsTwoWordsAndVaries) {
    std::set<std::string> seen;
    for (int i = 0; i < 500; ++i) {
        const VmName name = random_vm_name();  // made by VmName::parse(): valid
        EXPECT_EQ(std::ranges::count(name.str(), '-'), 1) << name.str();
        seen.insert(name.str());
    }
    EXPECT_GT(seen.size(), 300u) << "of 4096";
}

TEST(NearestWord, FindsWhatWasMeant) {
    const std::vector<std::string> words = {"dns_port", "dns_zone", "log_level", "cidr"};
    EXPECT_EQ(nearest_word("dns_prot", words), "dns_port");
    EXPECT_EQ(nearest_word("dnsport", words), "dns_port");
    EXPECT_EQ(nearest_word("dns_zones", words), "dns_zone");
    EXPECT_EQ(nearest_word("loglevl", words), "log_level");
    EXPECT_EQ(nearest_word("cdir", words), "cidr");
    EXPECT_EQ(nearest_word("cidr", words), "cidr");
}

TEST(NearestWord, OffersNothingFarAway) {
    const std::vector<std::string> words = {"dns_port", "cidr"};
    EXPECT_EQ(nearest_word("memory", words), std::nullopt);
    EXPECT_EQ(nearest_word("", words), std::nullopt);
    EXPECT_EQ(nearest_word(std::string(100000, 'c'), words), std::nullopt);
    EXPECT_EQ(nearest_word("cidr", {}), std::nullopt);
}

TEST(Quoted, IsBoundedAndHasNoControlCharacters) {
    EXPECT_EQ(banger::quoted("plain"), "\"plain\"");
    EXPECT_EQ(banger::quoted("\x1b[2J\n\x7f"), "\"?[2J??\"");
    EXPECT_EQ(banger::quoted(std::string(100, 'a')), "\"" + std::string(80, 'a') + "…\"");
    // 79 bytes and then a character of two: never half of it.
    EXPECT_EQ(banger::quoted(std::string(79, 'a') + "üb"), "\"" + std::string(79, 'a') + "…\"");
    EXPECT_EQ(banger::quoted(std::string(200, '\x80')), "\"…\"");
}

}  // namespace
}  // namespace banger
