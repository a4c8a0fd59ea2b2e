#include "core/config/config.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>

#include "core/config/default_backend.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

ConfigContext context(RunMode mode = RunMode::user) {
    return {.mode = mode, .home = "/home/anna", .default_ssh_key = "/home/anna/key"};
}

Result<Config> parse(const std::string& text, const ConfigContext& where = context()) {
    return parse_config({{"user.toml", text}}, where);
}

EffectiveValue effective(const Config& config, const std::string& key) {
    for (const EffectiveValue& value : effective_values(config))
        if (value.key == key) return value;
    ADD_FAILURE() << "no key " << key;
    return {};
}

// ---- defaults ----

TEST(Config, DefaultsOfUserMode) {
    const Config config = parse("").value();
    EXPECT_EQ(*config.log_level, LogLevel::info);
    EXPECT_EQ(*config.default_image_name, "debian-bookworm");
    EXPECT_EQ(*config.ssh_key_path, "/home/anna/key");
    EXPECT_EQ(*config.auto_stop_stale_after, std::nullopt);
    EXPECT_EQ(*config.stats_poll_interval, std::chrono::seconds(10));
    EXPECT_EQ(*config.bridge_name, "banger0");
    EXPECT_EQ(config.bridge_ip->text(), "172.16.0.1");
    EXPECT_EQ(*config.cidr, 24u);
    EXPECT_EQ(config.guest_dns->text(), "1.1.1.1");
    EXPECT_EQ(*config.dns_zone, "vm");
    EXPECT_EQ(*config.dns_port, 42069);
    EXPECT_EQ(*config.plugins.network, "net-user");
    EXPECT_EQ(*config.plugins.dns, std::nullopt);
    EXPECT_EQ(*config.plugins.storage, "storage-file");
    EXPECT_EQ(*config.plugins.vm_backend, "vmm-qemu");
    EXPECT_EQ(*config.plugins.image_sources,
              (std::vector<std::string>{"catalog", "image-debian", "image-oci"}));
    EXPECT_TRUE(config.file_sync.empty());
    EXPECT_EQ(config.log_level.source.text(), "default");
}

TEST(Config, DefaultsOfSystemMode) {
    const Config config = parse("", context(RunMode::system)).value();
    EXPECT_EQ(*config.plugins.network, "net-bridge");
    EXPECT_EQ(*config.plugins.dns, "dns-resolved");
    EXPECT_EQ(*config.plugins.storage, "storage-dm");
    EXPECT_EQ(*config.plugins.vm_backend, "vmm-qemu");
}

// ---- every key ----

constexpr const char* everything = R"(log_level = "debug"
default_image_name = "alpine"
ssh_key_path = "~/.ssh/id_ed25519"
firecracker_bin = "/opt/fc/../firecracker"
jailer_bin = "~/bin/jailer"
auto_stop_stale_after = "1h30m"
stats_poll_interval = "5s"
bridge_name = "banger7"
bridge_ip = "10.9.0.1"
cidr = 20
guest_dns = "9.9.9.9"
dns_zone = "lab.vm"
dns_port = 5353

[vm_defaults]
vcpu = 3
memory_mib = 3072
disk_size = "20G"
system_overlay_size = 12288

[plugins]
network = "net-x"
dns = "none"
storage = "storage-x"
vm_backend = "vmm-x"
image_sources = ["catalog", "image-oci"]

[plugin.vmm-x]
accelerate = true
threads = 4
binary = "/opt/x"
extra = ["-a", "b \"c\""]

[[file_sync]]
host = "~/.gitconfig"
guest = "~/.gitconfig"
)";

TEST(Config, EveryKeyIsReadAndShownWithItsLine) {
    const Config config = parse(everything).value();
    const std::vector<std::tuple<std::string, std::string, unsigned>> expected = {
        {"log_level", "\"debug\"", 1},
        {"default_image_name", "\"alpine\"", 2},
        {"ssh_key_path", "\"/home/anna/.ssh/id_ed25519\"", 3},
        {"firecracker_bin", "\"/opt/firecracker\"", 4},
        {"jailer_bin", "\"/home/anna/bin/jailer\"", 5},
        {"auto_stop_stale_after", "\"1h30m\"", 6},
        {"stats_poll_interval", "\"5s\"", 7},
        {"bridge_name", "\"banger7\"", 8},
        {"bridge_ip", "\"10.9.0.1\"", 9},
        {"cidr", "20", 10},
        {"guest_dns", "\"9.9.9.9\"", 11},
        {"dns_zone", "\"lab.vm\"", 12},
        {"dns_port", "5353", 13},
        {"vm_defaults.vcpu", "3", 16},
        {"vm_defaults.memory_mib", "3072", 17},
        {"vm_defaults.disk_size", "\"20 GiB\"", 18},
        {"vm_defaults.system_overlay_size", "\"12 GiB\"", 19},
        {"plugins.network", "\"net-x\"", 22},
        {"plugins.dns", "\"none\"", 23},
        {"plugins.storage", "\"storage-x\"", 24},
        {"plugins.vm_backend", "\"vmm-x\"", 25},
        {"plugins.image_sources", "[\"catalog\", \"image-oci\"]", 26},
        {"plugin.vmm-x.accelerate", "true", 29},
        {"plugin.vmm-x.binary", "\"/opt/x\"", 31},
        {"plugin.vmm-x.extra", "[\"-a\", \"b \\\"c\\\"\"]", 32},
        {"plugin.vmm-x.threads", "4", 30},
        {"file_sync[0]", "\"/home/anna/.gitconfig -> /root/.gitconfig\"", 34},
    };
    const std::vector<EffectiveValue> values = effective_values(config);
    ASSERT_EQ(values.size(), expected.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        const auto& [key, value, line] = expected[i];
        EXPECT_EQ(values[i].key, key);
        EXPECT_EQ(values[i].value, value) << key;
        EXPECT_EQ(values[i].source, (Source{Source::Kind::file, "user.toml", line})) << key;
    }
}

// ---- precedence ----

TEST(Config, ALaterFileWinsKeyByKey) {
    const Config config = parse_config({{"system.toml", R"(dns_port = 1111
dns_zone = "sys"
[plugins]
image_sources = ["a", "b"]
[plugin.x]
one = 1
two = 2
[[file_sync]]
host = "~/a"
guest = "~/a"
)"},
                                        {"user.toml", R"(dns_port = 2222
[plugins]
image_sources = ["c"]
[plugin.x]
two = 22
[[file_sync]]
host = "~/b"
guest = "~/b"
)"}},
                                       context())
                              .value();
    EXPECT_EQ(*config.dns_port, 2222);
    EXPECT_EQ(config.dns_port.source.text(), "user.toml:1");
    EXPECT_EQ(*config.dns_zone, "sys");
    EXPECT_EQ(config.dns_zone.source.text(), "system.toml:2");
    EXPECT_EQ(*config.plugins.image_sources, std::vector<std::string>{"c"});
    const PluginTable& table = config.plugin_tables.at("x");
    EXPECT_EQ(table.settings.at("one"), SettingValue(std::int64_t{1}));
    EXPECT_EQ(table.settings.at("two"), SettingValue(std::int64_t{22}));
    EXPECT_EQ(table.sources.at("one").text(), "system.toml:6");
    EXPECT_EQ(table.sources.at("two").text(), "user.toml:5");
    ASSERT_EQ(config.file_sync.size(), 1u);
    EXPECT_EQ(config.file_sync[0].host, "/home/anna/b");
}

TEST(Config, VariableAndFlagWinOverFiles) {
    ConfigContext where = context();
    where.log_level_variable = "error";
    Config config = parse("log_level = 'debug'", where).value();
    EXPECT_EQ(*config.log_level, LogLevel::error);
    EXPECT_EQ(config.log_level.source.text(), "BANGER_LOG_LEVEL");
    where.log_level_flag = "warning";
    config = parse("log_level = 'debug'", where).value();
    EXPECT_EQ(*config.log_level, LogLevel::warning);
    EXPECT_EQ(effective(config, "log_level").source.text(), "--log-level");

    where.log_level_flag.reset();
    where.log_level_variable = "";
    EXPECT_EQ(*parse("log_level = 'debug'", where).value().log_level, LogLevel::debug);
    where.log_level_variable = "loud";
    const Error error = parse("", where).error();
    EXPECT_EQ(error.message, "BANGER_LOG_LEVEL: \"loud\" is not a log level");
}

// ---- what is refused ----

struct Refused {
    const char* text;
    const char* message;  ///< the beginning
    const char* remedy;   ///< a part
};

class ConfigRefuses : public testing::TestWithParam<Refused> {};

TEST_P(ConfigRefuses, WithFileLineAndRemedy) {
    const Result<Config> config = parse(GetParam().text);
    ASSERT_FALSE(config) << GetParam().text;
    EXPECT_EQ(config.error().code, Errc::invalid_argument);
    EXPECT_THAT(config.error().message, StartsWith(GetParam().message));
    EXPECT_THAT(config.error().remedy, HasSubstr(GetParam().remedy));
    EXPECT_FALSE(config.error().message.ends_with('.'));
}

INSTANTIATE_TEST_SUITE_P(
    Keys, ConfigRefuses,
    testing::Values(
        Refused{"dns_prot = 1", "user.toml:1: there is no key \"dns_prot\"",
                "Did you mean `dns_port`?"},
        Refused{"\n\nzzzzzzzz = 1", "user.toml:3: there is no key \"zzzzzzzz\"",
                "Use one of `log_level`"},
        Refused{"vcpu = 2", "user.toml:1: there is no key \"vcpu\"",
                "Put `vcpu` into [vm_defaults]."},
        Refused{"[plugins]\nnetwork = 'x'\ndns_port = 1",
                "user.toml:3: there is no key \"plugins.dns_port\"", "above the first [table]"},
        Refused{"[vm_defaults]\nvcpus = 2", "user.toml:2: there is no key \"vm_defaults.vcpus\"",
                "`vcpu`"},
        Refused{"[vm_default]\nvcpu = 2", "user.toml:1: there is no key \"vm_default\"",
                "`vm_defaults`"},
        Refused{"\"\\u001b[2J\" = 2", "user.toml:1: there is no key \"?[2J\"", "Use one of"},
        Refused{"vm_defaults = 3", "user.toml:1: `vm_defaults` should be a table",
                "Write [vm_defaults]"},
        Refused{"a = = 1", "user.toml:1: ", "TOML"},
        Refused{"x = 1\nx = 2", "user.toml:2: ", "TOML"},
        Refused{"x = \"\xff\xfe\"", "user.toml:1: ", "TOML"}));

INSTANTIATE_TEST_SUITE_P(
    Values, ConfigRefuses,
    testing::Values(
        Refused{"log_level = 'loud'", "user.toml:1: `log_level` \"loud\" is not a log level",
                "debug, info, warning, error"},
        Refused{"log_level = 3", "user.toml:1: `log_level` is a whole number and should be text",
                "quotes"},
        Refused{"default_image_name = '../x'", "user.toml:1: `default_image_name`:", "lower-case"},
        Refused{"ssh_key_path = 'id_ed25519'",
                "user.toml:1: `ssh_key_path` \"id_ed25519\" is not the absolute path", "~/"},
        Refused{"ssh_key_path = '~root/key'", "user.toml:1: `ssh_key_path`", "~/"},
        Refused{"ssh_key_path = '/x/'", "user.toml:1: `ssh_key_path`", "~/"},
        Refused{"ssh_key_path = ''", "user.toml:1: `ssh_key_path`", "~/"},
        Refused{"ssh_key_path = \"/a\\u0000b\"", "user.toml:1: `ssh_key_path`", "plain path"},
        Refused{"jailer_bin = 'jailer'", "user.toml:1: `jailer_bin`", "~/"},
        Refused{"auto_stop_stale_after = 5", "user.toml:1: `auto_stop_stale_after`", "quotes"},
        Refused{"auto_stop_stale_after = '59s'", "user.toml:1: `auto_stop_stale_after`", "1m"},
        Refused{"auto_stop_stale_after = '5'", "user.toml:1: `auto_stop_stale_after`", "1h30m"},
        Refused{"stats_poll_interval = '0s'", "user.toml:1: `stats_poll_interval`", "10s"},
        Refused{"stats_poll_interval = '-1s'", "user.toml:1: `stats_poll_interval`", "10s"},
        Refused{"stats_poll_interval = 's'", "user.toml:1: `stats_poll_interval`", "10s"},
        Refused{"stats_poll_interval = '5s1m'", "user.toml:1: `stats_poll_interval`", "10s"},
        Refused{"stats_poll_interval = '2h'", "user.toml:1: `stats_poll_interval`", "1h"},
        Refused{"stats_poll_interval = '9223372036854775807d'", "user.toml:1: ", "10s"},
        Refused{"bridge_name = 'eth0'", "user.toml:1: `bridge_name` \"eth0\"", "banger"},
        Refused{"bridge_name = 'banger/../x'", "user.toml:1: `bridge_name`", "banger"},
        Refused{"bridge_name = 'banger0123456789'", "user.toml:1: `bridge_name`", "15"},
        Refused{"bridge_ip = '172.16.0'", "user.toml:1: `bridge_ip`:", "four numbers"},
        Refused{"bridge_ip = '0.0.0.0'", "user.toml:1: `bridge_ip`", "172.16.0.1"},
        Refused{"bridge_ip = '172.16.0.0'", "user.toml:1: `bridge_ip` is the first or last",
                "another"},
        Refused{"\ncidr = 30\nbridge_ip='172.16.0.3'", "user.toml:3: `bridge_ip`", "another"},
        Refused{"cidr = 31", "user.toml:1: `cidr` is 31", "8 to 30"},
        Refused{"cidr = '24'", "user.toml:1: `cidr` is text", "8 to 30"},
        Refused{"guest_dns = '224.0.0.1'", "user.toml:1: `guest_dns`", "host"},
        Refused{"dns_zone = 'VM'", "user.toml:1: `dns_zone`", "vm"},
        Refused{"dns_zone = ''", "user.toml:1: `dns_zone`", "vm"},
        Refused{"dns_zone = 'a..b'", "user.toml:1: `dns_zone`", "vm"},
        Refused{"dns_zone = 'vm.'", "user.toml:1: `dns_zone`", "vm"},
        Refused{"dns_zone = '12'", "user.toml:1: `dns_zone`", "vm"},
        Refused{"dns_port = 0", "user.toml:1: `dns_port` is 0", "1 to 65535"},
        Refused{"dns_port = 65536", "user.toml:1: `dns_port` is 65536", "1 to 65535"},
        Refused{"dns_port = 1.5", "user.toml:1: `dns_port` is a number with a fraction",
                "1 to 65535"},
        Refused{"dns_port = 2026-01-01", "user.toml:1: `dns_port` is a date", "1 to 65535"}));

INSTANTIATE_TEST_SUITE_P(
    Sections, ConfigRefuses,
    testing::Values(
        Refused{"[vm_defaults]\nvcpu = 0", "user.toml:2: `vm_defaults.vcpu` is 0", "1 to 256"},
        Refused{"[vm_defaults]\nvcpu = -1", "user.toml:2: `vm_defaults.vcpu` is -1", "1 to 256"},
        Refused{"[vm_defaults]\nmemory_mib = '2G'", "user.toml:2: `vm_defaults.memory_mib`",
                "whole number"},
        Refused{"[vm_defaults]\nmemory_mib = 0", "user.toml:2: `vm_defaults.memory_mib`", "from 1"},
        Refused{"[vm_defaults]\ndisk_size = '0G'", "user.toml:2: `vm_defaults.disk_size`:", "4GiB"},
        Refused{"[vm_defaults]\ndisk_size = -5", "user.toml:2: `vm_defaults.disk_size`", "from 1"},
        Refused{"[vm_defaults]\ndisk_size = 9223372036854775807",
                "user.toml:2: `vm_defaults.disk_size`", "from 1"},
        Refused{"[plugins]\nnetwork = 'Net'", "user.toml:2: `plugins.network`:", "lower-case"},
        Refused{"[plugins]\nimage_sources = []", "user.toml:2: `plugins.image_sources` is empty",
                "list"},
        Refused{"[plugins]\nimage_sources = 'a'",
                "user.toml:2: `plugins.image_sources` is not a list", "list"},
        Refused{"[plugins]\nimage_sources = ['a', 1]",
                "user.toml:2: `plugins.image_sources[1]` is a whole number", "quotes"},
        Refused{"[plugins]\nimage_sources = ['a', 'a']",
                "user.toml:2: `plugins.image_sources[1]` names \"a\" again", "once"},
        Refused{"[plugin]\nx = 1", "user.toml:2: `plugin.x` should be a table", "[plugin.x]"},
        Refused{"[plugin.'../x']\ny = 1", "user.toml:1: `plugin.../x`:", "lower-case"},
        Refused{"[plugin.x]\ny = 1.5", "user.toml:2: `plugin.x.y` is a number with a fraction",
                "setting"},
        Refused{"[plugin.x]\ny = ['a', ['b']]", "user.toml:2: `plugin.x.y[1]` is a list", "quotes"},
        Refused{"[plugin.x.y]\nz = 1", "user.toml:1: `plugin.x.y` is a table", "setting"}));

TEST(Config, DeepNestingIsRefusedAndDoesNotCrash) {
    EXPECT_FALSE(parse("x = " + std::string(100000, '[')));
    EXPECT_FALSE(parse("x = " + std::string(5000, '[') + std::string(5000, ']')));
}

// ---- files ----

class ConfigFiles : public testing::Test {
protected:
    ConfigFiles() {
        paths_.home = folder_.path();
        paths_.ssh_key = folder_ / "key";
        paths_.system_config_file = folder_ / "system.toml";
        paths_.user_config_file = folder_ / "user.toml";
    }
    void write(const std::string& path, const std::string& text, mode_t mode = 0644) {
        ASSERT_TRUE(write_file_atomic(path, text, mode));
    }
    TempFolder folder_;
    Paths paths_;
};

TEST_F(ConfigFiles, NeedNotExist) {
    const Config config = load_config(paths_, {}).value();
    EXPECT_EQ(*config.ssh_key_path, folder_ / "key");
}

TEST_F(ConfigFiles, TheUsersWinsOverTheSystems) {
    write(paths_.system_config_file, "dns_port = 1\nguest_dns = '8.8.8.8'");
    write(paths_.user_config_file, "dns_port = 2");
    const Config config = load_config(paths_, {}).value();
    EXPECT_EQ(*config.dns_port, 2);
    EXPECT_EQ(config.guest_dns.source.text(), paths_.system_config_file + ":2");
}

TEST(DefaultBackend, IsFirecrackerWhereItCanRun) {
    std::map<std::string, Result<firecracker::Program>> programs;
    std::vector<std::string> asked;
    BackendFacts facts;
    facts.has_kvm = true;
    facts.ask = [&](const std::string& path) -> Result<firecracker::Program> {
        asked.push_back(path);
        const auto found = programs.find(path);
        return found == programs.end() ? Error(Errc::not_found, "none") : found->second;
    };
    const auto chosen = [&](const std::string& text, RunMode mode = RunMode::system) {
        Config config = parse(text, context(mode)).value();
        choose_default_backend(config, facts);
        return config.plugins.vm_backend;
    };
    EXPECT_EQ(*chosen(""), "vmm-qemu");
    EXPECT_EQ(chosen("").source.text(), "default: Firecracker is not installed");

    const std::string usual = "/usr/local/bin/firecracker";
    programs.insert_or_assign(usual, firecracker::Program{usual, {1, 12}});
    EXPECT_EQ(*chosen(""), "vmm-firecracker");
    EXPECT_EQ(chosen("").source.text(), "default: found " + usual + ", version 1.12");
    EXPECT_EQ(*chosen("firecracker_bin = '/opt/firecracker'"), "vmm-qemu");
    EXPECT_EQ(asked.back(), "/opt/firecracker");

    facts.has_kvm = false;
    EXPECT_EQ(*chosen(""), "vmm-qemu");
    EXPECT_EQ(chosen("").source.text(), "default: no KVM for " + usual);
    facts.has_kvm = true;
    programs.insert_or_assign(usual, firecracker::Program{usual, {1, 7}});
    EXPECT_EQ(*chosen(""), "vmm-qemu");
    EXPECT_THAT(chosen("").source.text(), HasSubstr("version 1.7, and banger needs 1.8"));
    programs.insert_or_assign(usual, Error(Errc::permission_denied, usual + " is not root's"));
    EXPECT_EQ(*chosen(""), "vmm-qemu");
    EXPECT_EQ(chosen("").source.text(), "default: " + usual + " is not root's");
}

TEST(DefaultBackend, TheFallbackSaysSo) {
    Config config = parse("", context(RunMode::system)).value();
    BackendFacts facts;
    facts.has_kvm = true;
    facts.ask = [](const std::string&) { return Error(Errc::not_found, "none"); };
    choose_default_backend(config, facts);
    std::optional<Check> check = default_backend_check(config);
    ASSERT_TRUE(check);
    EXPECT_EQ(check->status, CheckStatus::warn);
    EXPECT_EQ(check->detail, "vmm-qemu, the fallback (default: Firecracker is not installed)");
    EXPECT_THAT(check->remedy, HasSubstr("Install firecracker and jailer"));
    facts.ask = [](const std::string& path) { return firecracker::Program{path, {1, 12}}; };
    choose_default_backend(config, facts);
    check = default_backend_check(config);
    ASSERT_TRUE(check);
    EXPECT_EQ(check->status, CheckStatus::pass);
    EXPECT_THAT(check->detail, HasSubstr("vmm-firecracker (default: found /usr/local/bin/"));
    EXPECT_FALSE(default_backend_check(parse("").value()));
    EXPECT_FALSE(default_backend_check(
        parse("[plugins]\nvm_backend = 'vmm-qemu'", context(RunMode::system)).value()));
}

TEST(DefaultBackend, IsNotLookedForWhereItWasChosenOrInUserMode) {
    BackendFacts facts;
    facts.has_kvm = true;
    facts.ask = [](const std::string& path) -> Result<firecracker::Program> {
        ADD_FAILURE() << "asked for " << path;
        return firecracker::Program{path, {1, 12}};
    };
    Config config = parse("[plugins]\nvm_backend = 'mine'", context(RunMode::system)).value();
    choose_default_backend(config, facts);
    EXPECT_EQ(*config.plugins.vm_backend, "mine");
    config = parse("", context(RunMode::user)).value();
    choose_default_backend(config, facts);
    EXPECT_EQ(*config.plugins.vm_backend, "vmm-qemu");
}

TEST_F(ConfigFiles, MayBeALinkButMustNotBeOpenToOthers) {
    write(folder_ / "elsewhere.toml", "dns_port = 2");
    ASSERT_EQ(::symlink("elsewhere.toml", paths_.user_config_file.c_str()), 0);
    EXPECT_EQ(*load_config(paths_, {}).value().dns_port, 2);
    ASSERT_EQ(::chmod((folder_ / "elsewhere.toml").c_str(), 0666), 0);
    EXPECT_EQ(load_config(paths_, {}).error().code, Errc::permission_denied);
}

TEST_F(ConfigFiles, TooLargeOrNoFileIsRefused) {
    write(paths_.user_config_file, std::string((1 << 20) + 1, '#'));
    EXPECT_EQ(load_config(paths_, {}).error().code, Errc::corrupt);
    ASSERT_TRUE(remove_file(paths_.user_config_file));
    ASSERT_EQ(::mkfifo(paths_.user_config_file.c_str(), 0600), 0);
    EXPECT_EQ(load_config(paths_, {}).error().code, Errc::invalid_argument);
}

}  // namespace
}  // namespace banger
