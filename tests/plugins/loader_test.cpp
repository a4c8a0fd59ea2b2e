#include "core/plugins/loader.hpp"

#include <gmock/gmock.h>

#include "tests/plugins/sample.hpp"
#include "tests/support/plain_host.hpp"

namespace banger {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

/// The whole way in, as the registry goes it: the first refusal, or nothing.
std::optional<Refusal> refusal_of(const PluginFolder& folder) {
    std::vector<Admission<PluginFiles>> found = find_plugins(folder.path(), ::geteuid());
    if (found.size() != 1) {
        ADD_FAILURE() << found.size() << " plugins in the folder";
        return std::nullopt;
    }
    if (!found[0]) return found[0].refusal();
    Admission<Library> library = Library::open(*found[0]);
    if (!library) return library.refusal();
    PlainHost host;
    Admission<LoadedPlugin> plugin = LoadedPlugin::create(*found[0], *library, host);
    if (!plugin) return plugin.refusal();
    EXPECT_NE(plugin->roles().network, nullptr);
    return std::nullopt;
}

void expect_refused(const PluginFolder& folder, const std::string& reason) {
    const std::optional<Refusal> refusal = refusal_of(folder);
    ASSERT_TRUE(refusal) << "it was let in";
    EXPECT_EQ(refusal->name, "sample");
    EXPECT_THAT(refusal->file, Not(IsEmpty()));
    EXPECT_THAT(refusal->reason, HasSubstr(reason));
    EXPECT_THAT(refusal->remedy, testing::EndsWith(".")) << "a sentence";
    EXPECT_EQ(refusal->error().code, Errc::unavailable);
}

TEST(loader, a_good_plugin_is_let_in) {
    const PluginFolder folder;
    folder.install("good");
    const std::optional<Refusal> refusal = refusal_of(folder);
    EXPECT_FALSE(refusal) << refusal->reason;
}

TEST(loader, a_folder_that_does_not_exist_has_no_plugins) {
    EXPECT_THAT(find_plugins("/nonexistent/plugins", 0), IsEmpty());
}

struct BadSample {
    const char* variant;
    const char* reason;
    friend std::ostream& operator<<(std::ostream& out, const BadSample& sample) {
        return out << sample.variant;
    }
};
class bad_library : public testing::TestWithParam<BadSample> {};

TEST_P(bad_library, is_a_sentence_and_no_crash) {
    const PluginFolder folder;
    folder.install(GetParam().variant);
    expect_refused(folder, GetParam().reason);
}

INSTANTIATE_TEST_SUITE_P(
    each, bad_library,
    testing::Values(
        BadSample{"magic", "wrong first word"}, BadSample{"size_small", "has 8 bytes"},
        BadSample{"size_large", "has 4096 bytes"}, BadSample{"api_old", "plugin-api version 0"},
        BadSample{"api_new", "plugin-api version 2"}, BadSample{"reserved", "does not know"},
        BadSample{"tag", "built with \"libc++17\""}, BadSample{"null_tag", "built with \"\""},
        BadSample{"other_name", "calls itself \"other\""}, BadSample{"null_name", "calls itself"},
        BadSample{"no_create", "leads nowhere"}, BadSample{"create_null", "does not say why"},
        BadSample{"create_sentence", "the moon is in the wrong phase"},
        BadSample{"create_endless", "xxxxxxxx"},
        BadSample{"create_throws", "create lost its temper"},
        BadSample{"no_roles", "it fills none, its manifest says network"},
        BadSample{"roles_throw", "roles() threw"}, BadSample{"no_symbol", "no symbol"},
        BadSample{"tiny", "not a plugin's door"}, BadSample{"undefined", "undefined symbol"}),
    [](const auto& row) { return std::string(row.param.variant); });

TEST(loader, a_text_file_is_not_a_library) {
    const PluginFolder folder;
    folder.install("good");
    folder.write(folder.library(),
                 "#!/bin/sh\necho no library, but quite long enough for a header, "
                 "which has sixty-four bytes\n");
    expect_refused(folder, "not a library");
    folder.write(folder.library(), "");
    expect_refused(folder, "not a library");
}

TEST(loader, an_executable_is_not_a_library) {
    const PluginFolder folder;
    folder.install("good");
    folder.write(folder.library(), read_file("/bin/true", ByteCount::mib(16)).value());
    const std::optional<Refusal> refusal = refusal_of(folder);
    EXPECT_TRUE(refusal);
}

TEST(loader, a_library_for_another_processor) {
    const PluginFolder folder;
    folder.install("good");
    std::string bytes = PluginFolder::sample("good");
    bytes[18] = static_cast<char>(0xb7);  // e_machine: EM_AARCH64
    folder.write(folder.library(), bytes);
    expect_refused(folder, "another processor");
}

TEST(loader, a_library_cut_off_anywhere_does_not_end_the_process) {
    const std::string whole = PluginFolder::sample("good");
    for (std::size_t i = 0; i < 48; ++i) {
        const PluginFolder folder;
        folder.install("good");
        folder.write(folder.library(), whole.substr(0, whole.size() * i / 48));
        // What is cut off behind the last segment (names for debuggers) may be let in.
        const std::optional<Refusal> refusal = refusal_of(folder);
        EXPECT_TRUE(refusal || i >= 12) << i;
    }
    const PluginFolder folder;
    folder.install("good");
    folder.write(folder.library(), whole.substr(0, 4000));
    expect_refused(folder, "truncated");
}

TEST(loader, segments_that_overflow_are_truncated) {
    const PluginFolder folder;
    folder.install("good");
    std::string bytes = PluginFolder::sample("good");
    // p_filesz of the first program header (they follow the ELF header): 64 + 32.
    for (std::size_t i = 0; i < 8; ++i)
        bytes[64 + 32 + i] = static_cast<char>(0xff);
    folder.write(folder.library(), bytes);
    expect_refused(folder, "truncated");
}

TEST(loader, both_files_are_needed) {
    const PluginFolder folder;
    folder.install("good");
    ASSERT_TRUE(remove_file(folder.manifest()));
    expect_refused(folder, "no manifest beside it");
    folder.install("good");
    ASSERT_TRUE(remove_file(folder.library()));
    expect_refused(folder, "no library of that name");
}

TEST(loader, a_broken_manifest) {
    const PluginFolder folder;
    folder.install("good");
    folder.write(folder.manifest(), "name = ");
    expect_refused(folder, "sample.toml:1: ");
    folder.write(folder.manifest(), PluginFolder::manifest_text("another"));
    expect_refused(folder, "its name is \"another\"");
    folder.write(folder.manifest(), std::string(100'000, '#'));
    const std::optional<Refusal> refusal = refusal_of(folder);
    ASSERT_TRUE(refusal);
    EXPECT_THAT(refusal->remedy, HasSubstr("small text file"));
    std::string older = PluginFolder::manifest_text("sample");
    older.replace(older.find("api_version = 1"), 15, "api_version = 7");
    folder.write(folder.manifest(), older);
    expect_refused(folder, "plugin-api version 7");
}

TEST(loader, a_name_that_is_none) {
    const PluginFolder folder;
    folder.write(folder.library("Not A Name"), "x");
    std::vector<Admission<PluginFiles>> found = find_plugins(folder.path(), ::geteuid());
    ASSERT_THAT(found, SizeIs(1));
    EXPECT_FALSE(found[0]);
    EXPECT_EQ(found[0].refusal().name, "Not A Name");
}

TEST(loader, writable_by_others) {
    for (const mode_t mode : {0664u, 0646u, 0666u}) {
        const PluginFolder folder;
        folder.install("good");
        ASSERT_EQ(::chmod(folder.library().c_str(), mode), 0);
        expect_refused(folder, "can be written by others");
        ASSERT_EQ(::chmod(folder.library().c_str(), 0644), 0);
        ASSERT_EQ(::chmod(folder.manifest().c_str(), mode), 0);
        expect_refused(folder, "can be written by others");
    }
}

TEST(loader, a_folder_that_others_can_write) {
    const PluginFolder folder;
    folder.install("good");
    const std::string parent = parent_path(folder.path());
    // The plugins' own folder may not even be sticky: a second plugin could be put in.
    for (const std::string& path : {folder.path(), parent})
        for (const mode_t mode : {0775u, 0757u, 01777u}) {
            if (path == parent && mode == 01777u) continue;
            ASSERT_EQ(::chmod(path.c_str(), mode), 0);
            std::vector<Admission<PluginFiles>> found = find_plugins(folder.path(), ::geteuid());
            ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
            ASSERT_THAT(found, SizeIs(1)) << path;
            ASSERT_FALSE(found[0]) << path;
            EXPECT_THAT(found[0].refusal().reason, HasSubstr(path + " can be written by others"));
            EXPECT_THAT(found[0].refusal().remedy, HasSubstr("chmod go-w " + path));
        }
    ASSERT_EQ(::chmod(parent.c_str(), 01777), 0);
    EXPECT_FALSE(refusal_of(folder)) << "a sticky folder above, as /tmp is";
}

TEST(loader, files_of_others) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to give files away";
    const PluginFolder folder;
    folder.install("good");
    ASSERT_EQ(::chown(folder.library().c_str(), 65534, 65534), 0);
    expect_refused(folder, "belongs to uid 65534");
    std::vector<Admission<PluginFiles>> found = find_plugins(folder.path(), 65534);
    ASSERT_THAT(found, SizeIs(1));
    EXPECT_TRUE(found[0]) << "the owner's own is trusted: " << found[0].refusal().reason;
    ASSERT_EQ(::chown(folder.path().c_str(), 1, 1), 0);
    found = find_plugins(folder.path(), 65534);
    ASSERT_THAT(found, SizeIs(1));
    EXPECT_FALSE(found[0]) << "the folder is a third one's";
    ASSERT_EQ(::chown(folder.path().c_str(), 0, 0), 0);
}

TEST(loader, links_and_other_files) {
    const PluginFolder folder;
    folder.install("good");
    const std::string real = parent_path(folder.path()) + "/real.so";
    ASSERT_EQ(::rename(folder.library().c_str(), real.c_str()), 0);
    ASSERT_EQ(::symlink(real.c_str(), folder.library().c_str()), 0);
    expect_refused(folder, "symbolic link");
    ASSERT_TRUE(remove_file(folder.library()));
    ASSERT_EQ(::mkfifo(folder.library().c_str(), 0644), 0);
    expect_refused(folder, "not a regular file");
    ASSERT_TRUE(remove_file(folder.library()));
    ASSERT_EQ(::mkdir(folder.library().c_str(), 0755), 0);
    expect_refused(folder, "not a regular file");
}

TEST(loader, a_link_to_the_folder_is_followed_and_its_target_checked) {
    const PluginFolder folder;
    folder.install("good");
    const TempFolder elsewhere;
    const std::string link = elsewhere / "link";
    ASSERT_EQ(::symlink(folder.path().c_str(), link.c_str()), 0);
    EXPECT_THAT(find_plugins(link, ::geteuid()), SizeIs(1));
    ASSERT_EQ(::chmod(folder.path().c_str(), 0777), 0);
    std::vector<Admission<PluginFiles>> found = find_plugins(link, ::geteuid());
    ASSERT_THAT(found, SizeIs(1));
    EXPECT_FALSE(found[0]);
    ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
}

TEST(loader, what_was_checked_is_what_is_loaded) {
    const PluginFolder folder;
    folder.install("good");
    std::vector<Admission<PluginFiles>> found = find_plugins(folder.path(), ::geteuid());
    ASSERT_THAT(found, SizeIs(1));
    ASSERT_TRUE(found[0]);
    folder.write(folder.library(),
                 "swapped behind the loader's back, long enough for a header "
                 "of an ELF file, which this is not");
    Admission<Library> library = Library::open(*found[0]);
    EXPECT_TRUE(library) << library.refusal().reason;
    EXPECT_EQ(found[0]->digest()->str().substr(0, 7), "sha256:");
}

TEST(loader, two_plugins_are_not_taken_for_one_another) {
    const PluginFolder folder;
    folder.install("good");
    folder.install("other_name", "other");
    for (int round = 0; round < 3; ++round) {
        std::vector<Admission<PluginFiles>> found = find_plugins(folder.path(), ::geteuid());
        ASSERT_THAT(found, SizeIs(2));
        for (Admission<PluginFiles>& files : found) {
            ASSERT_TRUE(files);
            Admission<Library> library = Library::open(*files);
            ASSERT_TRUE(library) << library.refusal().reason;
            EXPECT_EQ(library->door().name, files->manifest.name.str());
        }
    }
}

}  // namespace
}  // namespace banger
