#include <banger/contract/dns.hpp>
#include <banger/contract/plain_host.hpp>
#include <banger/contract/plugin_library.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace banger::contract {
namespace {

class HostsSubject final : public DnsSubject {
public:
    HostsSubject() {
        host_.changeable_settings = {{"folder", host_.state_folder()}};
        restart();
    }
    Dns& role() override { return *plugin_->roles().dns; }
    std::vector<std::string> exists() override {
        std::vector<std::string> words;
        for (const auto& entry : std::filesystem::directory_iterator(host_.state_folder()))
            words.push_back(entry.path().filename());
        for (const std::string& line : lines())
            words.push_back(line);
        return words;
    }
    void restart() override {
        plugin_.reset();
        plugin_ = std::make_unique<PluginLibrary>(PLUGIN_LIBRARY, host_);
    }
    bool lose(const VmId&) override { return std::filesystem::remove(file_); }
    bool keeps_records() override { return true; }
    std::optional<Ipv4Address> lookup(const VmName& name) override {
        for (const std::string& line : lines()) {
            std::istringstream words(line);
            std::string address;
            std::string host;
            words >> address >> host;
            if (host == name.str() + ".vm") return Ipv4Address::parse(address).value();
        }
        return std::nullopt;
    }

private:
    std::vector<std::string> lines() {
        std::ifstream file(file_);
        std::vector<std::string> all;
        for (std::string line; std::getline(file, line);)
            if (!line.starts_with('#')) all.push_back(line);
        return all;
    }

    PlainHost host_;
    std::string file_ = host_.state_folder() + "/machines";
    std::unique_ptr<PluginLibrary> plugin_;
};

INSTANTIATE_TEST_SUITE_P(Hosts, DnsContract,
                         testing::Values(Case<DnsSubject>{
                             "hosts", [] { return std::make_unique<HostsSubject>(); }}),
                         case_name);

TEST(Hosts, AFolderThatIsNotThereIsAnErrorAndNoNameIsKept) {
    PlainHost host;
    host.changeable_settings = {{"folder", host / "nowhere"}};
    const PluginLibrary plugin(PLUGIN_LIBRARY, host);
    Dns& dns = *plugin.roles().dns;
    const DnsRecord record{VmId::random(), name_of(1), Ipv4Address(0x0a000001)};
    EXPECT_TRUE(failed_with(dns.publish(record, never()), Errc::not_found));
    EXPECT_TRUE(has_remedy(dns.publish(record, never())));
    EXPECT_EQ(dns.checks(never()).at(0).status, CheckStatus::fail);
    std::filesystem::create_directory(host / "nowhere");
    EXPECT_TRUE(succeeded(dns.publish(record, never())));
    EXPECT_TRUE(std::filesystem::exists(host / "nowhere/machines"));
}

}  // namespace
}  // namespace banger::contract
