#include "cli/reference.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/base/temp_folder.hpp"

namespace banger::cli {
namespace {

TEST(absolute_reference, of_files_is_where_the_user_is) {
    const TempFolder folder;
    ASSERT_EQ(::chdir(folder.path().c_str()), 0);
    ASSERT_EQ(::setenv("HOME", "/home/dev", 1), 0);
    const std::pair<std::string, std::string> cases[] = {
        {"oci:layout:tag", "oci:" + folder / "layout:tag"},
        {"oci-archive:./a.tar", "oci-archive:" + folder / "./a.tar"},
        {"docker-archive:../a.tar:x:1", "docker-archive:" + folder / "../a.tar:x:1"},
        {"oci:~/layout", "oci:/home/dev/layout"},
        {"oci:/srv/layout", "oci:/srv/layout"},
        {"oci:", "oci:"},
        {"alpine:3.20", "alpine:3.20"},
        {"debian-bookworm", "debian-bookworm"},
        {"registry.example/oci:1", "registry.example/oci:1"},
        {"", ""},
    };
    for (const auto& [typed, expected] : cases)
        EXPECT_EQ(absolute_reference(typed).value(), expected);
    ASSERT_EQ(::chdir("/"), 0);
}

}  // namespace
}  // namespace banger::cli
