// The other roles of third parties under their contract, each in a process of its own: the fakes,
// the examples of tests/third-party, and storage-file as if it were somebody else's. A vm-backend
// cannot be one (bad_plugins_test.cpp).

#include <filesystem>
#include <sstream>
#include <thread>

#include "banger/contract/dns.hpp"
#include "banger/contract/network.hpp"
#include "banger/contract/storage.hpp"
#include "tests/plugin-host/third_party.hpp"

namespace banger::contract {
namespace {

/// A third party's plugin, and what it is chosen for.
struct Kind {
    std::string plugin;
    std::string RoleChoice::*role;
    std::string library;
    std::string manifest;
    Settings settings;
    std::string step;  ///< where the fakes fail and hang when told to; empty for others
};

Kind fakes(std::string RoleChoice::*role, const std::string& step, Settings settings = {}) {
    std::string manifest = source_file("plugins/fake/fake.toml");
    const auto set = [&](const std::string& key, const std::string& value) {
        const std::size_t at = manifest.find(key + " = ");
        manifest.replace(at, manifest.find('\n', at) - at, key + " = " + value);
    };
    set("name", "\"fake-root\"");
    set("roles", R"(["network", "dns", "storage"])");
    return {"fake-root", role, FAKE_ROOT, manifest, std::move(settings), step};
}

Kind example(const std::string& plugin, std::string RoleChoice::*role) {
    return {plugin,
            role,
            SAMPLE_PLUGINS "/" + plugin + ".so",
            source_file("tests/third-party/" + plugin + "/" + plugin + ".toml"),
            {},
            ""};
}

/// It in a registry, as bangerd has it.
template <class RoleSubject>
class Hosted : public RoleSubject {
public:
    explicit Hosted(Kind kind) : kind_(std::move(kind)) {
        const PluginFolder& folder = third_party_.folder();
        folder.write(folder.library(kind_.plugin),
                     read_file(kind_.library, ByteCount::mib(256)).value());
        folder.write(folder.manifest(kind_.plugin), kind_.manifest);
        const PluginFolders folders = third_party_.options().own_folders;
        state_ = folders.state + "/" + kind_.plugin;
        run_ = folders.run + "/" + kind_.plugin;
        open(kind_.settings);
    }
    std::vector<std::string> exists() override {
        std::vector<std::string> files;
        for (const std::string& folder : {state_, run_})
            for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
                if (!entry.is_directory()) files.push_back(entry.path());
        return files;
    }
    void restart() override { open(kind_.settings); }
    bool fail_next() override { return misbehave("fail"); }
    bool hang_next() override { return misbehave("hang"); }
    /// In flight is enough: it is stopped wherever it is.
    void await_hang() override {
        while (registry_->calls_older_than({}).empty())
            std::this_thread::yield();
    }

protected:
    std::string state_;  ///< the plugin's folder
    std::string run_;
    std::unique_ptr<Registry> registry_;

private:
    bool misbehave(const std::string& how) {
        if (kind_.step.empty()) return false;
        Settings settings = kind_.settings;
        settings[how] = std::vector<std::string>{kind_.step};
        open(settings);
        return true;
    }
    void open(const Settings& settings) {
        registry_.reset();
        RegistryOptions options = third_party_.options();
        options.choice.*kind_.role = kind_.plugin;
        options.settings[kind_.plugin] = settings;
        registry_ = third_party_.open(std::move(options));
        EXPECT_EQ(registry_->info(kind_.plugin)->runs_in, "banger-plugin-host");
    }
    const Kind kind_;
    ThirdParty third_party_;
};

class HostedNetwork final : public Hosted<NetworkSubject> {
public:
    using Hosted::Hosted;
    Network& role() override { return registry_->network(); }
    bool chooses_ports() override { return false; }
    bool lose(const VmId& vm) override {
        return remove_file(run_ + "/net/" + vm.str()).has_value();
    }
};

class HostedFakeDns final : public Hosted<DnsSubject> {
public:
    using Hosted::Hosted;
    Dns& role() override { return registry_->dns(); }
    bool lose(const VmId& vm) override {
        return remove_file(run_ + "/dns/" + vm.str()).has_value();
    }
    bool keeps_records() override { return true; }
    std::optional<Ipv4Address> lookup(const VmName& name) override {
        for (const std::string& vm : list_folder(run_ + "/dns").value()) {
            std::istringstream words(read_file(run_ + "/dns/" + vm, ByteCount::kib(1)).value());
            std::string host;
            std::string address;
            words >> host >> address;
            if (host == name.str()) return Ipv4Address::parse(address).value();
        }
        return std::nullopt;
    }
};

class HostedHosts final : public Hosted<DnsSubject> {
public:
    using Hosted::Hosted;
    Dns& role() override { return registry_->dns(); }
    bool lose(const VmId&) override { return std::filesystem::remove(state_ + "/machines"); }
    bool keeps_records() override { return true; }
    std::optional<Ipv4Address> lookup(const VmName& name) override {
        std::istringstream lines(
            read_file(state_ + "/machines", ByteCount::mib(1)).value_or(std::string()));
        for (std::string line; std::getline(lines, line);) {
            const std::size_t space = line.find(' ');
            if (!line.starts_with('#') && line.substr(space + 1) == name.str() + ".vm")
                return Ipv4Address::parse(line.substr(0, space)).value();
        }
        return std::nullopt;
    }
};

class HostedStorage final : public Hosted<StorageSubject> {
public:
    using Hosted::Hosted;
    Storage& role() override { return registry_->storage(); }
    /// Whatever has the machine's id in its name.
    bool lose(const VmId& vm) override {
        bool had_any = false;
        for (const std::string& file : exists())
            if (file.find(vm.str()) != file.npos) had_any |= std::filesystem::remove(file);
        return had_any;
    }
};

template <class RoleSubject, class Made>
Case<RoleSubject> hosted(const std::string& name, const Kind& kind) {
    return {name, [kind] { return std::make_unique<Made>(kind); }};
}

INSTANTIATE_TEST_SUITE_P(Hosted, NetworkContract,
                         testing::Values(hosted<NetworkSubject, HostedNetwork>(
                                             "pool", fakes(&RoleChoice::network, "network.attach")),
                                         hosted<NetworkSubject, HostedNetwork>(
                                             "user", fakes(&RoleChoice::network, "network.attach",
                                                           {{"addressing", std::string("user")}}))),
                         case_name);
INSTANTIATE_TEST_SUITE_P(
    Hosted, DnsContract,
    testing::Values(
        hosted<DnsSubject, HostedFakeDns>("fake", fakes(&RoleChoice::dns, "dns.publish")),
        hosted<DnsSubject, HostedHosts>("dns_hosts", example("dns-hosts", &RoleChoice::dns))),
    case_name);
INSTANTIATE_TEST_SUITE_P(
    Hosted, StorageContract,
    testing::Values(hosted<StorageSubject, HostedStorage>("fake", fakes(&RoleChoice::storage,
                                                                        "storage.create")),
                    hosted<StorageSubject, HostedStorage>(
                        "storage_reflink", example("storage-reflink", &RoleChoice::storage)),
                    hosted<StorageSubject, HostedStorage>(
                        "storage_file", {"storage-file",
                                         &RoleChoice::storage,
                                         BUILT_PLUGINS "/storage-file.so",
                                         source_file("plugins/storage-file/storage-file.toml"),
                                         {},
                                         ""})),
    case_name);

}  // namespace
}  // namespace banger::contract
