#include "core/images/bundle.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/base/temp_folder.hpp"
#include "tests/images/bundle_parts.hpp"
#include "tests/support/golden.hpp"

namespace banger::images {
namespace {

using testing::HasSubstr;

constexpr ByteCount disk_size = ByteCount::mib(16);

/// One image as a bundle: its archive can be taken apart.
class BundleTest : public testing::Test {
protected:
    BundleTest() : image_(some_ext4(disk_size)), bundle_(empty_file()) {
        Result<WrittenBundle> written = write_from(image_manifest(), {&image_}, bundle_);
        EXPECT_TRUE(written) << (written ? "" : written.error().text());
        if (written) written_ = std::make_unique<WrittenBundle>(*std::move(written));
    }
    static Result<BundleManifest> read(const UniqueFd& bundle, const UniqueFd& into,
                                       const BundleReadOptions& options = {}) {
        EXPECT_EQ(::lseek(bundle.get(), 0, SEEK_SET), 0);
        return read_image_bundle(bundle, into, options, {});
    }
    static Result<BundleManifest> read_text(const std::string& bundle,
                                            const BundleReadOptions& options = {}) {
        return read(file_of(bundle), empty_file(), options);
    }
    static void expect_refused(const std::string& archive, const std::string& why,
                               const BundleReadOptions& options = {}) {
        const Result<BundleManifest> got = read_text(packed(archive), options);
        ASSERT_FALSE(got) << why;
        EXPECT_EQ(got.error().code, Errc::corrupt) << got.error().text();
        EXPECT_THAT(got.error().message, HasSubstr(why));
        EXPECT_FALSE(got.error().remedy.empty());
    }
    [[nodiscard]] std::string archive() const { return unpacked(content_of(bundle_)); }
    /// The archive's pieces: manifest member, headers of rootfs, map, data, end.
    struct Pieces {
        std::string manifest;
        std::string headers;
        std::string map;
        std::string data;
        std::string end;
        [[nodiscard]] std::string all() const { return manifest + headers + map + data + end; }
    };
    [[nodiscard]] Pieces pieces() const {
        const std::string all = archive();
        const std::string text = encode_bundle_manifest(written_->manifest);
        const std::size_t manifest = tar_block + text.size() + padding_of(text.size());
        const std::size_t headers = 3 * tar_block;
        const std::size_t stored = written_->manifest.files[0].stored.count();
        const std::size_t end = all.size() - 2 * tar_block;
        const std::size_t data = end - padding_of(stored) - stored;
        return {all.substr(0, manifest), all.substr(manifest, headers),
                all.substr(manifest + headers, data - manifest - headers),
                all.substr(data, end - data), all.substr(end)};
    }
    static std::string manifest_member(const std::string& text) {
        return plain_header(manifest_name, text.size()) + text +
               std::string(padding_of(text.size()), '\0');
    }
    [[nodiscard]] std::string with_manifest(const std::string& text) const {
        Pieces all = pieces();
        all.manifest = manifest_member(text);
        return all.all();
    }
    static std::string replaced(std::string text, const std::string& from, const std::string& to) {
        const std::size_t at = text.find(from);
        EXPECT_NE(at, std::string::npos) << from;
        return at == std::string::npos ? text : text.replace(at, from.size(), to);
    }

    UniqueFd image_;
    UniqueFd bundle_;
    std::unique_ptr<WrittenBundle> written_;
};

TEST_F(BundleTest, ComesBackAsItWas) {
    const UniqueFd again = empty_file();
    const Result<BundleManifest> manifest = read(bundle_, again);
    ASSERT_TRUE(manifest) << manifest.error().text();
    EXPECT_EQ(*manifest, written_->manifest);
    BundleManifest given = image_manifest();
    given.files = manifest->files;
    EXPECT_EQ(*manifest, given);
    EXPECT_EQ(content_of(again), content_of(image_));
    EXPECT_LE(allocated(again), ByteCount::mib(2).count()) << "holes stay holes";
    EXPECT_EQ(manifest->files[0].size, disk_size);
    EXPECT_LT(manifest->files[0].stored, ByteCount::mib(2));
}

TEST_F(BundleTest, IsNamedByItsContent) {
    Sha256 hash;
    const std::string bytes = content_of(bundle_);
    hash.add(bytes);
    EXPECT_EQ(written_->digest, hash.digest());
    EXPECT_EQ(written_->size.count(), bytes.size());
    EXPECT_EQ(bundle_file_name(written_->manifest.name, written_->digest),
              "team-base-" + std::string(written_->digest.hex().substr(0, 12)) + ".tar.zst");
}

TEST_F(BundleTest, TheSameContentGivesTheSameBytes) {
    const std::string once = content_of(bundle_);
    const UniqueFd three = empty_file();
    ASSERT_TRUE(write_from(image_manifest(), {&image_}, three, 3));
    EXPECT_EQ(content_of(three), once) << "the number of threads changes nothing";

    const UniqueFd full = file_of(content_of(image_));
    ASSERT_GT(allocated(full), ByteCount::mib(15).count());
    const UniqueFd from_full = empty_file();
    ASSERT_TRUE(write_from(image_manifest(), {&full}, from_full));
    EXPECT_EQ(content_of(from_full), once) << "zeros and holes are the same content";
}

TEST_F(BundleTest, ManyThreadsAgreeOnMuchData) {
    // Several jobs of the compressor: its blocks must be cut in the same places.
    const UniqueFd large = some_ext4(ByteCount::mib(64));
    std::string noise;
    std::uint64_t state = 1;
    for (std::size_t i = 0; i < (std::size_t{48} << 20) / 8; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        noise.append(reinterpret_cast<const char*>(&state), 5).append("abc");
    }
    ASSERT_EQ(::pwrite(large.get(), noise.data(), noise.size(), 8 << 20),
              static_cast<ssize_t>(noise.size()));
    const UniqueFd one = empty_file();
    const UniqueFd four = empty_file();
    const Result<WrittenBundle> first = write_from(image_manifest(), {&large}, one, 1);
    const Result<WrittenBundle> second = write_from(image_manifest(), {&large}, four, 4);
    ASSERT_TRUE(first && second);
    EXPECT_EQ(first->digest, second->digest);
    const UniqueFd again = empty_file();
    ASSERT_TRUE(read(four, again));
    EXPECT_EQ(content_of(again), content_of(large));
}

TEST_F(BundleTest, LibarchiveReadsItToo) {
    const std::unique_ptr<struct archive, decltype(&archive_read_free)> reader(archive_read_new(),
                                                                               archive_read_free);
    archive_read_support_format_tar(reader.get());
    archive_read_support_filter_zstd(reader.get());
    ASSERT_EQ(::lseek(bundle_.get(), 0, SEEK_SET), 0);
    ASSERT_EQ(archive_read_open_fd(reader.get(), bundle_.get(), 65536), ARCHIVE_OK);
    archive_entry* entry = nullptr;
    ASSERT_EQ(archive_read_next_header(reader.get(), &entry), ARCHIVE_OK);
    EXPECT_STREQ(archive_entry_pathname(entry), "manifest.json");
    ASSERT_EQ(archive_read_next_header(reader.get(), &entry), ARCHIVE_OK)
        << archive_error_string(reader.get());
    EXPECT_STREQ(archive_entry_pathname(entry), "rootfs.ext4");
    EXPECT_EQ(archive_entry_size(entry), static_cast<la_int64_t>(disk_size.count()));
    std::string content(disk_size.count(), '\0');
    const void* block = nullptr;
    std::size_t size = 0;
    la_int64_t offset = 0;
    while (archive_read_data_block(reader.get(), &block, &size, &offset) == ARCHIVE_OK)
        std::memcpy(&content.at(static_cast<std::size_t>(offset)), block, size);
    EXPECT_EQ(content, content_of(image_));
    EXPECT_EQ(archive_read_next_header(reader.get(), &entry), ARCHIVE_EOF);
}

TEST_F(BundleTest, TheManifestIsAFormat) {
    expect_golden("bundle_manifest_image.json", encode_bundle_manifest(written_->manifest));
    const Result<std::string> golden = read_file(
        std::string(BANGER_GOLDEN_FOLDER) + "/bundle_manifest_image.json", ByteCount::mib(1));
    ASSERT_TRUE(golden);
    const Result<BundleManifest> again = decode_bundle_manifest(*golden);
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(*again, written_->manifest);
}

TEST_F(BundleTest, AKernelIsFourFiles) {
    const UniqueFd vmlinux =
        file_of(std::string("\x7f") + "ELF and so on" + std::string(70000, '\0') + "end");
    const UniqueFd initramfs = file_of("070701" + std::string(600, 'x'));
    const UniqueFd modules = some_ext4(ByteCount::mib(8), "modules");
    const UniqueFd bundle = empty_file();
    const Result<WrittenBundle> written =
        write_from(kernel_manifest(), {&vmlinux, &initramfs, &modules}, bundle);
    ASSERT_TRUE(written) << written.error().text();
    expect_golden("bundle_manifest_kernel.json", encode_bundle_manifest(written->manifest));

    const TempFolder folder;
    const UniqueFd open(::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_EQ(::lseek(bundle.get(), 0, SEEK_SET), 0);
    const Result<BundleManifest> read = read_kernel_bundle(bundle, open, {}, {});
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(*read, written->manifest);
    EXPECT_EQ(read->kernel_version, "6.1.0-50-cloud-amd64");
    for (const auto& [name, file] :
         {std::pair("vmlinux", &vmlinux), std::pair("initramfs.img", &initramfs),
          std::pair("modules.ext4", &modules)})
        EXPECT_EQ(read_file(folder / name, ByteCount::gib(1)).value(), content_of(*file)) << name;
    EXPECT_EQ(list_folder(folder.path())->size(), 3u);

    ASSERT_EQ(::lseek(bundle.get(), 0, SEEK_SET), 0);
    const Result<BundleManifest> as_image = read_image_bundle(bundle, empty_file(), {}, {});
    ASSERT_FALSE(as_image);
    EXPECT_THAT(as_image.error().message, HasSubstr("holds a kernel"));
    const UniqueFd taken(::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_EQ(::lseek(bundle.get(), 0, SEEK_SET), 0);
    EXPECT_FALSE(read_kernel_bundle(bundle, taken, {}, {})) << "never into a file that is there";
}

TEST_F(BundleTest, AFileThatIsNoKernelIsNone) {
    const TempFolder folder;
    const UniqueFd open(::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const UniqueFd vmlinux = file_of("MZ");
    const UniqueFd initramfs = file_of("070701");
    const UniqueFd modules = some_ext4(ByteCount::mib(8));
    const UniqueFd bundle = empty_file();
    ASSERT_TRUE(write_from(kernel_manifest(), {&vmlinux, &initramfs, &modules}, bundle));
    ASSERT_EQ(::lseek(bundle.get(), 0, SEEK_SET), 0);
    const Result<BundleManifest> read = read_kernel_bundle(bundle, open, {}, {});
    ASSERT_FALSE(read);
    EXPECT_THAT(read.error().message, HasSubstr("vmlinux is not what its name says"));
}

TEST_F(BundleTest, ReadsFromAPipe) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd out(ends[0]);
    std::jthread feeder([in = UniqueFd(ends[1]), bytes = content_of(bundle_)] {
        for (std::size_t at = 0; at < bytes.size(); at += at < 10 ? 1 : 700)
            ASSERT_TRUE(write_all(in.get(), bytes.substr(at, at < 10 ? 1 : 700)));
    });
    const UniqueFd again = empty_file();
    const Result<BundleManifest> manifest = read_image_bundle(out, again, {}, {});
    ASSERT_TRUE(manifest) << manifest.error().text();
    EXPECT_EQ(content_of(again), content_of(image_));
}

TEST_F(BundleTest, WaitingEndsWhenTold) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd out(ends[0]);
    const UniqueFd in(ends[1]);
    std::stop_source source;
    std::jthread stopper([&] { source.request_stop(); });
    const Result<BundleManifest> manifest =
        read_image_bundle(out, empty_file(), {}, source.get_token());
    ASSERT_FALSE(manifest);
    EXPECT_EQ(manifest.error().code, Errc::cancelled);

    const std::unique_ptr<DiskBytes> disk = open_raw_disk(image_, {}).value();
    DiskBytes* const disks[] = {disk.get()};
    const Result<WrittenBundle> written =
        write_bundle(image_manifest(), disks, empty_file(), {}, source.get_token());
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code, Errc::cancelled);
}

TEST_F(BundleTest, ProgressGoesFromNothingToAll) {
    std::uint64_t last = 0;
    std::uint64_t all = 0;
    const auto watch = [&](std::uint64_t done, std::uint64_t total) {
        EXPECT_GE(done, last);
        EXPECT_LE(done, total);
        last = done;
        all = total;
    };
    ASSERT_TRUE(read(bundle_, empty_file(), {.limits = {}, .on_progress = watch}));
    EXPECT_EQ(last, all);
    EXPECT_GT(all, 0u);
}

TEST_F(BundleTest, WhatIsNoFileSystemIsNotPublished) {
    const UniqueFd nonsense = file_of(std::string(100000, 'x'));
    EXPECT_EQ(write_from(image_manifest(), {&nonsense}, empty_file()).error().code, Errc::corrupt);
    const UniqueFd longer = some_ext4(disk_size);
    ASSERT_EQ(::ftruncate(longer.get(), static_cast<off_t>(disk_size.count() + 4096)), 0);
    EXPECT_EQ(write_from(image_manifest(), {&longer}, empty_file()).error().code, Errc::corrupt);
    BundleManifest too_long = image_manifest();
    too_long.description = std::string(2000, 'x');
    EXPECT_FALSE(write_from(too_long, {&image_}, empty_file()));
}

// ---- hostile ones ------------------------------------------------------------------------------

TEST_F(BundleTest, ThePiecesAreTheWhole) { EXPECT_TRUE(read_text(packed(pieces().all()))); }

TEST_F(BundleTest, RefusesAnythingBesidesItsFiles) {
    const Pieces right = pieces();
    const std::string extra = plain_header("extra", 3) + "abc" + std::string(509, '\0');
    expect_refused(extra + right.all(), "where manifest.json should be there is \"extra\"");
    expect_refused(right.manifest + extra + right.headers + right.map + right.data + right.end,
                   "where rootfs.ext4 should be there is \"extra\"");
    expect_refused(right.manifest + right.headers + right.map + right.data + extra + right.end,
                   "something stands where nothing should");
    expect_refused(right.all() + extra, "something follows its last file");
    expect_refused(right.all() + std::string(tar_block, '\0'), "something follows its last file");
    expect_refused(right.manifest + right.all(), "where rootfs.ext4 should be");
    expect_refused(right.headers + right.map + right.data + right.manifest + right.end,
                   "where manifest.json should be there is \"PaxHeaders.0/rootfs.ext4\"");
    expect_refused(right.manifest + right.end, "ends too early");
    expect_refused(right.end, "where manifest.json should be");
    expect_refused("", "ends too early");
}

TEST_F(BundleTest, RefusesTrailingBytesAfterTheFrame) {
    const std::string right = content_of(bundle_);
    for (const std::string& tail : {std::string("x"), std::string(1, '\0'), packed("another"),
                                    right, std::string("\x50\x2a\x4d\x18\x01\0\0\0x", 9)}) {
        const Result<BundleManifest> got = read_text(right + tail);
        ASSERT_FALSE(got);
        EXPECT_THAT(got.error().message, HasSubstr("something follows its end"));
    }
    // A skippable frame before it hides as well.
    EXPECT_FALSE(read_text(std::string("\x50\x2a\x4d\x18\x01\0\0\0x", 9) + right));
    EXPECT_FALSE(read_text("PK" + right));
    EXPECT_FALSE(read_text(archive())) << "not packed";
}

TEST_F(BundleTest, RefusesOtherPathsTypesAndOwners) {
    const Pieces right = pieces();
    const auto with_headers = [&](const std::string& headers) {
        return right.manifest + headers + right.map + right.data + right.end;
    };
    const std::uint64_t member = right.map.size() + written_->manifest.files[0].stored.count();
    for (const char* name : {"../rootfs.ext4", "/rootfs.ext4", "./rootfs.ext4", "rootfs.ext4/",
                             "rootfs.ext4x", "ROOTFS.ext4", ""})
        expect_refused(with_headers(sparse_headers(name, disk_size, member)), "rootfs.ext4");
    // A symbolic link, a hard link, a device, a folder; a setuid file; somebody's file.
    for (const char type : {'1', '2', '3', '4', '5', '6', '7', 'g', 'L', 'S', '\0'}) {
        std::string headers = right.headers;
        headers[2 * tar_block + 156] = type;
        expect_refused(with_headers(headers), "rootfs.ext4");
        Pieces other = right;
        other.manifest[156] = type;
        expect_refused(other.all(), "manifest.json");
    }
    for (const std::size_t at : {101, 109, 117, 140, 150, 258, 265, 300, 345}) {
        std::string headers = right.headers;
        headers[2 * tar_block + at] ^= 1;
        expect_refused(with_headers(headers), "rootfs.ext4");
    }
    // Another path and another size in the extended header.
    expect_refused(with_headers(replaced(right.headers, "name=rootfs.ext4", "name=../../etc/x")),
                   "rootfs.ext4");
    expect_refused(with_headers(replaced(right.headers, "realsize=16777216", "realsize=96777216")),
                   "rootfs.ext4");
    expect_refused(with_headers(replaced(right.headers, "sparse.minor=0", "sparse.minor=1")),
                   "rootfs.ext4");
    // Not sparse at all.
    expect_refused(right.manifest + plain_header("rootfs.ext4", disk_size.count()) +
                       content_of(image_) + right.end,
                   "rootfs.ext4");
}

TEST_F(BundleTest, RefusesAMapThatLies) {
    const Pieces right = pieces();
    const std::uint64_t stored = written_->manifest.files[0].stored.count();
    const std::uint64_t size = disk_size.count();
    const auto with_map = [&](std::string map) {
        map.append(padding_of(map.size()), '\0');
        return right.manifest + sparse_headers("rootfs.ext4", disk_size, map.size() + stored) +
               map + right.data + right.end;
    };
    const auto text = [](std::uint64_t number) { return std::to_string(number) + "\n"; };
    const std::uint64_t half = stored / 2;
    const std::uint64_t rest = stored - half;
    const std::string outside = "overlaps or points outside";
    expect_refused(with_map("1\n" + text(size - stored + 1) + text(stored)), outside);
    expect_refused(with_map("1\n" + text(size) + text(stored)), outside);
    expect_refused(with_map("1\n18446744073709551615\n" + text(stored)), outside);
    expect_refused(with_map("1\n0\n18446744073709551615\n"), outside);
    expect_refused(with_map("2\n0\n" + text(half) + text(half - 1) + text(rest)), outside);
    expect_refused(with_map("2\n" + text(half) + text(rest) + "0\n" + text(half)), outside);
    expect_refused(with_map("2\n0\n" + text(half) + text(half) + text(rest)), outside);
    expect_refused(with_map("2\n0\n" + text(stored) + text(stored + 1) + "0\n"), outside);
    expect_refused(with_map("1\n0\n" + text(stored - 1)), "another size than the manifest");
    expect_refused(with_map("1\n0\n" + text(stored + 1)), "another size than the manifest");
    expect_refused(with_map("0\n"), "another size than the manifest");
    expect_refused(with_map("99999999\n0\n"), "too long");
    for (const char* map : {"", "\n", "x\n", "-1\n", "+1\n", " 1\n", "01\n0\n1\n", "1\n0", "1",
                            "1\n0\n1.5\n", "18446744073709551616\n", "1\n0x0\n1\n"})
        expect_refused(with_map(map),
                       map == std::string() ? "rootfs.ext4" : "not a list of numbers");
    expect_refused(with_map("1\n0\n" + text(stored) + "7\n"), "something follows its sparse map");
    expect_refused(with_map("1\n0\n" + text(stored) + std::string(1024, '\0')),
                   "something follows its sparse map");
    // The same data elsewhere: the digest knows.
    expect_refused(with_map("1\n0\n" + text(stored)), "has another digest");
}

TEST_F(BundleTest, RefusesAManifestThatIsNotOne) {
    const std::string right = encode_bundle_manifest(written_->manifest);
    const std::string digest = written_->manifest.files[0].digest.str();
    struct Case {
        std::string from;
        std::string to;
        std::string why;
    };
    const Case cases[] = {
        {"\"version\": 1", "\"version\": 0", "no such version"},
        {"\"version\": 1", "\"version\": \"1\"", "version"},
        {"\"version\": 1,", "", "version"},
        {"\"version\": 1,", "\"version\": 1, \"version\": 1,", "version"},
        {"\"kind\": \"image\"", "\"kind\": \"disk\"", "kind"},
        {"\"kind\": \"image\"", "\"kind\": \"kernel\"", "kernel_version"},
        {"\"name\": \"team-base\"", "\"name\": \"../team\"", "name"},
        {"\"distro\"", "\"destro\"", "distro: it is missing"},
        {"\"distro\"", "\"extra\": 1, \"distro\"", "extra"},
        {"\"kernel_version\": \"\"", "\"kernel_version\": \"6.1\"", "kernel_version"},
        {"what the team works on", "two\\nlines", "description"},
        {"what the team works on", std::string(3000, 'x'), "description"},
        {"PATH=/bin", std::string(300000, 'x'), "run_config"},
        {"rootfs.ext4", "rootfs.ext3", "not exactly those"},
        {"rootfs.ext4", "../../rootfs.ext4", "not exactly those"},
        {"\"files\": [", "\"files\": [], \"more\": [", "more"},
        {digest, digest.substr(0, 70), "digest"},
        {"\"size\": 16777216", "\"size\": 16777215", "rootfs.ext4"},
        {"\"size\": 16777216", "\"size\": -1", "size"},
        {"\"size\": 16777216", "\"size\": 1e30", "size"},
        {"\"size\": 16777216", "\"size\": 18446744073709551615", "size"},
        {"\"size\": 16777216", "\"size\": 9223372036854775807", "larger than"},
        {"\"size\": 16777216", "\"size\": 4096", "stores more or less"},
    };
    for (const Case& each : cases)
        expect_refused(with_manifest(replaced(right, each.from, each.to)), each.why);
    for (const std::string& text :
         {std::string(), std::string("[]"), std::string("null"), std::string("{"), right + "x",
          std::string("\xff\xfe"), std::string(100000, '[')})
        expect_refused(with_manifest(text), "manifest.json");
    // Declared larger than any manifest is.
    Pieces huge = pieces();
    huge.manifest = plain_header(manifest_name, max_bundle_manifest.count() + 1);
    expect_refused(huge.all(), "manifest is too large");
    huge.manifest = plain_header(manifest_name, std::uint64_t{1} << 62);
    expect_refused(huge.all(), "manifest is too large");

    const Result<BundleManifest> later =
        read_text(packed(with_manifest(replaced(right, "\"version\": 1", "\"version\": 2"))));
    ASSERT_FALSE(later);
    EXPECT_EQ(later.error().code, Errc::unsupported);
    EXPECT_EQ(later.error().remedy, "Use a newer banger.");
}

TEST_F(BundleTest, RefusesContentThatIsNotTheManifests) {
    Pieces other = pieces();
    other.data[other.data.size() / 2] ^= 1;
    expect_refused(other.all(), "has another digest");
    // A file system that does not fill its file: everything else agrees.
    const std::string right = encode_bundle_manifest(written_->manifest);
    other = pieces();
    other.manifest = manifest_member(replaced(right, "\"size\": 16777216", "\"size\": 16781312"));
    other.headers = sparse_headers("rootfs.ext4", ByteCount::bytes(16781312),
                                   other.map.size() + written_->manifest.files[0].stored.count());
    expect_refused(other.all(), "has 16781312 bytes, but its file system 16777216");
}

TEST_F(BundleTest, RefusesWhatIsCutOffAnywhere) {
    const std::string right = content_of(bundle_);
    for (std::size_t size = 0; size < right.size(); size += 1 + right.size() / 300) {
        const Result<BundleManifest> got = read_text(right.substr(0, size));
        ASSERT_FALSE(got) << size;
        EXPECT_EQ(got.error().code, Errc::corrupt);
    }
}

TEST_F(BundleTest, AFlippedBitIsSeenOrHarmless) {
    const std::string right = content_of(bundle_);
    const std::string content = content_of(image_);
    for (std::size_t at = 0; at < right.size(); at += 1 + right.size() / 300) {
        std::string wrong = right;
        wrong[at] = static_cast<char>(wrong[at] ^ (1 << at % 8));
        const UniqueFd into = empty_file();
        const Result<BundleManifest> got = read(file_of(wrong), into);
        if (got) {
            EXPECT_EQ(content_of(into), content) << at;
        }
    }
}

TEST_F(BundleTest, ABombDoesNotGoOff) {
    /// A disk full of one letter, with a superblock.
    class Letters final : public DiskBytes {
    public:
        explicit Letters(const UniqueFd& file) : file_(file) {}
        [[nodiscard]] ByteCount size() const override { return ByteCount::mib(64); }
        Result<void> read(std::uint64_t offset, std::span<std::byte> into) override {
            std::memset(into.data(), 'A', into.size());
            if (offset < 65536)
                (void)!::pread(file_.get(), into.data(), std::min<std::size_t>(into.size(), 65536),
                               static_cast<off_t>(offset));
            return ok();
        }
        Result<std::optional<Extent>> next_data(std::uint64_t offset) override {
            if (offset >= size().count()) return std::optional<Extent>();
            return std::optional(Extent{offset, size().count() - offset});
        }

    private:
        const UniqueFd& file_;
    };
    const UniqueFd head = some_ext4(ByteCount::mib(64));
    Letters letters(head);
    DiskBytes* const disks[] = {&letters};
    const UniqueFd bundle = empty_file();
    const Result<WrittenBundle> written = write_bundle(image_manifest(), disks, bundle, {}, {});
    ASSERT_TRUE(written) << written.error().text();
    ASSERT_LT(written->size, ByteCount::kib(64));
    BundleReadOptions options;
    options.limits.free_of_ratio = ByteCount::mib(1);
    const UniqueFd into = empty_file();
    const Result<BundleManifest> got = read(bundle, into, options);
    ASSERT_FALSE(got);
    EXPECT_THAT(got.error().message, HasSubstr("grows more than 1000 times"));
    EXPECT_LT(allocated(into), ByteCount::mib(32).count());

    options.limits.root_file_system = ByteCount::mib(32);
    EXPECT_THAT(read(bundle, into, options).error().message, HasSubstr("larger than 32 MiB"));
}

}  // namespace
}  // namespace banger::images
