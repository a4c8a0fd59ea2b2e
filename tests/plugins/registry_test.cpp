#include "core/plugins/registry.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "core/plugins/trusted_plugins.hpp"
#include "fake_plugin.hpp"
#include "tests/plugins/sample.hpp"

namespace banger {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

/// A folder with the real fake.so in it, and options that fill every role with it.
class registry : public testing::Test {
protected:
    registry() {
        for (const char* suffix : {".so", ".toml"})
            folder_.write(
                folder_.path() + "/fake" + suffix,
                read_file(std::string(BUILT_PLUGINS) + "/fake" + suffix, ByteCount::mib(256))
                    .value());
    }
    RegistryOptions options() {
        RegistryOptions options;
        options.folders = {folder_.path()};
        options.owner = ::geteuid();
        options.choice = {"fake", "none", "fake", "fake", {"fake"}};
        options.own_folders = {own_ / "state", own_ / "cache", own_ / "run"};
        return options;
    }
    std::unique_ptr<Registry> open(RegistryOptions options) {
        Result<std::unique_ptr<Registry>> opened = Registry::open(std::move(options));
        EXPECT_TRUE(opened) << opened.error().text();
        return opened ? std::move(opened).value() : nullptr;
    }
    static Error failure(RegistryOptions options) {
        const Result<std::unique_ptr<Registry>> opened = Registry::open(std::move(options));
        EXPECT_FALSE(opened);
        return opened ? Error() : opened.error();
    }
    static LinkRequest request() {
        const VmId vm = VmId::random();
        return {vm,
                VmName::parse("box").value(),
                MacAddress::of(vm),
                Ipv4Address::parse("10.99.0.7").value(),
                false,
                0,
                {}};
    }
    PluginFolder folder_;
    TempFolder own_;
};

TEST_F(registry, fills_every_role_from_a_real_library) {
    RegistryOptions wanted = options();
    wanted.choice.dns = "fake";
    const std::unique_ptr<Registry> plugins = open(wanted);
    ASSERT_TRUE(plugins);
    EXPECT_TRUE(plugins->network().attach(request(), {}));
    EXPECT_TRUE(plugins->dns().publish({VmId::random(), VmName::parse("box").value(), {}}, {}));
    EXPECT_TRUE(plugins->storage().remove(VmId::random()));
    EXPECT_NE(plugins->storage().cloning(), nullptr);
    EXPECT_TRUE(plugins->vm_backend().capabilities());
    EXPECT_NE(plugins->vm_backend().pausing(), nullptr);
    EXPECT_EQ(plugins->vm_backend().snapshots(), nullptr);
    ASSERT_THAT(plugins->image_sources(), SizeIs(1));
    EXPECT_EQ(plugins->image_sources()[0].first.str(), "fake");

    const Result<PluginInfo> info = plugins->info("fake");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->status, PluginStatus::loaded);
    EXPECT_EQ(info->runs_in, "bangerd");
    EXPECT_THAT(info->roles, SizeIs(5));
    EXPECT_THAT(info->fills, ElementsAre(Role::network, Role::dns, Role::storage, Role::vm_backend,
                                         Role::image_source));
    EXPECT_TRUE(Digest::parse(info->digest));
    EXPECT_EQ(info->settings.at("addressing"), SettingValue(std::string("pool")));
}

TEST_F(registry, says_which_strangers_root_lets_run_as_root) {
    for (const char* name : {"net-mine", "net-yours", "net-bridge"}) {
        folder_.install("good", name);
        folder_.write(folder_.manifest(name), PluginFolder::manifest_text(name, "root"));
    }
    const std::string list = own_ / trusted_plugins_file.data();
    const std::unique_ptr<Registry> user_mode = open(options());
    ASSERT_TRUE(user_mode);
    EXPECT_EQ(user_mode->info("net-mine")->trust, Trust::own) << "nobody keeps a list";

    RegistryOptions wanted = options();
    wanted.trusted_plugins = list;
    wanted.root = ::geteuid();
    const auto row = [&](const std::string& name) { return open(wanted)->info(name).value(); };
    EXPECT_EQ(row("net-mine").status, PluginStatus::refused);
    EXPECT_EQ(row("net-mine").trust, Trust::none);
    EXPECT_THAT(row("net-mine").refusal->reason, HasSubstr("root has not allowed"));
    EXPECT_EQ(row("net-bridge").status, PluginStatus::root_only);
    EXPECT_EQ(row("net-bridge").trust, Trust::own);

    ASSERT_TRUE(write_trusted_plugins(
        list, {{"net-mine", Digest::parse(row("net-mine").digest).value()},
               {"net-yours", Digest::parse("sha256:" + std::string(64, '0')).value()}}));
    EXPECT_EQ(row("net-mine").status, PluginStatus::root_only);
    EXPECT_EQ(row("net-mine").trust, Trust::by_root);
    EXPECT_EQ(row("net-yours").trust, Trust::none);
    EXPECT_THAT(row("net-yours").refusal->reason, HasSubstr("no longer the one"));
    EXPECT_THAT(row("net-yours").refusal->remedy, HasSubstr("banger plugin trust net-yours"));
    bool is_warned = false;
    for (const Check& check : open(wanted)->checks({}))
        is_warned =
            is_warned || (check.name == "plugin net-yours" && check.status == CheckStatus::warn &&
                          check.remedy.find("plugin trust") != std::string::npos);
    EXPECT_TRUE(is_warned);

    ASSERT_EQ(::chmod(list.c_str(), 0666), 0);
    EXPECT_EQ(row("net-mine").trust, Trust::none) << "a list that others can write is none";
}

TEST_F(registry, dns_none_accepts_everything) {
    const std::unique_ptr<Registry> plugins = open(options());
    ASSERT_TRUE(plugins);
    EXPECT_TRUE(plugins->dns().route({"vm", Ipv4Address(0x7f000001), 42069}, {}));
    EXPECT_TRUE(plugins->dns().publish({VmId::random(), VmName::parse("box").value(), {}}, {}));
    EXPECT_TRUE(plugins->dns().unroute());
}

TEST_F(registry, a_refused_plugin_matters_only_when_it_is_named) {
    folder_.install("magic");
    const std::unique_ptr<Registry> plugins = open(options());
    ASSERT_TRUE(plugins);
    const std::vector<PluginInfo> rows = plugins->list();
    ASSERT_THAT(rows, SizeIs(2));
    EXPECT_EQ(rows[1].name, "sample");
    EXPECT_EQ(rows[1].status, PluginStatus::refused);
    ASSERT_TRUE(rows[1].refusal);
    EXPECT_THAT(rows[1].refusal->reason, HasSubstr("wrong first word"));

    const Result<Network*> by_name = plugins->network("sample");
    ASSERT_FALSE(by_name);
    EXPECT_EQ(by_name.error().code, Errc::unavailable);

    RegistryOptions named = options();
    named.choice.network = "sample";
    const Error error = failure(named);
    EXPECT_EQ(error.code, Errc::unavailable);
    EXPECT_THAT(error.message, HasSubstr("loading the plugin for the role network"));
    EXPECT_THAT(error.message, HasSubstr("wrong first word"));
    EXPECT_THAT(error.remedy, Not(IsEmpty()));
}

TEST_F(registry, the_refusal_of_files_is_kept_too) {
    folder_.install("good");
    ASSERT_EQ(::chmod(folder_.library().c_str(), 0666), 0);
    const std::unique_ptr<Registry> plugins = open(options());
    ASSERT_TRUE(plugins);
    const Result<PluginInfo> info = plugins->info("sample");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->status, PluginStatus::refused);
    RegistryOptions named = options();
    named.choice.network = "sample";
    EXPECT_THAT(failure(named).message, HasSubstr("can be written by others"));
    const std::vector<Check> checks = plugins->checks({});
    const auto row = std::ranges::find(checks, "plugin sample", &Check::name);
    ASSERT_NE(row, checks.end());
    EXPECT_EQ(row->status, CheckStatus::warn);
    EXPECT_THAT(row->remedy, HasSubstr("chmod"));
}

TEST_F(registry, a_missing_plugin_is_named_with_the_alternatives) {
    RegistryOptions wanted = options();
    wanted.choice.storage = "storage-flie";
    const Error error = failure(wanted);
    EXPECT_EQ(error.code, Errc::not_found);
    EXPECT_THAT(error.remedy, HasSubstr("there are: fake"));
    wanted.choice.storage = "";
    EXPECT_EQ(failure(wanted).code, Errc::invalid_argument);
    folder_.install("good");
    wanted.choice.storage = "sample";
    EXPECT_EQ(failure(wanted).code, Errc::unsupported);
}

TEST_F(registry, settings_are_checked_before_the_plugin_is_made) {
    RegistryOptions wanted = options();
    wanted.settings["fake"] = {{"adressing", std::string("user")}};
    Error error = failure(wanted);
    EXPECT_THAT(error.message, HasSubstr("unknown key \"plugin.fake.adressing\""));
    EXPECT_THAT(error.remedy, HasSubstr("addressing"));
    wanted.settings["fake"] = {{"addressing", std::string("none")}};
    EXPECT_THAT(failure(wanted).message, HasSubstr("cannot be \"none\""));
    wanted.settings.clear();
    wanted.settings["fakee"] = {};
    error = failure(wanted);
    EXPECT_THAT(error.message, HasSubstr("[plugin.fakee]"));
    EXPECT_THAT(error.remedy, HasSubstr("[plugin.fake]"));
    wanted.settings.clear();
    wanted.settings["fake"] = {{"addressing", std::string("user")}};
    const std::unique_ptr<Registry> plugins = open(wanted);
    ASSERT_TRUE(plugins);
    EXPECT_FALSE(plugins->network().addressing().pool);
}

TEST_F(registry, a_plugin_that_cannot_start_says_why) {
    RegistryOptions wanted = options();
    wanted.settings["fake"] = {{"pool", std::string("10.99.0.1")}};
    const Error error = failure(wanted);
    EXPECT_THAT(error.message, HasSubstr("it cannot start"));
    EXPECT_THAT(error.message, HasSubstr("is not an IPv4 prefix"));
}

TEST_F(registry, a_privileged_plugin_is_never_opened) {
    folder_.install("good");
    folder_.write(folder_.manifest(), PluginFolder::manifest_text("sample", "root"));
    folder_.write(folder_.library(), "not even a library");
    const std::unique_ptr<Registry> plugins = open(options());
    ASSERT_TRUE(plugins);
    const Result<PluginInfo> info = plugins->info("sample");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->status, PluginStatus::root_only);
    EXPECT_EQ(info->runs_in, "bangerd-root");
    const Result<Network*> by_name = plugins->network("sample");
    ASSERT_FALSE(by_name);
    EXPECT_EQ(by_name.error().code, Errc::unsupported);
}

TEST_F(registry, an_override_is_loaded_when_it_is_asked_for) {
    folder_.install("good");
    std::vector<std::string> loaded;
    RegistryOptions wanted = options();
    wanted.on_load = [&](const PluginName& name, const Roles& roles) -> Result<void> {
        loaded.push_back(name.str());
        if (roles.network) BANGER_TRY(roles.network->recover({}));
        return ok();
    };
    const std::unique_ptr<Registry> plugins = open(wanted);
    ASSERT_TRUE(plugins);
    EXPECT_THAT(loaded, ElementsAre("fake")) << "once, however many roles it fills";
    EXPECT_EQ(plugins->info("sample")->status, PluginStatus::available);
    const Result<Network*> sample = plugins->network("sample");
    ASSERT_TRUE(sample) << sample.error().text();
    EXPECT_NE(*sample, &plugins->network());
    EXPECT_EQ(*plugins->network("sample"), *sample);
    EXPECT_EQ(*plugins->network("fake"), &plugins->network());
    EXPECT_THAT(loaded, ElementsAre("fake", "sample"));
    EXPECT_EQ(plugins->info("sample")->status, PluginStatus::loaded);
    EXPECT_EQ(plugins->storage("sample").error().code, Errc::unsupported);
    EXPECT_EQ(plugins->network("nothing").error().code, Errc::not_found);
}

TEST_F(registry, an_error_of_on_load_refuses_the_plugin) {
    RegistryOptions wanted = options();
    wanted.on_load = [](const PluginName&, const Roles&) -> Result<void> {
        return Error(Errc::corrupt, "recovery failed", "Look at the disk.");
    };
    const Error error = failure(wanted);
    EXPECT_THAT(error.message, HasSubstr("recovery failed"));
    EXPECT_THAT(error.remedy, HasSubstr("Look at the disk"));
}

TEST_F(registry, what_a_plugin_throws_ends_at_the_decorator) {
    folder_.install("good");
    const std::unique_ptr<Registry> plugins = open(options());
    ASSERT_TRUE(plugins);
    Network& sample = **plugins->network("sample");
    const Result<NetworkLink> link = sample.attach(request(), {});
    ASSERT_FALSE(link);
    EXPECT_EQ(link.error().code, Errc::internal);
    EXPECT_THAT(link.error().message, HasSubstr("attach lost its temper"));
    EXPECT_EQ(sample.detach(VmId::random()).error().code, Errc::internal);
    EXPECT_EQ(sample.checks({}).at(0).status, CheckStatus::fail);
}

TEST_F(registry, a_call_in_flight_shows_with_its_machine) {
    Failpoints* failpoints = nullptr;
    RegistryOptions wanted = options();
    wanted.folders.clear();
    wanted.built_in.push_back(
        {parse_manifest(
             read_file(std::string(BUILT_PLUGINS) + "/fake.toml", ByteCount::kib(64)).value(),
             "fake.toml")
             .value(),
         [&](Host& host) -> Result<std::unique_ptr<Plugin>> {
             std::unique_ptr<FakePlugin> plugin = BANGER_TRY(FakePlugin::make(host));
             failpoints = &plugin->failpoints();
             return std::unique_ptr<Plugin>(std::move(plugin));
         }});
    std::atomic<int> slow_calls = 0;
    wanted.hooks.slow = std::chrono::nanoseconds(0);
    wanted.hooks.slow_call = [&](const PluginCall&, std::chrono::nanoseconds) { ++slow_calls; };
    const std::unique_ptr<Registry> plugins = open(wanted);
    ASSERT_TRUE(plugins);

    failpoints->hang("network.attach");
    const LinkRequest stuck = request();
    std::jthread thread([&](std::stop_token stop) {
        EXPECT_EQ(plugins->network().attach(stuck, stop).error().code, Errc::cancelled);
    });
    failpoints->await_hang();
    const std::vector<PluginCall> calls = plugins->calls_older_than({});
    ASSERT_THAT(calls, SizeIs(1));
    EXPECT_EQ(calls[0].plugin, "fake");
    EXPECT_EQ(calls[0].method, "attach");
    EXPECT_EQ(calls[0].vm, stuck.vm.str());
    EXPECT_THAT(plugins->calls_older_than(std::chrono::hours(1)), IsEmpty());
    EXPECT_THAT(plugins->info("fake")->in_flight, SizeIs(1));
    EXPECT_EQ(slow_calls, 0);
    thread.request_stop();
    thread.join();

    EXPECT_THAT(plugins->calls_older_than({}), IsEmpty());
    EXPECT_EQ(slow_calls, 1);
    const std::vector<CallCount> counts = plugins->info("fake")->calls;
    ASSERT_THAT(counts, SizeIs(1));
    EXPECT_EQ(counts[0].method, "attach");
    EXPECT_EQ(counts[0].calls, 1u);
    EXPECT_EQ(counts[0].failures, 1u);
    EXPECT_GE(counts[0].longest, std::chrono::nanoseconds(1));
}

TEST_F(registry, slow_calls_become_lines_of_the_log) {
    std::vector<std::string> lines;
    RegistryOptions wanted = options();
    wanted.hooks.slow = std::chrono::nanoseconds(0);
    wanted.log = [&](LogLevel level, std::string_view plugin, std::string_view message) {
        EXPECT_EQ(level, LogLevel::warning);
        lines.push_back(std::string(plugin) + ": " + std::string(message));
    };
    const std::unique_ptr<Registry> plugins = open(wanted);
    ASSERT_TRUE(plugins);
    const VmId vm = VmId::random();
    ASSERT_TRUE(plugins->storage().remove(vm));
    EXPECT_THAT(lines, ElementsAre("fake: storage.remove of " + vm.str() + " took 0 s"));
}

TEST_F(registry, a_hook_can_fail_the_nth_call) {
    std::atomic<int> calls = 0;
    RegistryOptions wanted = options();
    wanted.hooks.before = [&](const PluginCall&) -> std::optional<Error> {
        if (++calls == 2) return Error(Errc::internal, "as the test wanted");
        return std::nullopt;
    };
    const std::unique_ptr<Registry> plugins = open(wanted);
    ASSERT_TRUE(plugins);
    EXPECT_TRUE(plugins->network().attach(request(), {}));
    EXPECT_FALSE(plugins->network().attach(request(), {}));
    EXPECT_TRUE(plugins->network().attach(request(), {}));
}

TEST_F(registry, an_earlier_folder_wins) {
    const PluginFolder later;
    later.install("magic", "sample");
    folder_.install("good");
    RegistryOptions wanted = options();
    wanted.folders.push_back(later.path());
    const std::unique_ptr<Registry> plugins = open(wanted);
    ASSERT_TRUE(plugins);
    const Result<PluginInfo> info = plugins->info("sample");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->status, PluginStatus::available);
    EXPECT_EQ(info->file, folder_.library());
}

TEST_F(registry, checks_have_a_row_for_each_plugin_and_theirs) {
    const std::unique_ptr<Registry> plugins = open(options());
    ASSERT_TRUE(plugins);
    std::vector<std::string> names;
    for (const Check& check : plugins->checks({}))
        names.push_back(check.name);
    EXPECT_THAT(names, testing::IsSupersetOf({"plugin fake", "fake network", "fake-vmm"}));
}

TEST_F(registry, an_unknown_name_is_answered_with_the_nearest) {
    const std::unique_ptr<Registry> plugins = open(options());
    ASSERT_TRUE(plugins);
    const Result<PluginInfo> info = plugins->info("fakke");
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code, Errc::not_found);
    EXPECT_THAT(info.error().remedy, HasSubstr("fake"));
}

}  // namespace
}  // namespace banger
