#include "plugins/image-debian/recipe.hpp"

#include <gtest/gtest.h>

#include <set>

namespace banger::image_debian {
namespace {

TEST(Recipe, IsFoundByItsOneSpelling) {
    for (const Recipe& recipe : recipes()) {
        const Result<const Recipe*> found = find_recipe(recipe.kind, recipe.reference);
        ASSERT_TRUE(found) << recipe.reference;
        EXPECT_EQ(*found, &recipe);
        const std::string_view scheme =
            recipe.kind == ArtifactKind::image ? image_scheme : kernel_scheme;
        EXPECT_TRUE(
            recipe.reference.starts_with(std::string(scheme) + std::string(recipe.release) + "-"))
            << recipe.reference;
        EXPECT_TRUE(ArtifactName::parse(suggested_name(recipe)));
    }
}

TEST(Recipe, AnythingElseIsSomebodyElses) {
    for (const char* reference :
         {"", "debian:", "debian:bookworm", "debian:bookworm-", "debian:bookworm-slim ",
          "debian:bookworm-slim\n", " debian:bookworm-slim", "Debian:bookworm-slim",
          "debian:bookworm-slim,vim", "debian:bookworm-slim?include=vim", "debian:12",
          "debian:bookworm-20260101", "debian:../bookworm-slim", "debian-kernel:bookworm-cloud",
          "debian:bookworm-slim@sha256:00", "--include=x"}) {
        const Result<const Recipe*> found = find_recipe(ArtifactKind::image, reference);
        ASSERT_FALSE(found) << reference;
        EXPECT_EQ(found.error().code, Errc::not_found);
        EXPECT_NE(found.error().remedy.find("debian:bookworm-slim"), std::string::npos);
    }
    EXPECT_FALSE(find_recipe(ArtifactKind::kernel, "debian:bookworm-slim"));
    EXPECT_FALSE(find_recipe(ArtifactKind::image, std::string_view("debian:bookworm-slim\0", 21)));
}

TEST(Recipe, PackagesAreNamesAndNoOptions) {
    for (const Recipe& recipe : recipes()) {
        std::set<std::string_view> seen;
        for (const std::string_view package : recipe.packages) {
            EXPECT_EQ(package.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.+-"),
                      std::string_view::npos)
                << package;
            EXPECT_FALSE(package.starts_with('-')) << package;
            EXPECT_TRUE(seen.insert(package).second) << package << " twice in " << recipe.reference;
        }
    }
}

TEST(Recipe, ImagesHaveWhatAMachineNeeds) {
    for (const Recipe& recipe : recipes()) {
        if (recipe.kind != ArtifactKind::image) continue;
        const std::set<std::string_view> packages(recipe.packages.begin(), recipe.packages.end());
        for (const char* needed : {"systemd-sysv", "udev", "dbus", "openssh-server", "iproute2",
                                   "ca-certificates", "git"})
            EXPECT_TRUE(packages.contains(needed)) << needed << " in " << recipe.reference;
        // Each would configure the network that banger's init has configured.
        for (const char* unwanted :
             {"network-manager", "ifupdown", "isc-dhcp-client", "cloud-init"})
            EXPECT_FALSE(packages.contains(unwanted)) << unwanted;
    }
}

TEST(Recipe, TheReferenceOfTheBenchmarkHasTheSamePackages) {
    const Recipe& tuned = **find_recipe(ArtifactKind::image, "debian:bookworm-slim");
    const Recipe& plain = **find_recipe(ArtifactKind::image, "debian:bookworm-slim-unmasked");
    EXPECT_TRUE(std::ranges::equal(tuned.packages, plain.packages));
    EXPECT_FALSE(plain.is_listed);
}

}  // namespace
}  // namespace banger::image_debian
