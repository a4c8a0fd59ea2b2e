#include "banger/contract/image_source.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>

#include "core/base/file.hpp"
#include "core/base/process.hpp"

namespace banger::contract {

const bool image_source_suite_is_linked = true;

using testing::IsEmpty;
using testing::Not;

namespace {

constexpr ArtifactKind kinds[] = {ArtifactKind::image, ArtifactKind::kernel};

struct Pipe {
    UniqueFd read;
    UniqueFd write;
    Pipe() {
        int fds[2] = {-1, -1};
        if (::pipe2(fds, O_CLOEXEC) != 0) ADD_FAILURE() << "no pipe";
        read.reset(fds[0]);
        write.reset(fds[1]);
    }
};

}  // namespace

Result<Resolution> ImageSourceContract::resolve(const std::string& reference, ArtifactKind kind,
                                                std::stop_token stop) {
    QuietCall call(std::move(stop));
    return role().resolve({kind, reference, "amd64"}, call);
}

std::optional<ArtifactManifest> ImageSourceContract::fetchable(ArtifactKind kind) {
    const std::string reference = subject().reference(kind);
    if (reference.empty() || !subject().can_fetch()) return std::nullopt;
    const Result<Resolution> resolution = resolve(reference, kind);
    EXPECT_TRUE(succeeded(resolution));
    if (!resolution || !std::holds_alternative<ArtifactManifest>(*resolution)) return std::nullopt;
    return std::get<ArtifactManifest>(*resolution);
}

Result<std::string> ImageSourceContract::fetch(const ArtifactManifest& manifest, std::size_t part,
                                               std::uint64_t from) {
    const UniqueFd sink(::memfd_create("part", MFD_CLOEXEC));
    QuietCall call;
    BANGER_TRY(role().fetch(manifest, part, from, sink, call));
    if (::lseek(sink.get(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek");
    return read_all(sink.get(), ByteCount::gib(1));
}

TEST_P(ImageSourceContract, a_foreign_reference_is_not_found) {
    for (ArtifactKind kind : kinds)
        EXPECT_TRUE(failed_with(resolve(subject().foreign_reference(), kind), Errc::not_found));
}

TEST_P(ImageSourceContract, hostile_references_lead_nowhere) {
    const std::string hostile[] = {
        "",
        " ",
        "\n",
        std::string("a\0b", 3),
        std::string(1 << 16, 'a'),
        "-o",
        "../../etc",
        "/etc/passwd",
        "a b\tc",
        "\xff\xfe",
        "%n%n",
        "$(reboot)",
        "http://169.254.169.254/latest",
        "a@sha256:zz",
    };
    for (const std::string& reference : hostile)
        for (ArtifactKind kind : kinds) {
            const Result<Resolution> resolution = resolve(reference, kind);
            ASSERT_FALSE(resolution) << testing::PrintToString(reference.substr(0, 40));
            EXPECT_NE(resolution.error().code, Errc::internal) << resolution.error().text();
        }
    expect_nothing_left();
}

TEST_P(ImageSourceContract, a_broken_reference_ends_the_search) {
    const std::string reference = subject().broken_reference();
    if (reference.empty()) GTEST_SKIP() << "no reference of this source's can be broken";
    const Result<Resolution> resolution = resolve(reference, ArtifactKind::image);
    EXPECT_TRUE(has_remedy(resolution));
    EXPECT_FALSE(failed_with(resolution, Errc::not_found)) << "the next source would be asked";
}

TEST_P(ImageSourceContract, a_known_reference_leads_to_a_whole_manifest) {
    for (ArtifactKind kind : kinds) {
        const std::string reference = subject().reference(kind);
        if (reference.empty()) continue;
        const Result<Resolution> resolution = resolve(reference, kind);
        ASSERT_TRUE(succeeded(resolution));
        if (const Redirect* redirect = std::get_if<Redirect>(&*resolution)) {
            EXPECT_THAT(redirect->reference, Not(IsEmpty()));
            EXPECT_NE(redirect->reference, reference) << "a circle";
            continue;
        }
        const ArtifactManifest& manifest = std::get<ArtifactManifest>(*resolution);
        EXPECT_EQ(manifest.kind, kind);
        EXPECT_EQ(manifest.architecture, "amd64");
        EXPECT_THAT(manifest.provenance, Not(IsEmpty()));
        EXPECT_THAT(manifest.parts, Not(IsEmpty()));
        EXPECT_TRUE(succeeded(ArtifactName::parse(manifest.suggested_name)));
        for (const Part& part : manifest.parts)
            EXPECT_EQ(part.format == PartFormat::kernel_tree, kind == ArtifactKind::kernel);
        const Result<Resolution> again = resolve(manifest.reference, kind);
        ASSERT_TRUE(succeeded(again)) << "the canonical spelling can be asked for again";
        EXPECT_EQ(std::get<ArtifactManifest>(*again).reference, manifest.reference);
    }
}

TEST_P(ImageSourceContract, a_reference_of_the_other_kind_leads_nowhere) {
    const std::string image = subject().reference(ArtifactKind::image);
    if (image.empty() || image == subject().reference(ArtifactKind::kernel))
        GTEST_SKIP() << "the kinds are not told apart by reference here";
    EXPECT_FALSE(resolve(image, ArtifactKind::kernel));
}

TEST_P(ImageSourceContract, fetch_writes_what_the_manifest_says) {
    for (ArtifactKind kind : kinds) {
        const std::optional<ArtifactManifest> manifest = fetchable(kind);
        if (!manifest) continue;
        for (std::size_t i = 0; i < manifest->parts.size(); ++i) {
            const Part& part = manifest->parts[i];
            const Result<std::string> bytes = fetch(*manifest, i);
            ASSERT_TRUE(succeeded(bytes));
            EXPECT_FALSE(bytes->empty());
            if (part.size) {
                EXPECT_EQ(bytes->size(), part.size->count());
            }
            if (part.digest) {
                const Result<std::string> again = fetch(*manifest, i);
                ASSERT_TRUE(succeeded(again));
                EXPECT_TRUE(*again == *bytes) << "the same digest, other bytes";
            }
        }
    }
    expect_nothing_left();
}

TEST_P(ImageSourceContract, fetch_resumes_or_says_that_it_cannot) {
    const std::optional<ArtifactManifest> manifest = fetchable(ArtifactKind::image);
    if (!manifest || !manifest->parts[0].digest) GTEST_SKIP() << "nothing here has a digest";
    const Result<std::string> whole = fetch(*manifest, 0);
    ASSERT_TRUE(succeeded(whole));
    const UniqueFd sink(::memfd_create("rest", MFD_CLOEXEC));
    QuietCall call;
    const std::uint64_t from = whole->size() / 2;
    const Result<void> resumed = role().fetch(*manifest, 0, from, sink, call);
    ASSERT_EQ(::lseek(sink.get(), 0, SEEK_SET), 0);
    const std::string rest = read_all(sink.get(), ByteCount::gib(1)).value();
    if (!resumed) {
        EXPECT_TRUE(failed_with(resumed, Errc::unsupported));
        EXPECT_THAT(rest, IsEmpty());
        return;
    }
    EXPECT_TRUE(rest == whole->substr(from));
}

TEST_P(ImageSourceContract, a_part_that_is_not_there_is_refused) {
    const std::optional<ArtifactManifest> manifest = fetchable(ArtifactKind::image);
    if (!manifest) GTEST_SKIP() << "nothing can be fetched here";
    EXPECT_TRUE(failed_with(fetch(*manifest, manifest->parts.size()), Errc::invalid_argument));
}

TEST_P(ImageSourceContract, a_forged_locator_is_refused) {
    std::optional<ArtifactManifest> manifest = fetchable(ArtifactKind::image);
    if (!manifest) GTEST_SKIP() << "nothing can be fetched here";
    for (const char* locator : {"../../../etc/passwd", "\n", "-x"}) {
        manifest->parts[0].locator = locator;
        manifest->parts[0].digest.reset();
        EXPECT_FALSE(fetch(*manifest, 0)) << locator;
    }
}

TEST_P(ImageSourceContract, a_reader_that_went_away_is_cancelled) {
    const std::optional<ArtifactManifest> manifest = fetchable(ArtifactKind::image);
    if (!manifest) GTEST_SKIP() << "nothing can be fetched here";
    ::signal(SIGPIPE, SIG_IGN);  // as every program of banger does
    Pipe pipe;
    pipe.read.reset();
    QuietCall call;
    EXPECT_TRUE(failed_with(role().fetch(*manifest, 0, 0, pipe.write, call), Errc::cancelled));
    expect_nothing_left();
}

TEST_P(ImageSourceContract, cancelled_before_it_began) {
    for (ArtifactKind kind : kinds)
        if (const std::string reference = subject().reference(kind); !reference.empty()) {
            EXPECT_TRUE(failed_with(resolve(reference, kind, already_stopped()), Errc::cancelled));
        }
    if (const std::optional<ArtifactManifest> manifest = fetchable(ArtifactKind::image)) {
        Pipe pipe;
        QuietCall call(already_stopped());
        EXPECT_TRUE(failed_with(role().fetch(*manifest, 0, 0, pipe.write, call), Errc::cancelled));
    }
    expect_nothing_left();
}

TEST_P(ImageSourceContract, cancelled_while_the_reader_is_slow) {
    const std::optional<ArtifactManifest> manifest = fetchable(ArtifactKind::image);
    if (!manifest) GTEST_SKIP() << "nothing can be fetched here";
    ::signal(SIGPIPE, SIG_IGN);
    Pipe pipe;
    ASSERT_GT(::fcntl(pipe.write.get(), F_SETPIPE_SZ, 4096), 0);
    std::stop_source source;
    QuietCall call(source.get_token());
    Result<void> fetched;
    std::jthread thread([&] { fetched = role().fetch(*manifest, 0, 0, pipe.write, call); });
    // The first byte is there: the source writes, into a pipe that nobody empties.
    const Result<int> readable =
        poll_fd(pipe.read.get(), POLLIN, std::chrono::seconds(60), never());
    EXPECT_TRUE(succeeded(readable));
    source.request_stop();
    thread.join();
    if (fetched) GTEST_SKIP() << "the part is too small to fill a pipe";
    EXPECT_TRUE(failed_with(fetched, Errc::cancelled));
    expect_nothing_left();
}

TEST_P(ImageSourceContract, cancelled_in_the_middle) {
    if (!subject().hang_next()) GTEST_SKIP() << "resolve() cannot be made to hang here";
    const std::string reference = subject().reference(ArtifactKind::image);
    const Result<Resolution> resolution = stopped_while_hanging(
        subject(),
        [&](std::stop_token stop) { return resolve(reference, ArtifactKind::image, stop); });
    EXPECT_TRUE(failed_with(resolution, Errc::cancelled));
    expect_nothing_left();
}

TEST_P(ImageSourceContract, what_is_available_can_be_resolved) {
    QuietCall call;
    const Result<std::vector<AvailableArtifact>> available = role().available(call);
    ASSERT_TRUE(succeeded(available));
    for (const AvailableArtifact& artifact : *available) {
        EXPECT_FALSE(artifact.reference.empty());
        EXPECT_TRUE(succeeded(resolve(artifact.reference, artifact.kind))) << artifact.reference;
    }
}

TEST_P(ImageSourceContract, many_at_once) {
    const std::string reference = subject().reference(ArtifactKind::image);
    if (reference.empty()) GTEST_SKIP() << "no image of this source's";
    std::vector<std::string> errors(12);
    all_at_once(errors.size(), [&](std::size_t i) {
        const Result<Resolution> resolution = resolve(reference, ArtifactKind::image);
        if (!resolution) errors[i] = resolution.error().text();
    });
    EXPECT_THAT(errors, testing::Each(IsEmpty()));
}

TEST_P(ImageSourceContract, checks_change_nothing) {
    for (const Check& check : role().checks(never())) {
        EXPECT_FALSE(check.name.empty());
        EXPECT_EQ(check.status == CheckStatus::pass, check.remedy.empty()) << check.name;
    }
    expect_nothing_left();
}

}  // namespace banger::contract
