#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <map>
#include <mutex>
#include <thread>

#include "core/base/file.hpp"
#include "core/images/blob_cache.hpp"
#include "core/images/sha256.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class TestCall final : public Call {
public:
    [[nodiscard]] std::stop_token stop() const override { return source_.get_token(); }
    void report(const Progress& progress) override {
        const std::lock_guard lock(mutex_);
        reports_.push_back(progress);
    }
    void go_away() { source_.request_stop(); }
    std::vector<Progress> reports() {
        const std::lock_guard lock(mutex_);
        return reports_;
    }

private:
    std::stop_source source_;
    std::mutex mutex_;
    std::vector<Progress> reports_;
};

Digest digest_of(std::string_view bytes) {
    Sha256 hash;
    hash.add({bytes.data(), bytes.size()});
    return hash.digest();
}

std::string some_bytes(std::size_t size, unsigned seed) {
    std::string bytes(size, '\0');
    for (char& c : bytes)
        c = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
    return bytes;
}

/// Serves blobs as a test tells it to.
class Server {
public:
    using Script =
        std::function<Result<void>(std::uint64_t from, const UniqueFd& sink, Call& call)>;

    WantedBlob add(std::string bytes) {
        WantedBlob blob{digest_of(bytes), ByteCount::bytes(bytes.size())};
        blobs_.push_back({blob.digest, std::move(bytes)});
        return blob;
    }
    /// What the next fetches do instead of serving, one each.
    void next(Script script) { scripts_.push_back(std::move(script)); }

    BlobCache::Fetch fetch(const std::vector<WantedBlob>& wanted) {
        return [this, wanted](std::size_t index, std::uint64_t from, const UniqueFd& sink,
                              Call& call) -> Result<void> {
            Script script;
            {
                const std::lock_guard lock(mutex_);
                calls_.push_back(from);
                if (!scripts_.empty()) {
                    script = std::move(scripts_.front());
                    scripts_.erase(scripts_.begin());
                }
            }
            if (script) return script(from, sink, call);
            return write(bytes_of(wanted[index].digest).substr(from), sink);
        };
    }
    static Result<void> write(std::string_view bytes, const UniqueFd& sink) {
        const Result<void> done = write_all(sink.get(), bytes);
        if (!done) return Error(Errc::cancelled, "nobody reads");
        return ok();
    }
    std::string bytes_of(const Digest& digest) {
        for (const auto& [known, bytes] : blobs_)
            if (known == digest) return bytes;
        return "";
    }
    /// Where each call began.
    std::vector<std::uint64_t> calls() {
        const std::lock_guard lock(mutex_);
        return calls_;
    }

private:
    std::vector<std::pair<Digest, std::string>> blobs_;
    std::mutex mutex_;
    std::vector<Script> scripts_;
    std::vector<std::uint64_t> calls_;
};

class BlobCacheTest : public testing::Test {
protected:
    BlobCacheTest() { std::signal(SIGPIPE, SIG_IGN); }  // as every program of banger does

    Result<std::vector<UniqueFd>> ensure(const std::vector<WantedBlob>& wanted) {
        return cache_.ensure_all(wanted, server_.fetch(wanted), "things", call_);
    }
    Error error_of(const std::vector<WantedBlob>& wanted) {
        const Result<std::vector<UniqueFd>> files = ensure(wanted);
        return files ? Error(Errc::internal, "no error") : files.error();
    }
    void expect_content(const UniqueFd& file, const std::string& bytes) {
        const Result<std::string> content = read_all(file.get(), ByteCount::mib(64));
        ASSERT_TRUE(content) << content.error().text();
        EXPECT_TRUE(*content == bytes) << content->size() << " bytes";
    }
    std::vector<std::string> files() { return list_folder(folder_ / "blobs/sha256").value_or({}); }
    std::string partial_of(const WantedBlob& blob) {
        return folder_ / ("blobs/sha256/" + std::string(blob.digest.hex()) + ".partial");
    }
    void leave_partial(const WantedBlob& blob, std::string_view bytes) {
        ASSERT_TRUE(ensure_folder(folder_ / "blobs/sha256", 0700));
        ASSERT_TRUE(write_file_atomic(partial_of(blob), bytes, 0600));
    }

    TempFolder folder_;
    BlobCache cache_{folder_ / "blobs"};
    Server server_;
    TestCall call_;
    const std::string bytes_ = some_bytes(300'000, 1);
    const WantedBlob blob_ = server_.add(bytes_);
};

TEST_F(BlobCacheTest, FetchesOnceAndKeeps) {
    const auto first = ensure({blob_});
    ASSERT_TRUE(first) << first.error().text();
    expect_content(first->at(0), bytes_);
    EXPECT_THAT(files(), ElementsAre(std::string(blob_.digest.hex())));
    const auto second = ensure({blob_});
    ASSERT_TRUE(second);
    expect_content(second->at(0), bytes_);
    EXPECT_THAT(server_.calls(), ElementsAre(0u));
}

TEST_F(BlobCacheTest, OnlyWhatIsMissingIsFetched) {
    std::vector<WantedBlob> five;
    for (unsigned i = 0; i < 5; ++i)
        five.push_back(server_.add(some_bytes(1000 + i, 10 + i)));
    ASSERT_TRUE(ensure({five[1], five[3]}));
    EXPECT_EQ(cache_.missing(five).size(), 3u);
    const auto all = ensure(five);
    ASSERT_TRUE(all) << all.error().text();
    for (std::size_t i = 0; i < five.size(); ++i)
        expect_content(all->at(i), server_.bytes_of(five[i].digest));
    EXPECT_EQ(server_.calls().size(), 5u);
}

TEST_F(BlobCacheTest, ABlobThatIsWantedTwiceIsFetchedOnce) {
    const auto files = ensure({blob_, blob_, blob_});
    ASSERT_TRUE(files);
    for (const UniqueFd& file : *files)
        expect_content(file, bytes_);  // each has a position of its own
    EXPECT_EQ(server_.calls().size(), 1u);
}

TEST_F(BlobCacheTest, AnEmptyBlobAndOneOfUnknownSize) {
    const WantedBlob empty = server_.add("");
    WantedBlob unknown = blob_;
    unknown.size.reset();
    const auto files = ensure({empty, unknown});
    ASSERT_TRUE(files) << files.error().text();
    expect_content(files->at(0), "");
    expect_content(files->at(1), bytes_);
    EXPECT_EQ(call_.reports().back().total, 0u) << "unknown";
}

TEST_F(BlobCacheTest, TellsTheBytesOfAllTogether) {
    const WantedBlob other = server_.add(some_bytes(200'000, 2));
    ASSERT_TRUE(ensure({blob_, other}));
    const std::vector<Progress> reports = call_.reports();
    ASSERT_FALSE(reports.empty());
    for (const Progress& each : reports) {
        EXPECT_EQ(each.stage, "fetching things");
        EXPECT_EQ(each.total, 500'000u);
        EXPECT_LE(each.done, each.total);
    }
    EXPECT_EQ(reports.back().done, 500'000u);
}

TEST_F(BlobCacheTest, FourAtOnceAndNoMore) {
    std::vector<WantedBlob> many;
    for (unsigned i = 0; i < 9; ++i)
        many.push_back(server_.add(some_bytes(100, 50 + i)));
    std::mutex mutex;
    std::condition_variable changed;
    int running = 0;
    int most = 0;
    for (int i = 0; i < 9; ++i)
        server_.next([&](std::uint64_t, const UniqueFd&, Call&) -> Result<void> {
            std::unique_lock lock(mutex);
            most = std::max(most, ++running);
            changed.notify_all();
            // The first four only go on when all four are there.
            changed.wait(lock, [&] { return most == 4; });
            --running;
            return Error(Errc::unreachable, "no");
        });
    EXPECT_EQ(error_of(many).code, Errc::unreachable);
    EXPECT_EQ(most, 4);
}

// ---- breaks ----

TEST_F(BlobCacheTest, GoesOnWhereTheLastProcessWasKilled) {
    leave_partial(blob_, bytes_.substr(0, 123'456));
    const auto files = ensure({blob_});
    ASSERT_TRUE(files) << files.error().text();
    expect_content(files->at(0), bytes_);
    EXPECT_THAT(server_.calls(), ElementsAre(123'456u));
    EXPECT_THAT(this->files(), ElementsAre(std::string(blob_.digest.hex())));
}

TEST_F(BlobCacheTest, KilledBeforeItGotItsNameNeedsNoFetch) {
    leave_partial(blob_, bytes_);
    ASSERT_TRUE(ensure({blob_}));
    EXPECT_THAT(server_.calls(), IsEmpty());
}

TEST_F(BlobCacheTest, ADamagedPartialIsFetchedFromTheBeginning) {
    leave_partial(blob_, std::string(100'000, '\0'));  // what a power cut may leave
    const auto files = ensure({blob_});
    ASSERT_TRUE(files) << files.error().text();
    expect_content(files->at(0), bytes_);
    EXPECT_THAT(server_.calls(), ElementsAre(100'000u, 0u));
}

TEST_F(BlobCacheTest, APartialThatIsTooLongOrOfTheRightLengthButWrong) {
    leave_partial(blob_, bytes_ + "more");
    ASSERT_TRUE(ensure({blob_}));
    ASSERT_TRUE(cache_.remove(blob_.digest));
    leave_partial(blob_, std::string(bytes_.size(), 'x'));
    ASSERT_TRUE(ensure({blob_}));
    EXPECT_THAT(server_.calls(), ElementsAre(0u, 0u));
}

TEST_F(BlobCacheTest, ASourceThatCannotResumeStartsOver) {
    leave_partial(blob_, bytes_.substr(0, 1000));
    server_.next([](std::uint64_t, const UniqueFd&, Call&) -> Result<void> {
        return Error(Errc::unsupported, "no ranges here");
    });
    const auto files = ensure({blob_});
    ASSERT_TRUE(files) << files.error().text();
    expect_content(files->at(0), bytes_);
    EXPECT_THAT(server_.calls(), ElementsAre(1000u, 0u));
}

TEST_F(BlobCacheTest, ABrokenConnectionIsTakenUpAgainInTheSamePull) {
    for (int i = 0; i < 2; ++i)
        server_.next([&](std::uint64_t from, const UniqueFd& sink, Call&) -> Result<void> {
            BANGER_TRY(Server::write(std::string_view(bytes_).substr(from, 70'000), sink));
            return Error(Errc::unreachable, "reset by peer");
        });
    // Success, and yet not all of it: a body that was cut short.
    server_.next([&](std::uint64_t from, const UniqueFd& sink, Call&) {
        return Server::write(std::string_view(bytes_).substr(from, 70'000), sink);
    });
    const auto files = ensure({blob_});
    ASSERT_TRUE(files) << files.error().text();
    expect_content(files->at(0), bytes_);
    EXPECT_THAT(server_.calls(), ElementsAre(0u, 70'000u, 140'000u, 210'000u));
}

TEST_F(BlobCacheTest, OneThatBringsNothingMoreIsAnErrorAndThePartialStays) {
    server_.next([&](std::uint64_t, const UniqueFd& sink, Call&) -> Result<void> {
        BANGER_TRY(Server::write(std::string_view(bytes_).substr(0, 70'000), sink));
        return Error(Errc::timed_out, "stalled");
    });
    server_.next([](std::uint64_t, const UniqueFd&, Call&) -> Result<void> {
        return Error(Errc::unreachable, "nobody answers");
    });
    EXPECT_EQ(error_of({blob_}).message, "nobody answers");
    const std::vector<CachedBlob> left = cache_.list().value();
    ASSERT_EQ(left.size(), 1u);
    EXPECT_FALSE(left[0].is_complete);
    EXPECT_EQ(left[0].digest, blob_.digest);
    ASSERT_TRUE(ensure({blob_}));
    EXPECT_EQ(server_.calls().back(), 70'000u);
}

TEST_F(BlobCacheTest, OneThatDripsForEverEnds) {
    for (int i = 0; i < 20; ++i)
        server_.next([&](std::uint64_t from, const UniqueFd& sink, Call&) -> Result<void> {
            BANGER_TRY(Server::write(std::string_view(bytes_).substr(from, 1), sink));
            return Error(Errc::unreachable, "broke off");
        });
    const Error error = error_of({blob_});
    EXPECT_EQ(error.code, Errc::unreachable);
    EXPECT_THAT(error.message, HasSubstr("after 10 attempts"));
}

// ---- lies ----

TEST_F(BlobCacheTest, OtherBytesAreRefusedAndNotKept) {
    server_.next([&](std::uint64_t, const UniqueFd& sink, Call&) {
        return Server::write(std::string(bytes_.size(), 'x'), sink);
    });
    const Error error = error_of({blob_});
    EXPECT_EQ(error.code, Errc::corrupt);
    EXPECT_THAT(error.message, HasSubstr(blob_.digest.str()));
    EXPECT_THAT(error.remedy, HasSubstr("tampered"));
    EXPECT_THAT(files(), IsEmpty());
}

TEST_F(BlobCacheTest, ALieAfterAResumeIsRefusedToo) {
    leave_partial(blob_, bytes_.substr(0, 1000));
    for (int i = 0; i < 2; ++i)
        server_.next([&](std::uint64_t from, const UniqueFd& sink, Call&) {
            return Server::write(std::string(bytes_.size() - from, 'x'), sink);
        });
    EXPECT_EQ(error_of({blob_}).code, Errc::corrupt);
    EXPECT_THAT(server_.calls(), ElementsAre(1000u, 0u));
    EXPECT_THAT(files(), IsEmpty());
}

TEST_F(BlobCacheTest, MoreThanPromisedEndsTheFetchAtOnce) {
    bool was_told = false;
    server_.next([&](std::uint64_t, const UniqueFd& sink, Call& call) -> Result<void> {
        const std::string block(1 << 20, 'x');
        while (Server::write(block, sink)) {
        }
        was_told = call.stop().stop_requested();
        return Error(Errc::cancelled, "nobody reads");
    });
    const Error error = error_of({blob_});
    EXPECT_EQ(error.code, Errc::corrupt);
    EXPECT_THAT(error.message, HasSubstr("larger than the 300000 bytes promised"));
    EXPECT_TRUE(was_told);
    EXPECT_THAT(files(), IsEmpty());
}

TEST_F(BlobCacheTest, TooFewBytesAndNoMoreIsCorrupt) {
    for (int i = 0; i < 10; ++i)
        server_.next([&](std::uint64_t from, const UniqueFd& sink, Call&) {
            return Server::write(from == 0 ? std::string_view(bytes_).substr(0, 1000) : "", sink);
        });
    EXPECT_EQ(error_of({blob_}).code, Errc::corrupt);
}

TEST_F(BlobCacheTest, ACompleteBlobOfTheWrongSizeIsFetchedAgain) {
    ASSERT_TRUE(ensure({blob_}));
    ASSERT_EQ(
        ::truncate((folder_ / ("blobs/sha256/" + std::string(blob_.digest.hex()))).c_str(), 5), 0);
    const auto files = ensure({blob_});
    ASSERT_TRUE(files);
    expect_content(files->at(0), bytes_);
}

TEST_F(BlobCacheTest, DamageOnTheDiskIsFoundWhenAsked) {
    ASSERT_TRUE(ensure({blob_}));
    EXPECT_FALSE(cache_.remove_if_damaged(blob_.digest).value());
    const std::string path = folder_ / ("blobs/sha256/" + std::string(blob_.digest.hex()));
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    ASSERT_EQ(::pwrite(file.get(), "!", 1, 777), 1);
    EXPECT_TRUE(cache_.remove_if_damaged(blob_.digest).value());
    EXPECT_THAT(files(), IsEmpty());
    EXPECT_FALSE(cache_.remove_if_damaged(blob_.digest).value()) << "there is none";
}

// ---- several ----

TEST_F(BlobCacheTest, TheFirstFailureEndsTheOthersAndIsTheOneReported) {
    const WantedBlob other = server_.add(some_bytes(5000, 3));
    std::atomic<bool> waits = false;
    const std::vector<WantedBlob> wanted{blob_, other};
    const auto files = cache_.ensure_all(
        wanted,
        [&](std::size_t index, std::uint64_t, const UniqueFd& sink, Call& call) -> Result<void> {
            if (index == 0) {
                BANGER_TRY(Server::write(std::string_view(bytes_).substr(0, 1000), sink));
                std::mutex mutex;
                std::condition_variable_any never;
                std::unique_lock lock(mutex);
                waits = true;
                waits.notify_all();
                never.wait(lock, call.stop(), [] { return false; });
                return Error(Errc::cancelled, "cancelled");
            }
            waits.wait(false);
            return Error(Errc::not_found, "gone", "Ask the publisher.");
        },
        "things", call_);
    ASSERT_FALSE(files);
    EXPECT_EQ(files.error().code, Errc::not_found);
    EXPECT_FALSE(call_.stop().stop_requested()) << "the caller's own call goes on";
    EXPECT_EQ(cache_.list().value().size(), 1u) << "what the first had is kept";
}

TEST_F(BlobCacheTest, TwoPullsOfOneBlobDoTheWorkOnce) {
    std::vector<std::jthread> threads;
    std::atomic<int> succeeded = 0;
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([&] {
            TestCall call;
            const auto files =
                cache_.ensure_all(std::vector{blob_}, server_.fetch({blob_}), "things", call);
            if (files) ++succeeded;
        });
    threads.clear();
    EXPECT_EQ(succeeded, 8);
    EXPECT_EQ(server_.calls().size(), 1u);
}

TEST_F(BlobCacheTest, WhoWaitsForAPeerCanGoAndTakesOverWhenThePeerFails) {
    std::atomic<bool> fetching = false;
    std::atomic<bool> may_fail = false;
    server_.next([&](std::uint64_t, const UniqueFd& sink, Call&) -> Result<void> {
        BANGER_TRY(Server::write(std::string_view(bytes_).substr(0, 4000), sink));
        fetching = true;
        fetching.notify_all();
        may_fail.wait(false);
        return Error(Errc::not_found, "gone");
    });
    Errc first = Errc::internal;
    std::jthread peer([&] { first = error_of({blob_}).code; });
    fetching.wait(false);

    TestCall impatient;
    impatient.go_away();
    const auto cancelled =
        cache_.ensure_all(std::vector{blob_}, server_.fetch({blob_}), "things", impatient);
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().code, Errc::cancelled);
    EXPECT_EQ(cache_.remove(blob_.digest).error().code, Errc::busy) << "it is being fetched";

    std::jthread second([&] {
        TestCall call;
        const auto files =
            cache_.ensure_all(std::vector{blob_}, server_.fetch({blob_}), "things", call);
        EXPECT_TRUE(files);
    });
    may_fail = true;
    may_fail.notify_all();
    peer.join();
    second.join();
    EXPECT_EQ(first, Errc::not_found);
    EXPECT_THAT(server_.calls(), ElementsAre(0u, 4000u));
}

TEST_F(BlobCacheTest, CancellingKeepsWhatIsThere) {
    server_.next([&](std::uint64_t, const UniqueFd& sink, Call&) -> Result<void> {
        BANGER_TRY(Server::write(std::string_view(bytes_).substr(0, 4000), sink));
        call_.go_away();
        return Error(Errc::cancelled, "cancelled");
    });
    EXPECT_EQ(error_of({blob_}).code, Errc::cancelled);
    EXPECT_EQ(cache_.list().value().size(), 1u);
}

// ---- room ----

TEST_F(BlobCacheTest, WhatCannotFitIsRefusedBeforeItIsFetched) {
    WantedBlob huge = blob_;
    huge.size = ByteCount::gib(1 << 20);
    const Error error = error_of({huge});
    EXPECT_EQ(error.code, Errc::no_space);
    EXPECT_THAT(error.message, HasSubstr("fetching things takes"));
    EXPECT_THAT(error.remedy, HasSubstr("banger image cache prune"));
    EXPECT_THAT(server_.calls(), IsEmpty());
}

// ---- upkeep ----

TEST_F(BlobCacheTest, RecoverRemovesWhatIsNotOursAndWhatIsOld) {
    const WantedBlob old = server_.add("old");
    const WantedBlob young = server_.add("young");
    ASSERT_TRUE(ensure({blob_}));
    leave_partial(old, "o");
    leave_partial(young, "yo");
    timespec long_ago[2] = {{1000, 0}, {1000, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, partial_of(old).c_str(), long_ago, 0), 0);
    const std::string complete = folder_ / ("blobs/sha256/" + std::string(blob_.digest.hex()));
    ASSERT_EQ(::utimensat(AT_FDCWD, complete.c_str(), long_ago, 0), 0);
    ASSERT_TRUE(write_file_atomic(folder_ / "blobs/sha256/rubbish", "x", 0600));
    ASSERT_TRUE(ensure_folder(folder_ / "blobs/old-layout/deep", 0700));
    EXPECT_EQ(cache_.recover(std::chrono::hours(1)).value(), 3);
    EXPECT_EQ(files().size(), 2u) << "the complete one and the young partial";
    EXPECT_EQ(cache_.missing(std::vector{blob_, young}).size(), 1u);
}

TEST_F(BlobCacheTest, RemovingIsIdempotentAndWhoHasItOpenKeepsIt) {
    EXPECT_THAT(cache_.list().value(), IsEmpty()) << "no folder yet";
    const auto files = ensure({blob_});
    ASSERT_TRUE(files);
    EXPECT_TRUE(cache_.remove(blob_.digest));
    EXPECT_TRUE(cache_.remove(blob_.digest));
    EXPECT_EQ(cache_.open(blob_.digest).error().code, Errc::not_found);
    expect_content(files->at(0), bytes_);
}

}  // namespace
}  // namespace banger
