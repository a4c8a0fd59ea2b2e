#include <gmock/gmock.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "core/store/schema.hpp"
#include "core/store/sqlite.hpp"
#include "tests/store/store_fixture.hpp"

namespace banger {
namespace {

using testing::HasSubstr;

mode_t mode_of(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777;
}

/// Runs SQL on a file as any SQLite program would.
void run_sql(const std::string& path, const std::string& sql) {
    sqlite3* handle = nullptr;
    ASSERT_EQ(::sqlite3_open(path.c_str(), &handle), SQLITE_OK);
    char* message = nullptr;
    EXPECT_EQ(::sqlite3_exec(handle, sql.c_str(), nullptr, nullptr, &message), SQLITE_OK)
        << (message ? message : "");
    ::sqlite3_free(message);
    ::sqlite3_close(handle);
}

std::string content_of(const std::string& path) {
    return read_file(path, ByteCount::mib(16)).value();
}

void write_raw(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

class OpenTest : public testing::Test {
protected:
    [[nodiscard]] Error error() const {
        const Result<std::unique_ptr<Store>> opened = Store::open(path_);
        if (opened) return {};
        return opened.error();
    }
    void make_store() const {
        const std::unique_ptr<Store> store = Store::open(path_).value();
        ASSERT_TRUE(store->add_image(an_image()));
        ASSERT_TRUE(store->add_kernel(a_kernel()));
        ASSERT_TRUE(store->reserve_machine(a_machine("sandbox"), std::nullopt));
    }
    TempFolder folder_;
    std::string state_ = folder_ / "a/b";
    std::string path_ = state_ + "/banger.db";
};

// ---- files ----

TEST_F(OpenTest, EverythingIsPrivateFromBirth) {
    const mode_t before = ::umask(0);
    const Result<std::unique_ptr<Store>> store = Store::open(path_);
    ::umask(before);
    ASSERT_TRUE(store) << store.error().text();
    ASSERT_TRUE((*store)->add_image(an_image()));
    EXPECT_EQ(mode_of(state_), 0700u);
    for (const char* suffix : {"", "-wal", "-shm"})
        EXPECT_EQ(mode_of(path_ + suffix), 0600u) << suffix;
}

TEST_F(OpenTest, WhatWasOpenToOthersIsClosed) {
    make_store();
    ASSERT_EQ(::chmod(state_.c_str(), 0755), 0);
    ASSERT_EQ(::chmod(path_.c_str(), 0666), 0);
    ASSERT_TRUE(Store::open(path_));
    EXPECT_EQ(mode_of(state_), 0700u);
    EXPECT_EQ(mode_of(path_), 0600u);
}

TEST_F(OpenTest, ALinkIsRefused) {
    make_store();
    ASSERT_EQ(::symlink(path_.c_str(), (state_ + "/link").c_str()), 0);
    EXPECT_EQ(Store::open(state_ + "/link").error().code, Errc::permission_denied);
    EXPECT_FALSE(Store::open(state_)) << "a folder";
}

TEST_F(OpenTest, AnEmptyFileIsANewDatabase) {
    // What a crash between making the file and the first commit leaves.
    ASSERT_TRUE(ensure_folder(state_, 0700));
    write_raw(path_, "");
    EXPECT_TRUE(Store::open(path_));
}

TEST_F(OpenTest, TwoOpenStoresSeeEachOther) {
    const std::unique_ptr<Store> one = Store::open(path_).value();
    const std::unique_ptr<Store> two = Store::open(path_).value();
    ASSERT_TRUE(one->add_image(an_image()));
    EXPECT_EQ(two->images().value().size(), 1u);
}

// ---- damage ----

TEST_F(OpenTest, RubbishIsReportedAndLeftAlone) {
    ASSERT_TRUE(ensure_folder(state_, 0700));
    const std::string rubbish(8192, 'x');
    write_raw(path_, rubbish);
    const Error problem = error();
    EXPECT_EQ(problem.code, Errc::corrupt);
    EXPECT_THAT(problem.message, HasSubstr(path_));
    EXPECT_THAT(problem.remedy, HasSubstr("move it away"));
    EXPECT_EQ(content_of(path_), rubbish);
}

TEST_F(OpenTest, ADamagedPageIsReportedAndLeftAlone) {
    make_store();
    std::string bytes = content_of(path_);
    ASSERT_GT(bytes.size(), 8192u);
    for (std::size_t i = 4096; i < bytes.size(); ++i)
        bytes[i] = static_cast<char>(bytes[i] ^ 0x5a);
    write_raw(path_, bytes);
    const Error problem = error();
    EXPECT_EQ(problem.code, Errc::corrupt);
    EXPECT_FALSE(problem.remedy.empty());
    EXPECT_EQ(content_of(path_), bytes);
}

TEST_F(OpenTest, ATruncatedFileIsReported) {
    make_store();
    const std::string bytes = content_of(path_);
    for (const std::size_t size : {std::size_t{100}, std::size_t{4096}, bytes.size() / 2}) {
        write_raw(path_, bytes.substr(0, size));
        EXPECT_EQ(error().code, Errc::corrupt) << size;
    }
}

TEST_F(OpenTest, ARowThatBangerNeverWroteIsReportedOnUse) {
    make_store();
    run_sql(path_, "UPDATE machines SET name = '../../etc'");
    const std::unique_ptr<Store> store = Store::open(path_).value();
    const Error problem = store->machines().error();
    EXPECT_EQ(problem.code, Errc::corrupt);
    EXPECT_THAT(problem.message, HasSubstr("machines.name"));
    EXPECT_THAT(problem.message, HasSubstr(path_));
    EXPECT_FALSE(problem.remedy.empty());
}

TEST_F(OpenTest, AnyFlippedByteIsAnErrorOrHarmlessNeverACrash) {
    make_store();
    const std::string bytes = content_of(path_);
    for (std::size_t i = 0; i < bytes.size(); i += 499) {
        std::string damaged = bytes;
        damaged[i] = static_cast<char>(~damaged[i]);
        write_raw(path_, damaged);
        const Result<std::unique_ptr<Store>> store = Store::open(path_);
        if (!store) {
            EXPECT_FALSE(store.error().message.empty());
            continue;
        }
        const Result<std::vector<VmRecord>> machines = (*store)->machines();
        EXPECT_TRUE(machines || !machines.error().message.empty());
    }
}

// ---- versions ----

TEST_F(OpenTest, ADatabaseOfANewerBangerIsRefusedAndLeftAlone) {
    make_store();
    run_sql(path_, "PRAGMA user_version = 99");
    const std::string bytes = content_of(path_);
    const Error problem = error();
    EXPECT_EQ(problem.code, Errc::unsupported);
    EXPECT_THAT(problem.message, HasSubstr("newer banger (schema 99"));
    EXPECT_FALSE(problem.remedy.empty());
    EXPECT_EQ(content_of(path_), bytes);
}

TEST_F(OpenTest, ADatabaseOfAnotherProgramIsRefusedAndLeftAlone) {
    ASSERT_TRUE(ensure_folder(state_, 0700));
    run_sql(path_, "CREATE TABLE notes (text)");
    const std::string bytes = content_of(path_);
    EXPECT_EQ(error().code, Errc::corrupt);
    EXPECT_THAT(error().message, HasSubstr("not a database of banger"));
    EXPECT_EQ(content_of(path_), bytes);
}

class MigrateTest : public OpenTest {
protected:
    MigrateTest() {
        EXPECT_TRUE(ensure_folder(state_, 0700));
        write_raw(path_, "");
        connection_ = sqlite::Connection::open(path_).value();
    }
    std::int64_t integer(const char* sql) { return connection_->integer(sql).value(); }
    std::unique_ptr<sqlite::Connection> connection_;
};

TEST_F(MigrateTest, StepsRunOnceAndInOrder) {
    const char* const first[] = {"CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (1)"};
    const char* const both[] = {first[0], "INSERT INTO a SELECT x + 1 FROM a"};
    ASSERT_TRUE(sqlite::migrate(*connection_, first));
    EXPECT_EQ(integer("PRAGMA user_version"), 1);
    ASSERT_TRUE(sqlite::migrate(*connection_, both));
    ASSERT_TRUE(sqlite::migrate(*connection_, both));
    EXPECT_EQ(integer("PRAGMA user_version"), 2);
    EXPECT_EQ(integer("PRAGMA application_id"), sqlite::application_id);
    EXPECT_EQ(integer("SELECT count(*) FROM a"), 2);
    EXPECT_EQ(sqlite::migrate(*connection_, first).error().code, Errc::unsupported);
}

TEST_F(MigrateTest, AStepThatFailsTakesAllOfThemBack) {
    const char* const first[] = {"CREATE TABLE a (x INTEGER) STRICT"};
    ASSERT_TRUE(sqlite::migrate(*connection_, first));
    const char* const broken[] = {first[0], "INSERT INTO a VALUES (1); CREATE TABLE b (x)",
                                  "INSERT INTO missing VALUES (1)"};
    const Result<void> result = sqlite::migrate(*connection_, broken);
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message, HasSubstr("schema 3"));
    EXPECT_EQ(integer("PRAGMA user_version"), 1);
    EXPECT_EQ(integer("SELECT count(*) FROM a"), 0);
    EXPECT_EQ(integer("SELECT count(*) FROM sqlite_schema WHERE name = 'b'"), 0);
}

TEST_F(MigrateTest, AStepThatLeavesDanglingRowsIsTakenBack) {
    const char* const steps[] = {
        "CREATE TABLE a (id INTEGER PRIMARY KEY) STRICT;"
        "CREATE TABLE b (a INTEGER REFERENCES a(id)) STRICT; INSERT INTO b VALUES (7)"};
    EXPECT_EQ(sqlite::migrate(*connection_, steps).error().code, Errc::corrupt);
    EXPECT_EQ(integer("PRAGMA user_version"), 0);
}

// ---- golden databases ----

/// A database of every schema version that was ever released, as SQL text. None is ever changed.
class GoldenTest : public OpenTest, public testing::WithParamInterface<const char*> {};

TEST_P(GoldenTest, IsReadAndBroughtUpToDate) {
    ASSERT_TRUE(ensure_folder(state_, 0700));
    run_sql(path_, content_of(std::string(BANGER_TEST_DATA) + "/" + GetParam()));
    ASSERT_EQ(::chmod(path_.c_str(), 0600), 0);
    const std::unique_ptr<Store> store = Store::open(path_).value();

    EXPECT_EQ(store->images().value(), std::vector{an_image()});
    EXPECT_EQ(store->kernels().value(), std::vector{a_kernel()});
    VmRecord bare = a_machine("bare", VmId::parse("000000000001").value());
    bare.created_at = at(5000);
    bare.state = VmState::error;
    bare.error_reason = "it's broken";
    VmRecord full = a_machine("full", VmId::parse("000000000002").value());
    full.created_at = at(5000);
    full.address = Ipv4Address::parse("172.16.0.2").value();
    full = running(full);
    if (GetParam() == std::string("golden_v1.sql")) {
        full.workspace->base = full.workspace->head;
        full.workspace->branch = full.workspace->fingerprint = "";
        full.workspace->mode = "overlay";
        full.workspace->has_untracked = full.workspace->is_readonly = false;
    }
    EXPECT_EQ(store->machines().value(), (std::vector{bare, full}));
    EXPECT_EQ(
        store->resources().value(),
        (std::vector{
            ResourceRecord{1, full.id, ResourceKind::volume, "storage-file", "root", at(5000)},
            ResourceRecord{2, full.id, ResourceKind::file, "", "/s/initrd", at(5000)}}));
    EXPECT_EQ(store->operations(10).value(),
              (std::vector{OperationRecord{2, "image.pull", "x", at(5000), std::nullopt,
                                           OperationOutcome::running, ""},
                           OperationRecord{1, "vm.create", "000000000002", at(5000), at(5000),
                                           OperationOutcome::failed, "no space"}}));
    // 172.16.0.2 is leased, .3 rests since 5000: the clock of today is long past that.
    const VmRecord next =
        store->reserve_machine(a_machine("next"), Ipv4Prefix::parse("172.16.0.1/29").value())
            .value();
    EXPECT_EQ(next.address->text(), "172.16.0.3");
}

TEST_P(GoldenTest, EndsWithTheSchemaOfANewOne) {
    const auto schema = [](const std::string& path) {
        const std::unique_ptr<sqlite::Connection> connection =
            sqlite::Connection::open(path).value();
        sqlite::Statement rows =
            connection->prepare("SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name")
                .value();
        std::string all;
        while (rows.step().value())
            all += rows.text() + ";\n";
        return all;
    };
    ASSERT_TRUE(ensure_folder(state_, 0700));
    run_sql(path_, content_of(std::string(BANGER_TEST_DATA) + "/" + GetParam()));
    ASSERT_TRUE(Store::open(path_));
    ASSERT_TRUE(Store::open(state_ + "/new.db"));
    EXPECT_EQ(schema(path_), schema(state_ + "/new.db"));
}

INSTANTIATE_TEST_SUITE_P(Versions, GoldenTest, testing::Values("golden_v1.sql", "golden_v2.sql"));

/// Writes what the golden test expects, for the golden file of the next schema version:
/// BANGER_GOLDEN_DATABASE=FILE.db store_test --gtest_filter='*WritesGolden*', then `sqlite3 FILE.db
/// .dump` and the two PRAGMAs.
TEST(Golden, WritesGoldenDatabaseWhenAsked) {
    const char* const path = std::getenv("BANGER_GOLDEN_DATABASE");
    if (!path) GTEST_SKIP() << "BANGER_GOLDEN_DATABASE is not set";
    const std::unique_ptr<Store> store = Store::open(path, {.quarantine = std::chrono::seconds(60),
                                                            .clock = [] { return at(5000); }})
                                             .value();
    ASSERT_TRUE(store->add_image(an_image()));
    ASSERT_TRUE(store->add_kernel(a_kernel()));
    VmRecord bare =
        store->reserve_machine(a_machine("bare", VmId::parse("000000000001").value()), {}).value();
    bare.state = VmState::error;
    bare.error_reason = "it's broken";
    ASSERT_TRUE(store->save_machine(bare));
    const Ipv4Prefix pool = Ipv4Prefix::parse("172.16.0.1/29").value();
    const VmRecord full =
        store->reserve_machine(a_machine("full", VmId::parse("000000000002").value()), pool)
            .value();
    ASSERT_TRUE(store->save_machine(running(full)));
    const VmRecord gone = store->reserve_machine(a_machine("gone"), pool).value();
    ASSERT_TRUE(store->remove_machine(gone.id));
    ASSERT_TRUE(store->record_resource(full.id, ResourceKind::volume, "storage-file", "root"));
    ASSERT_TRUE(store->record_resource(full.id, ResourceKind::file, "", "/s/initrd"));
    const Error failure(Errc::no_space, "no space");
    ASSERT_TRUE(
        store->end_operation(store->begin_operation("vm.create", full.id.str()).value(), &failure));
    ASSERT_TRUE(store->begin_operation("image.pull", "x"));
}

}  // namespace
}  // namespace banger
