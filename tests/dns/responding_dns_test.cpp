#include "core/dns/responding_dns.hpp"

#include <gtest/gtest.h>

#include "banger/contract/dns.hpp"
#include "core/base/file.hpp"
#include "plugins/fake/failpoints.hpp"
#include "plugins/fake/fake_dns.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::contract {
namespace {

/// The responder's table in front of a plugin that keeps records as files: both have to agree.
class RespondingDnsSubject final : public DnsSubject {
public:
    RespondingDnsSubject() { restart(); }
    Dns& role() override { return *role_; }
    std::vector<std::string> exists() override {
        std::vector<std::string> all = *list_folder(folder_ / "");
        for (std::size_t i = 0; i < names_->size(); ++i)
            all.push_back("name " + std::to_string(i));
        return all;
    }
    void restart() override {
        names_ = std::make_unique<dns::NameTable>();
        plugin_ = std::make_unique<FakeDns>(folder_ / "", failpoints_);
        role_ = std::make_unique<dns::RespondingDns>(*names_, *plugin_);
    }
    bool lose(const VmId& vm) override { return remove_file(folder_ / vm.str()).has_value(); }
    bool fail_next() override {
        failpoints_.fail("dns.publish");
        return true;
    }
    bool hang_next() override {
        failpoints_.hang("dns.publish");
        return true;
    }
    void await_hang() override { failpoints_.await_hang(); }
    bool keeps_records() override { return true; }
    std::optional<Ipv4Address> lookup(const VmName& name) override {
        EXPECT_EQ(names_->find(name.str()), plugin_->lookup(name));
        return names_->find(name.str());
    }

private:
    TempFolder folder_;
    Failpoints failpoints_;
    std::unique_ptr<dns::NameTable> names_;
    std::unique_ptr<FakeDns> plugin_;
    std::unique_ptr<dns::RespondingDns> role_;
};

}  // namespace

INSTANTIATE_TEST_SUITE_P(RespondingDns, DnsContract,
                         testing::Values(Case<DnsSubject>{
                             "files", [] { return std::make_unique<RespondingDnsSubject>(); }}),
                         case_name);

TEST(RespondingDns, APublishThatFailsKeepsTheOldAddress) {
    TempFolder folder;
    Failpoints failpoints;
    dns::NameTable names;
    FakeDns plugin(folder / "", failpoints);
    dns::RespondingDns role(names, plugin);
    DnsRecord record{VmId::random(), name_of(1), Ipv4Address(1)};
    ASSERT_TRUE(role.publish(record, {}));
    record.address = Ipv4Address(2);
    failpoints.fail("dns.publish");
    EXPECT_FALSE(role.publish(record, {}));
    EXPECT_EQ(names.find(record.name.str()), Ipv4Address(1));
}

}  // namespace banger::contract
