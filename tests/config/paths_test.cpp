#include "core/config/paths.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

using testing::HasSubstr;

class PathsTest : public testing::Test {
protected:
    PathsTest() {
        environment_.uid = ::geteuid();
        environment_.variables["HOME"] = "/home/anna";
        environment_.run_user_root = folder_ / "run-user";
        environment_.tmp_root = folder_.path();
        private_ = folder_ / ("banger-" + std::to_string(environment_.uid));
    }
    std::string make_folder(const std::string& name, mode_t mode) {
        const std::string path = folder_ / name;
        EXPECT_EQ(::mkdir(path.c_str(), 0700), 0);
        EXPECT_EQ(::chmod(path.c_str(), mode), 0);
        return path;
    }
    Paths find(RunMode mode = RunMode::user) { return find_paths(mode, environment_).value(); }

    TempFolder folder_;
    PathEnvironment environment_;
    std::string private_;  ///< the last resort
};

TEST_F(PathsTest, UserModeFollowsXdg) {
    environment_.variables["XDG_RUNTIME_DIR"] = make_folder("run", 0700);
    environment_.variables["XDG_STATE_HOME"] = "/s/";
    environment_.variables["XDG_CACHE_HOME"] = "/c";
    environment_.variables["XDG_CONFIG_HOME"] = "/conf";
    const Paths paths = find();
    EXPECT_EQ(paths.run, folder_ / "run/banger");
    EXPECT_EQ(paths.socket, folder_ / "run/banger/bangerd.sock");
    EXPECT_EQ(paths.root_socket, "");
    EXPECT_EQ(paths.state, "/s/banger");
    EXPECT_EQ(paths.database, "/s/banger/banger.db");
    EXPECT_EQ(paths.images, "/s/banger/images");
    EXPECT_EQ(paths.cache, "/c/banger");
    EXPECT_EQ(paths.user_config_file, "/conf/banger/config.toml");
    EXPECT_EQ(paths.system_config_file, "/etc/banger/config.toml");
    EXPECT_EQ(paths.ssh_key, "/s/banger/ssh/id_ed25519");
    EXPECT_EQ(paths.known_hosts, paths.daemon_known_hosts);
    EXPECT_EQ(paths.plugin_state("catalog"), "/s/banger/plugins/catalog");
    EXPECT_EQ(paths.plugin_cache("catalog"), "/c/banger/plugins/catalog");
    EXPECT_EQ(paths.plugin_run("catalog"), folder_ / "run/banger/plugins/catalog");
}

TEST_F(PathsTest, UserModeWithoutXdgLiesInTheHome) {
    for (const char* unset : {"", "relative/path"}) {
        environment_.variables["XDG_STATE_HOME"] = unset;
        const Paths paths = find();
        EXPECT_EQ(paths.state, "/home/anna/.local/state/banger");
        EXPECT_EQ(paths.cache, "/home/anna/.cache/banger");
        EXPECT_EQ(paths.config, "/home/anna/.config/banger");
        EXPECT_EQ(paths.ssh_key, "/home/anna/.local/state/banger/ssh/id_ed25519");
    }
}

TEST_F(PathsTest, SystemMode) {
    const Paths paths = find(RunMode::system);
    EXPECT_EQ(paths.socket, "/run/banger/bangerd.sock");
    EXPECT_EQ(paths.root_socket, "/run/banger-root/bangerd-root.sock");
    EXPECT_EQ(paths.database, "/var/lib/banger/banger.db");
    EXPECT_EQ(paths.cache, "/var/cache/banger");
    EXPECT_EQ(paths.user_config_file, "/home/anna/.config/banger/config.toml");
    EXPECT_EQ(paths.known_hosts, "/home/anna/.local/state/banger/ssh/known_hosts");
    EXPECT_EQ(paths.daemon_known_hosts, "/var/lib/banger/ssh/known_hosts");
    EXPECT_FALSE(path_exists(private_)) << "system mode makes nothing in /tmp";
}

TEST_F(PathsTest, WithoutTheVariableTheUsersRunFolderIsUsed) {
    make_folder("run-user", 0755);
    const std::string mine = make_folder("run-user/" + std::to_string(environment_.uid), 0700);
    EXPECT_EQ(find().run, mine + "/banger");
}

TEST_F(PathsTest, TheLastResortIsMadePrivate) {
    EXPECT_EQ(find().run, private_);
    struct stat status {};
    ASSERT_EQ(::lstat(private_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode, S_IFDIR | 0700u);
    EXPECT_EQ(find().run, private_) << "the second time it is there";
}

TEST_F(PathsTest, AVariableThatNamesNoFolderOfOursIsPassedOver) {
    const std::string open = make_folder("open", 0777);
    const std::string good = make_folder("good", 0700);
    ASSERT_EQ(::symlink(good.c_str(), (folder_ / "link").c_str()), 0);
    for (const std::string& bad :
         {folder_ / "missing", open, folder_ / "link", std::string("relative")}) {
        environment_.variables["XDG_RUNTIME_DIR"] = bad;
        EXPECT_EQ(find().run, private_) << bad;
    }
}

TEST_F(PathsTest, AFolderOfSomebodyElseIsNotUsed) {
    const std::string run = make_folder("run", 0700);
    environment_.variables["XDG_RUNTIME_DIR"] = run;
    environment_.uid += 1;  // now all folders here are another user's
    const Result<Paths> paths = find_paths(RunMode::user, environment_);
    EXPECT_EQ(paths.error().code, Errc::permission_denied);
}

TEST_F(PathsTest, APreparedLastResortIsRefused) {
    ASSERT_EQ(::symlink(folder_.path().c_str(), private_.c_str()), 0);
    const Error link = find_paths(RunMode::user, environment_).error();
    EXPECT_EQ(link.code, Errc::permission_denied);
    EXPECT_THAT(link.remedy, HasSubstr("XDG_RUNTIME_DIR"));
    ASSERT_TRUE(remove_file(private_));
    make_folder("banger-" + std::to_string(environment_.uid), 0755);
    EXPECT_EQ(find_paths(RunMode::user, environment_).error().code, Errc::permission_denied);
}

TEST_F(PathsTest, ASocketPathThatIsTooLongIsRefused) {
    environment_.variables["XDG_RUNTIME_DIR"] = make_folder(std::string(100, 'x'), 0700);
    EXPECT_EQ(find_paths(RunMode::user, environment_).error().code, Errc::invalid_argument);
}

TEST_F(PathsTest, WithoutAHomeThereAreNoPaths) {
    environment_.variables.erase("HOME");
    EXPECT_EQ(find_paths(RunMode::user, environment_).error().code, Errc::invalid_argument);
}

TEST(PathEnvironment, HasAHomeAlsoWithoutTheVariable) {
    const PathEnvironment environment = PathEnvironment::from_process().value();
    EXPECT_EQ(environment.uid, ::geteuid());
    EXPECT_TRUE(environment.variables.at("HOME").starts_with('/'));
}

}  // namespace
}  // namespace banger
