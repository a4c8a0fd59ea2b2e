#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "tests/store/store_fixture.hpp"

namespace banger {
namespace {

using testing::HasSubstr;

Ipv4Prefix pool(const char* text = "172.16.0.1/29") { return Ipv4Prefix::parse(text).value(); }

class MachinesTest : public StoreTest {
protected:
    std::string reserve_address(const std::string& name, const Ipv4Prefix& from = pool()) {
        return store().reserve_machine(a_machine(name), from).value().address->text();
    }
};

TEST_F(MachinesTest, ComeBackAsTheyWereSavedAlsoAfterReopening) {
    const VmRecord reserved = store().reserve_machine(a_machine("full"), pool()).value();
    const VmRecord saved = running(reserved);
    ASSERT_TRUE(store().save_machine(saved));
    const VmRecord bare = reserve("bare");
    reopen();
    EXPECT_EQ(store().machine(saved.id).value(), saved);
    EXPECT_EQ(store().machine(bare.id).value(), bare);
    EXPECT_EQ(store().machines().value(), (std::vector<VmRecord>{bare, saved}));
}

TEST_F(MachinesTest, SavingTakesOptionalPartsAwayAgain) {
    VmRecord machine = running(reserve("sandbox"));
    ASSERT_TRUE(store().save_machine(machine));
    machine.process.reset();
    machine.link.reset();
    machine.volumes.clear();
    machine.workspace.reset();
    machine.stopped_at.reset();
    machine.state = VmState::error;
    machine.error_reason = "qemu was killed";
    ASSERT_TRUE(store().save_machine(machine));
    EXPECT_EQ(store().machine(machine.id).value(), machine);
}

TEST_F(MachinesTest, WhatNeverChangesIsNotSaved) {
    const VmRecord reserved = store().reserve_machine(a_machine("sandbox"), pool()).value();
    VmRecord changed = reserved;
    changed.name = VmName::parse("other").value();
    changed.created_at = at(1);
    changed.address.reset();
    ASSERT_TRUE(store().save_machine(changed));
    EXPECT_EQ(store().machine(reserved.id).value(), reserved);
}

TEST_F(MachinesTest, ReservingSetsTheTime) { EXPECT_EQ(reserve("sandbox").created_at, now_); }

TEST_F(MachinesTest, ATakenNameIsRefusedAndNothingIsKept) {
    const VmRecord first = reserve("sandbox");
    const Error error = store().reserve_machine(a_machine("sandbox"), pool()).error();
    EXPECT_EQ(error.code, Errc::already_exists);
    EXPECT_EQ(error.message, "a machine named \"sandbox\" exists already");
    EXPECT_THAT(error.remedy, HasSubstr("banger vm delete sandbox"));
    EXPECT_EQ(store().machines().value(), std::vector{first});
    EXPECT_EQ(reserve_address("next"), "172.16.0.2") << "no address may have gone with the failure";
}

TEST_F(MachinesTest, ImageAndKernelMustBeThereAndReady) {
    VmRecord machine = a_machine("sandbox");
    machine.image_id = "cccccccccccc";
    const Error missing = store().reserve_machine(machine, std::nullopt).error();
    EXPECT_EQ(missing.code, Errc::not_found);
    EXPECT_THAT(missing.remedy, HasSubstr("banger image pull debian-bookworm"));

    machine = a_machine("sandbox");
    machine.kernel_id = "cccccccccccc";
    EXPECT_EQ(store().reserve_machine(machine, std::nullopt).error().code, Errc::not_found);

    ImageRecord half = an_image("dddddddddddd", "half");
    half.state = ArtifactState::pulling;
    ASSERT_TRUE(store().add_image(half));
    machine = a_machine("sandbox");
    machine.image = half.name;
    machine.image_id = half.id;
    EXPECT_EQ(store().reserve_machine(machine, std::nullopt).error().code, Errc::wrong_state);
    EXPECT_TRUE(store().machines().value().empty());
}

TEST_F(MachinesTest, RemovedOnesAreGoneAndRemovingAgainSucceeds) {
    const VmRecord machine = running(reserve("sandbox"));
    ASSERT_TRUE(store().save_machine(machine));
    EXPECT_TRUE(store().remove_machine(machine.id));
    EXPECT_TRUE(store().remove_machine(machine.id));
    EXPECT_EQ(store().machine(machine.id).error().code, Errc::not_found);
    EXPECT_EQ(store().save_machine(machine).error().code, Errc::not_found);
    EXPECT_TRUE(store().machines().value().empty());
    EXPECT_EQ(reserve("sandbox").volumes.size(), 0u) << "the name is free at once";
}

TEST_F(MachinesTest, AMachineWithSomethingOnTheHostIsNotForgotten) {
    const VmRecord machine = reserve("sandbox");
    const std::int64_t entry =
        store().record_resource(machine.id, ResourceKind::link, "net-user", "").value();
    const Error error = store().remove_machine(machine.id).error();
    EXPECT_EQ(error.code, Errc::in_use);
    EXPECT_THAT(error.message, HasSubstr("link"));
    EXPECT_TRUE(store().machine(machine.id));
    ASSERT_TRUE(store().forget_resource(entry));
    EXPECT_TRUE(store().remove_machine(machine.id));
}

// ---- addresses ----

TEST_F(MachinesTest, AddressesAreTheLowestFreeOnesOutsideTheReserved) {
    EXPECT_EQ(reserve_address("a"), "172.16.0.2");
    EXPECT_EQ(reserve_address("b"), "172.16.0.3");
    EXPECT_EQ(reserve_address("c"), "172.16.0.4");
    EXPECT_EQ(reserve_address("d", pool("10.0.0.2/24")), "10.0.0.1") << "the gateway is the second";
    EXPECT_EQ(reserve_address("e", pool("10.0.0.2/24")), "10.0.0.3");
}

TEST_F(MachinesTest, AFullPoolIsNoSpaceAndNothingIsKept) {
    for (const char* name : {"a", "b", "c", "d", "e"})
        reserve_address(name);
    const Error error = store().reserve_machine(a_machine("last"), pool()).error();
    EXPECT_EQ(error.code, Errc::no_space);
    EXPECT_EQ(error.message, "every address of 172.16.0.1/29 is taken");
    EXPECT_EQ(store().find_machine("last").error().code, Errc::not_found);
}

TEST_F(MachinesTest, AnAddressRestsBeforeItIsUsedAgain) {
    const VmRecord first = store().reserve_machine(a_machine("a"), pool("10.0.0.1/30")).value();
    EXPECT_EQ(first.address->text(), "10.0.0.2");
    ASSERT_TRUE(store().remove_machine(first.id));
    now_ = at(5059);
    reopen();
    const Error error = store().reserve_machine(a_machine("b"), pool("10.0.0.1/30")).error();
    EXPECT_EQ(error.code, Errc::no_space);
    EXPECT_THAT(error.remedy, HasSubstr("in 1 s"));
    now_ = at(5060);
    EXPECT_EQ(reserve_address("b", pool("10.0.0.1/30")), "10.0.0.2");
}

TEST_F(MachinesTest, AClockThatIsSetBackDoesNotHoldAnAddressForEver) {
    const VmRecord first = store().reserve_machine(a_machine("a"), pool("10.0.0.1/30")).value();
    now_ = at(1'000'000'000);
    ASSERT_TRUE(store().remove_machine(first.id));
    now_ = at(6000);
    EXPECT_FALSE(store().reserve_machine(a_machine("b"), pool("10.0.0.1/30")));
    now_ = at(6060);
    EXPECT_TRUE(store().reserve_machine(a_machine("b"), pool("10.0.0.1/30")));
}

TEST_F(MachinesTest, PoolsWithoutRoomAndAtTheEndOfTheAddressSpace) {
    for (const char* tiny : {"10.0.0.1/32", "10.0.0.1/31"})
        EXPECT_EQ(store().reserve_machine(a_machine("x"), pool(tiny)).error().code, Errc::no_space)
            << tiny;
    EXPECT_EQ(reserve_address("top", pool("255.255.255.253/30")), "255.255.255.254");
    EXPECT_EQ(reserve_address("all", pool("0.0.0.1/0")), "0.0.0.2");
}

TEST_F(MachinesTest, ALeaseOfAnotherPoolsGatewayDoesNotConfuse) {
    EXPECT_EQ(reserve_address("a", pool("10.0.0.1/29")), "10.0.0.2");
    EXPECT_EQ(reserve_address("b", pool("10.0.0.2/29")), "10.0.0.1");
    EXPECT_EQ(reserve_address("c", pool("10.0.0.2/29")), "10.0.0.3");
}

// ---- lookups ----

TEST_F(MachinesTest, AreFoundByIdNameAndUniquePrefix) {
    const VmRecord one =
        store().reserve_machine(a_machine("one", VmId::parse("abc000000001").value()), {}).value();
    const VmRecord two =
        store().reserve_machine(a_machine("two", VmId::parse("abd000000002").value()), {}).value();
    // Reads like the beginning of the id of "two": the name wins.
    const VmRecord tricky =
        store().reserve_machine(a_machine("abd", VmId::parse("fff000000003").value()), {}).value();
    EXPECT_EQ(store().find_machine("abc000000001").value(), one);
    EXPECT_EQ(store().find_machine("two").value(), two);
    EXPECT_EQ(store().find_machine("abc").value(), one);
    EXPECT_EQ(store().find_machine("abd").value(), tricky);
    EXPECT_EQ(store().find_machine("abd0").value(), two);

    const Error ambiguous = store().find_machine("ab").error();
    EXPECT_EQ(ambiguous.code, Errc::invalid_argument);
    EXPECT_EQ(ambiguous.message, "\"ab\" begins the ids of one (abc000000001), two (abd000000002)");
}

TEST_F(MachinesTest, TheNearestNameIsOffered) {
    reserve("brave-otter");
    const Error error = store().find_machine("brave-oter").error();
    EXPECT_EQ(error.code, Errc::not_found);
    EXPECT_EQ(error.message, "there is no machine \"brave-oter\"");
    EXPECT_EQ(error.remedy, "Did you mean \"brave-otter\"? See `banger vm list`.");
    EXPECT_EQ(store().find_machine("zzz").error().remedy, "See `banger vm list`.");
}

TEST_F(MachinesTest, HostileTextFindsNothing) {
    reserve("sandbox");
    for (const std::string& text :
         {std::string("' OR 1=1 --"), std::string("%"), std::string("a\0b", 3),
          std::string(100000, 'a'), std::string("\x1b[2J")})
        EXPECT_EQ(store().find_machine(text).error().code, Errc::not_found);
    EXPECT_EQ(store().find_machine("").error().code, Errc::invalid_argument);
    EXPECT_THAT(store().find_machine("\x1b[2J").error().message, testing::Not(HasSubstr("\x1b")));
}

/// How long it takes is measured by `./dev bench list`.
TEST_F(MachinesTest, TwoHundredAreListed) {
    for (int i = 0; i < 200; ++i)
        ASSERT_TRUE(store().save_machine(running(reserve("vm-" + std::to_string(i)))));
    const Result<std::vector<VmRecord>> all = store().machines();
    ASSERT_TRUE(all);
    ASSERT_EQ(all->size(), 200u);
    std::set<std::string> names;
    for (const VmRecord& vm : *all) {
        EXPECT_TRUE(vm.process && vm.link);
        names.insert(vm.name.str());
    }
    EXPECT_EQ(names.size(), 200u);
}

}  // namespace
}  // namespace banger
