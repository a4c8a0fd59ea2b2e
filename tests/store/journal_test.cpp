#include <algorithm>

#include "tests/store/store_fixture.hpp"

namespace banger {
namespace {

class JournalTest : public StoreTest {};

TEST_F(JournalTest, KeepsWhatWasRecordedInOrderUntilItIsForgotten) {
    const VmRecord one = reserve("one");
    const VmRecord two = reserve("two");
    const std::int64_t root =
        store().record_resource(one.id, ResourceKind::volume, "storage-file", "root").value();
    ASSERT_TRUE(store().record_resource(two.id, ResourceKind::link, "net-user", ""));
    ASSERT_TRUE(store().record_resource(one.id, ResourceKind::volume, "storage-file", "work"));
    const std::int64_t file =
        store().record_resource(one.id, ResourceKind::file, "", "/s/initrd").value();
    reopen();

    const std::vector<ResourceRecord> of_one = store().resources_of(one.id).value();
    ASSERT_EQ(of_one.size(), 3u);
    EXPECT_EQ(of_one[0],
              (ResourceRecord{root, one.id, ResourceKind::volume, "storage-file", "root", now_}));
    EXPECT_EQ(of_one[2], (ResourceRecord{file, one.id, ResourceKind::file, "", "/s/initrd", now_}));
    EXPECT_EQ(store().resources().value().size(), 4u);

    ASSERT_TRUE(store().forget_resources(one.id, ResourceKind::volume));
    ASSERT_TRUE(store().forget_resource(file));
    ASSERT_TRUE(store().forget_resource(file)) << "already gone is success";
    EXPECT_TRUE(store().resources_of(one.id).value().empty());
    EXPECT_EQ(store().resources().value().size(), 1u);
}

TEST_F(JournalTest, AMachineThatWasNotReservedHasNoJournal) {
    EXPECT_EQ(store().record_resource(VmId::random(), ResourceKind::link, "x", "").error().code,
              Errc::not_found);
}

TEST_F(JournalTest, HistorySaysHowThingsEnded) {
    const std::int64_t good = store().begin_operation("vm.create", "abc").value();
    const std::int64_t bad = store().begin_operation("vm.start", "abc").value();
    const std::int64_t stopped = store().begin_operation("image.pull", "x").value();
    const std::int64_t open = store().begin_operation("vm.stop", "abc").value();
    now_ = at(5007);
    const Error failure(Errc::no_space, "the disk is full");
    const Error cancelled(Errc::cancelled, "cancelled");
    ASSERT_TRUE(store().end_operation(good, nullptr));
    ASSERT_TRUE(store().end_operation(bad, &failure));
    ASSERT_TRUE(store().end_operation(stopped, &cancelled));
    reopen();
    EXPECT_EQ(store().mark_interrupted_operations().value(), 1);
    EXPECT_EQ(store().mark_interrupted_operations().value(), 0);

    const std::vector<OperationRecord> history = store().operations(10).value();
    const OperationRecord expected[] = {
        {open, "vm.stop", "abc", at(5000), at(5007), OperationOutcome::interrupted, ""},
        {stopped, "image.pull", "x", at(5000), at(5007), OperationOutcome::cancelled, "cancelled"},
        {bad, "vm.start", "abc", at(5000), at(5007), OperationOutcome::failed, "the disk is full"},
        {good, "vm.create", "abc", at(5000), at(5007), OperationOutcome::succeeded, ""}};
    EXPECT_TRUE(std::ranges::equal(history, expected));
    EXPECT_EQ(store().operations(1).value().size(), 1u);
}

TEST_F(JournalTest, HistoryIsBounded) {
    std::int64_t first = 0;
    for (int i = 0; i < 1005; ++i) {
        const std::int64_t id = store().begin_operation("vm.create", "x").value();
        if (i == 0) first = id;
    }
    const std::vector<OperationRecord> history = store().operations(5000).value();
    EXPECT_EQ(history.size(), 1000u);
    EXPECT_EQ(history.back().id, first + 5);
    EXPECT_TRUE(store().end_operation(first, nullptr)) << "it was dropped; that is no error";
}

}  // namespace
}  // namespace banger
