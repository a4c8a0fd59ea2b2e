#include <gmock/gmock.h>

#include "tests/store/store_fixture.hpp"

namespace banger {
namespace {

using testing::HasSubstr;

class ArtifactsTest : public StoreTest {};

TEST_F(ArtifactsTest, ComeBackAsTheyWereAdded) {
    reopen();
    EXPECT_EQ(store().images().value(), std::vector{an_image()});
    EXPECT_EQ(store().kernels().value(), std::vector{a_kernel()});
}

TEST_F(ArtifactsTest, AreSavedWhole) {
    ImageRecord image = an_image();
    image.description = "new";
    image.state = ArtifactState::pulling;
    image.run_config = {};
    ASSERT_TRUE(store().save_image(image));
    EXPECT_EQ(store().find_image(image.id).value(), image);

    KernelRecord kernel = a_kernel();
    kernel.version = "6.1.0-2";
    ASSERT_TRUE(store().save_kernel(kernel));
    EXPECT_EQ(store().find_kernel(kernel.id).value(), kernel);
}

TEST_F(ArtifactsTest, SavingARemovedOneFails) {
    EXPECT_EQ(store().save_image(an_image("cccccccccccc", "x")).error().code, Errc::not_found);
    EXPECT_EQ(store().save_kernel(a_kernel("cccccccccccc", "x")).error().code, Errc::not_found);
}

TEST_F(ArtifactsTest, NameAndIdAreUnique) {
    const Error name = store().add_image(an_image("cccccccccccc", "debian-bookworm")).error();
    EXPECT_EQ(name.code, Errc::already_exists);
    EXPECT_EQ(name.message, "the image \"debian-bookworm\" exists");
    EXPECT_THAT(name.remedy, HasSubstr("banger image delete debian-bookworm"));
    const Error id = store().add_image(an_image(image_id, "other")).error();
    EXPECT_EQ(id.code, Errc::already_exists);
    EXPECT_THAT(id.message, HasSubstr("the id aaaaaaaaaaaa is that of image \"debian-bookworm\""));
    EXPECT_EQ(store().add_kernel(a_kernel("cccccccccccc", "debian-cloud")).error().code,
              Errc::already_exists);
    EXPECT_EQ(store().images().value().size(), 1u);
}

TEST_F(ArtifactsTest, AnIdIsHexadecimal) {
    for (const char* bad : {"", "abc", "AAAAAAAAAAAA", "../../../etc/x", "aaaaaaaaaaa-"})
        EXPECT_EQ(store().add_image(an_image(bad, "other")).error().code, Errc::invalid_argument)
            << bad;
    EXPECT_TRUE(store().add_image(an_image(std::string(64, '0'), "other")));
}

TEST_F(ArtifactsTest, TheTimeIsSetWhenThereIsNone) {
    KernelRecord kernel = a_kernel("cccccccccccc", "other");
    kernel.created_at = {};
    ASSERT_TRUE(store().add_kernel(kernel));
    EXPECT_EQ(store().find_kernel("other").value().created_at, now_);
}

TEST_F(ArtifactsTest, WhatAMachineUsesStays) {
    const VmRecord b = reserve("bbb");
    const VmRecord a = reserve("aaa");
    EXPECT_EQ(store().machines_using_image(image_id).value(),
              (std::vector<std::string>{"aaa", "bbb"}));
    EXPECT_EQ(store().machines_using_kernel(kernel_id).value(),
              (std::vector<std::string>{"aaa", "bbb"}));
    const Error error = store().remove_image(image_id).error();
    EXPECT_EQ(error.code, Errc::in_use);
    EXPECT_EQ(error.message, "the image is used by aaa bbb");
    EXPECT_EQ(store().remove_kernel(kernel_id).error().code, Errc::in_use);

    ASSERT_TRUE(store().remove_machine(a.id));
    ASSERT_TRUE(store().remove_machine(b.id));
    EXPECT_TRUE(store().remove_image(image_id));
    EXPECT_TRUE(store().remove_image(image_id)) << "already gone is success";
    EXPECT_TRUE(store().remove_kernel(kernel_id));
    EXPECT_TRUE(store().images().value().empty());
    EXPECT_TRUE(store().machines_using_image(image_id).value().empty());
}

TEST_F(ArtifactsTest, AreFoundByNameIdPrefixAndReference) {
    EXPECT_EQ(store().find_image("debian-bookworm").value().id, image_id);
    EXPECT_EQ(store().find_image("aaaa").value().id, image_id);
    EXPECT_EQ(store().find_image("catalog:debian-bookworm").value().id, image_id);
    EXPECT_EQ(store().find_kernel("debian-cloud").value().id, kernel_id);
    const Error error = store().find_image("debian-bookwrom").error();
    EXPECT_EQ(error.code, Errc::not_found);
    EXPECT_EQ(error.remedy, "Did you mean \"debian-bookworm\"? See `banger image list`.");
}

PartRecord a_part(char digit, std::optional<ByteCount> size) {
    return {Digest::parse("sha256:" + std::string(64, digit)).value(), size};
}

TEST_F(ArtifactsTest, PartsAndTheOwnersFileComeBack) {
    ImageRecord image = an_image("cccccccccccc", "layers");
    image.asked_as = "layers:latest";
    image.parts = {a_part('b', ByteCount::mib(3)), a_part('a', {}), a_part('b', ByteCount::mib(3))};
    image.file = RegisteredFile{"/home/me/root.ext4", 1'700'000'000'123'456'789};
    ASSERT_TRUE(store().add_image(image));
    KernelRecord kernel = a_kernel("dddddddddddd", "own");
    kernel.asked_as = "own:1";
    kernel.parts = {a_part('c', ByteCount::bytes(1))};
    ASSERT_TRUE(store().add_kernel(kernel));
    reopen();
    EXPECT_EQ(store().find_image("layers:latest").value(), image);
    EXPECT_EQ(store().find_kernel("own:1").value(), kernel);

    image.parts.pop_back();
    image.file.reset();
    ASSERT_TRUE(store().save_image(image));
    EXPECT_EQ(store().find_image("layers").value(), image);
    ASSERT_TRUE(store().remove_image(image.id));
    ASSERT_TRUE(store().remove_kernel(kernel.id));
    EXPECT_TRUE(store().add_image(image)) << "nothing of it was left";
}

TEST_F(ArtifactsTest, OneReplacesAnotherOrNothingHappens) {
    ImageRecord fresh = an_image("cccccccccccc");  // under the name of the old one
    fresh.parts = {a_part('a', {})};
    ASSERT_TRUE(store().replace_image(image_id, fresh));
    EXPECT_EQ(store().images().value(), std::vector{fresh});
    EXPECT_EQ(store().replace_image(image_id, an_image("dddddddddddd", "x")).error().code,
              Errc::not_found);
    KernelRecord kernel = a_kernel("cccccccccccc");
    ASSERT_TRUE(store().replace_kernel(kernel_id, kernel));
    EXPECT_EQ(store().kernels().value(), std::vector{kernel});
    EXPECT_EQ(store().replace_kernel(kernel_id, kernel).error().code, Errc::not_found);
}

TEST_F(ArtifactsTest, WhatAMachineUsesIsNotReplaced) {
    const VmRecord vm = reserve("aaa");
    EXPECT_EQ(store().replace_image(image_id, an_image("cccccccccccc")).error().code, Errc::in_use);
    EXPECT_EQ(store().replace_kernel(kernel_id, a_kernel("cccccccccccc")).error().code,
              Errc::in_use);
    EXPECT_EQ(store().images().value(), std::vector{an_image()});
    EXPECT_EQ(store().kernels().value(), std::vector{a_kernel()});
}

}  // namespace
}  // namespace banger
