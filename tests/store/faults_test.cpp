#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <set>
#include <thread>

#include "core/store/sqlite.hpp"
#include "tests/store/store_fixture.hpp"

namespace banger {
namespace {

using testing::HasSubstr;

class FaultsTest : public StoreTest {
protected:
    /// Runs `body` in a process of its own, which the test may kill.
    template <class Body>
    pid_t fork_child(Body body) {
        store_.reset();  // a connection must not be carried across fork()
        const pid_t child = ::fork();
        if (child == 0) {
            body();
            ::_exit(0);
        }
        EXPECT_GT(child, 0);
        return child;
    }
    static int wait_for(pid_t child) {
        int status = 0;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        return status;
    }
    Ipv4Prefix pool_ = Ipv4Prefix::parse("172.16.0.1/16").value();
};

// ---- kill -9 ----

TEST_F(FaultsTest, WhatWasNotCommittedNeverHappened) {
    const VmRecord kept = reserve("kept");
    const pid_t child = fork_child([&] {
        const std::unique_ptr<sqlite::Connection> connection =
            sqlite::Connection::open(path_).value();
        const sqlite::Transaction transaction =
            sqlite::Transaction::begin(*connection, sqlite::Transaction::Kind::durable).value();
        // More than the page cache holds, so that some of it is in the file already.
        for (int i = 0; i < 3000; ++i)
            (void)connection->run(
                "INSERT INTO host_resources (vm, kind, plugin, detail, recorded_at)"
                " VALUES (?, 'file', '', ?, 0)",
                kept.id, std::string(1000, 'x'));
        (void)connection->run("UPDATE machines SET name = 'changed'");
        ::kill(::getpid(), SIGKILL);
    });
    EXPECT_EQ(WTERMSIG(wait_for(child)), SIGKILL);
    reopen();
    EXPECT_EQ(store().machines().value(), std::vector{kept});
    EXPECT_TRUE(store().resources().value().empty());
    EXPECT_TRUE(store().save_machine(kept)) << "no lock is left behind";
}

TEST_F(FaultsTest, KilledAtAnyMomentTheStoreIsWholeAndKeepsWhatWasConfirmed) {
    for (int round = 0; round < 10; ++round) {
        int confirmed[2];
        ASSERT_EQ(::pipe(confirmed), 0);
        const pid_t child = fork_child([&] {
            const std::unique_ptr<Store> writer = Store::open(path_).value();
            for (int i = 0;; ++i) {
                const std::string name = "vm-" + std::to_string(round) + "-" + std::to_string(i);
                const Result<VmRecord> machine = writer->reserve_machine(a_machine(name), pool_);
                if (!machine) ::_exit(1);
                if (!writer->save_machine(running(*machine))) ::_exit(2);
                if (i % 3 == 0 && !writer->remove_machine(machine->id)) ::_exit(3);
                const char mark = i % 3 == 0 ? '-' : '+';
                if (::write(confirmed[1], &mark, 1) != 1) ::_exit(4);
            }
        });
        ::close(confirmed[1]);
        // Killed after a different number of confirmed steps each time.
        std::size_t kept = 0;
        char mark = 0;
        for (int i = 0; i < 3 + round * 2; ++i) {
            ASSERT_EQ(::read(confirmed[0], &mark, 1), 1);
            kept += mark == '+';
        }
        ::kill(child, SIGKILL);
        EXPECT_EQ(WTERMSIG(wait_for(child)), SIGKILL);
        while (::read(confirmed[0], &mark, 1) == 1)
            kept += mark == '+';
        ::close(confirmed[0]);

        reopen();
        const std::vector<VmRecord> machines = store().machines().value();
        std::set<Ipv4Address> addresses;
        std::size_t of_round = 0;
        for (const VmRecord& machine : machines) {
            ASSERT_TRUE(machine.address) << machine.name.str();
            addresses.insert(*machine.address);
            of_round += machine.name.str().starts_with("vm-" + std::to_string(round) + "-");
            // All or nothing: reserved, or saved with every part.
            EXPECT_EQ(machine.link.has_value(), machine.state == VmState::running);
            EXPECT_EQ(machine.volumes.size(), machine.link ? 2u : 0u);
        }
        EXPECT_EQ(addresses.size(), machines.size());
        EXPECT_GE(of_round, kept);
        EXPECT_LE(of_round, kept + 1) << "at most the one that was under way";
    }
}

// ---- disk full ----

TEST_F(FaultsTest, AFullDiskIsNoSpaceAndNothingChanges) {
    const VmRecord before = reserve("before");
    const pid_t child = fork_child([&] {
        ::signal(SIGXFSZ, SIG_IGN);
        const std::unique_ptr<Store> full = Store::open(path_).value();
        struct rlimit limit {};
        ::getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = 200'000;
        ::setrlimit(RLIMIT_FSIZE, &limit);
        Error error;
        int made = 0;
        for (; made < 5000; ++made) {
            const Result<VmRecord> machine =
                full->reserve_machine(a_machine("vm-" + std::to_string(made)), std::nullopt);
            if (machine) continue;
            error = machine.error();
            break;
        }
        if (error.code != Errc::no_space) ::_exit(1);
        if (error.remedy.find("Free space") == std::string::npos) ::_exit(2);
        if (full->machines().value().size() != static_cast<std::size_t>(made) + 1) ::_exit(3);
        // Room again: the same store goes on.
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_FSIZE, &limit);
        if (!full->reserve_machine(a_machine("after"), std::nullopt)) ::_exit(4);
    });
    const int status = wait_for(child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    reopen();
    EXPECT_EQ(store().find_machine("before").value(), before);
    EXPECT_TRUE(store().find_machine("after"));
}

TEST_F(FaultsTest, ADiskThatIsFullFromTheStartIsNoSpace) {
    const pid_t child = fork_child([&] {
        ::signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit {};
        ::getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = 2000;
        ::setrlimit(RLIMIT_FSIZE, &limit);
        const Result<std::unique_ptr<Store>> opened = Store::open(folder_ / "new/banger.db");
        ::_exit(!opened && opened.error().code == Errc::no_space ? 0 : 1);
    });
    EXPECT_EQ(WEXITSTATUS(wait_for(child)), 0);
    EXPECT_TRUE(Store::open(folder_ / "new/banger.db")) << "the next one works";
}

// ---- threads ----

TEST_F(FaultsTest, ManyThreadsTakeDifferentAddressesAndNoNameTwice) {
    constexpr int thread_count = 8;
    constexpr int rounds = 25;
    std::vector<std::thread> threads;
    std::atomic<int> taken = 0;
    std::atomic<int> refused = 0;
    std::atomic<int> other = 0;
    for (int t = 0; t < thread_count; ++t)
        threads.emplace_back([&, t] {
            for (int i = 0; i < rounds; ++i) {
                // Every name is wanted by two threads.
                const std::string name = "vm-" + std::to_string(t / 2) + "-" + std::to_string(i);
                const Result<VmRecord> machine = store().reserve_machine(a_machine(name), pool_);
                if (!machine) {
                    ++(machine.error().code == Errc::already_exists ? refused : other);
                    continue;
                }
                ++taken;
                const Result<std::int64_t> entry =
                    store().record_resource(machine->id, ResourceKind::link, "net", "");
                if (!entry || !store().save_machine(running(*machine)) ||
                    !store().forget_resource(*entry) || !store().machines() ||
                    !store().find_machine(name))
                    ++other;
            }
        });
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(taken, thread_count / 2 * rounds);
    EXPECT_EQ(refused, thread_count / 2 * rounds);
    EXPECT_EQ(other, 0);
    const std::vector<VmRecord> machines = store().machines().value();
    std::set<Ipv4Address> addresses;
    for (const VmRecord& machine : machines)
        addresses.insert(machine.address.value());
    EXPECT_EQ(addresses.size(), static_cast<std::size_t>(thread_count / 2 * rounds));
    EXPECT_TRUE(store().resources().value().empty());
}

TEST_F(FaultsTest, TwoProcessesDoNotTakeTheSame) {
    const auto work = [&](const std::string& name) {
        const std::unique_ptr<Store> mine = Store::open(path_).value();
        for (int i = 0; i < 20; ++i)
            if (!mine->reserve_machine(a_machine(name + std::to_string(i)), pool_)) ::_exit(1);
    };
    const pid_t one = fork_child([&] { work("one-"); });
    const pid_t two = fork_child([&] { work("two-"); });
    EXPECT_EQ(wait_for(one), 0);
    EXPECT_EQ(wait_for(two), 0);
    reopen();
    const std::vector<VmRecord> machines = store().machines().value();
    std::set<Ipv4Address> addresses;
    for (const VmRecord& machine : machines)
        addresses.insert(machine.address.value());
    EXPECT_EQ(addresses.size(), 40u);
}

}  // namespace
}  // namespace banger
