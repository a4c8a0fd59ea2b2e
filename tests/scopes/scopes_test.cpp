#include "core/scopes/scopes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>

#include "core/base/process.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

using namespace std::chrono_literals;

ScopeRequest request_of(ProcessId process) {
    return scope_of_machine(VmId::random(), *VmName::parse("sandbox"), process,
                            ByteCount::mib(1024), 2);
}

TEST(ScopesTest, ALimitLeavesRoomForTheVmm) {
    const VmId vm = VmId::random();
    const ScopeRequest request =
        scope_of_machine(vm, *VmName::parse("sandbox"), {}, ByteCount::mib(1024), 2);
    EXPECT_EQ(request.memory, ByteCount::mib(1024 + 64 + 1280));
    EXPECT_EQ(request.tasks, 132u);
    EXPECT_EQ(request.unit, "banger-" + vm.str() + ".scope");
}

TEST(ScopesTest, EachProcessOfAPluginHasOneOfItsOwn) {
    const PluginName name = *PluginName::parse("image-folder");
    const ProcessId process = *process_id_of(::getpid());
    const ScopeRequest request = scope_of_plugin(name, process, ByteCount::mib(256));
    EXPECT_EQ(request.memory, ByteCount::mib(256));
    EXPECT_EQ(request.unit, "banger-plugin-image-folder-" + std::to_string(::getpid()) + ".scope");
}

TEST(ScopesTest, WithoutAUserManagerAStartGoesOnAndTheLogSaysSo) {
    TempFolder folder;
    std::promise<std::string> said;
    Scopes scopes(folder / "bus", [&](LogLevel level, const std::string& text) {
        EXPECT_EQ(level, LogLevel::warning);
        said.set_value(text);
    });
    scopes.contain(request_of(*process_id_of(::getpid())));
    std::future<std::string> line = said.get_future();
    ASSERT_EQ(line.wait_for(10s), std::future_status::ready);
    EXPECT_THAT(line.get(), ::testing::HasSubstr("sandbox runs without a scope"));
    const Check check = scopes.check();
    EXPECT_EQ(check.status, CheckStatus::warn);
    EXPECT_THAT(check.remedy, ::testing::HasSubstr("enable-linger"));
}

TEST(ScopesTest, OneThatIsWaitedForIsSaidToo) {
    TempFolder folder;
    std::vector<std::string> said;
    Scopes scopes(folder / "bus", [&](LogLevel, const std::string& text) { said.push_back(text); });
    scopes.contain_now(scope_of_plugin(*PluginName::parse("image-folder"),
                                       *process_id_of(::getpid()), ByteCount::mib(256)));
    EXPECT_THAT(said, ::testing::ElementsAre(
                          ::testing::HasSubstr("plugin image-folder runs without a scope")));
}

TEST(ScopesTest, GoingAwayDropsWhatIsQueued) {
    TempFolder folder;
    Scopes scopes(folder / "bus", [](LogLevel, const std::string&) {});
    for (int i = 0; i < 100; ++i)
        scopes.contain(request_of(*process_id_of(::getpid())));
}

}  // namespace
}  // namespace banger
