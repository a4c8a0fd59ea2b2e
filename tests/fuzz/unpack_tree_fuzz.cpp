// Any bytes as the tar stream of a guest, into a folder that has a link out of it and beside which
// lies what must not be touched. The last byte says what was asked for. Header checksums are not
// looked at in fuzzing builds, because no mutation would survive them.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "core/base/file.hpp"
#include "core/copy/unpack_tree.hpp"
#include "tests/fuzz/require.hpp"

namespace {

namespace fs = std::filesystem;
using namespace banger;
using copy::UnpackRequest;

constexpr const char* secret = "nobody writes here";
constexpr std::uint64_t limit = 4096;

/// BASE/outside/file and BASE/to, on a file system in memory where there is one.
class World {
public:
    World() {
        std::string path =
            ::access("/dev/shm", W_OK) == 0 ? "/dev/shm/unpack-XXXXXX" : "/tmp/unpack-XXXXXX";
        require(::mkdtemp(path.data()) != nullptr);
        base_ = path;
        require(::mkdir((base_ + "/outside").c_str(), 0700) == 0);
        require(write_file_atomic(base_ + "/outside/file", secret, 0600).has_value());
    }
    ~World() { (void)remove_tree(base_); }
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    [[nodiscard]] std::string to() const { return base_ + "/to"; }

    void prepare() const {
        require(remove_tree(to()).has_value());
        require(::mkdir(to().c_str(), 0700) == 0);
        require(::mkdir((to() + "/folder").c_str(), 0700) == 0);
        require(::symlink("../outside", (to() + "/link").c_str()) == 0);
        require(::symlink("../../outside/file", (to() + "/folder/link").c_str()) == 0);
    }

    void check_outside() const {
        require(*list_folder(base_) == std::vector<std::string>({"outside", "to"}));
        require(*list_folder(base_ + "/outside") == std::vector<std::string>({"file"}));
        struct stat status {};
        require(::stat((base_ + "/outside/file").c_str(), &status) == 0);
        require(status.st_nlink == 1 && (status.st_mode & 07777) == 0600);
        require(*read_file(base_ + "/outside/file", ByteCount::kib(1)) == secret);
        require(::stat((base_ + "/outside").c_str(), &status) == 0);
        require((status.st_mode & 07777) == 0700);
    }

    /// Of what was made; the two links that were there are ours.
    void check_inside() const {
        std::uint64_t bytes = 0;
        for (const fs::directory_entry& entry : fs::recursive_directory_iterator(
                 to(), fs::directory_options::skip_permission_denied)) {
            struct stat status {};
            require(::lstat(entry.path().c_str(), &status) == 0);
            require(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) || S_ISLNK(status.st_mode));
            require((status.st_mode & 07000) == 0);
            if (S_ISREG(status.st_mode)) bytes += static_cast<std::uint64_t>(status.st_size);
            if (!S_ISLNK(status.st_mode)) continue;
            const std::string target = fs::read_symlink(entry.path()).string();
            if (target == "../outside" || target == "../../outside/file") continue;
            const fs::path leads_to =
                (entry.path().parent_path() / target).lexically_relative(to()).lexically_normal();
            require(!target.starts_with('/') && *leads_to.begin() != "..");
        }
        // Hard links share what was counted once.
        require(bytes <= limit * 200);
    }

private:
    std::string base_;
};

UniqueFd memory(std::span<const std::uint8_t> bytes) {
    UniqueFd fd(::memfd_create("fuzz", MFD_CLOEXEC));
    require(::write(fd.get(), bytes.data(), bytes.size()) == static_cast<::ssize_t>(bytes.size()));
    ::lseek(fd.get(), 0, SEEK_SET);
    return fd;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const World world;
    if (size == 0) return 0;
    world.prepare();
    const UniqueFd stream = memory({data, size - 1});
    const UniqueFd folder(::open(world.to().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    const std::uint8_t wish = data[size - 1];
    UnpackRequest request;
    request.stream = stream.get();
    request.folder = folder.get();
    request.from = (wish & 1) != 0 ? "top" : ".";
    request.to = (wish & 2) != 0 ? "made" : (wish & 4) != 0 ? "folder" : ".";
    request.limit = ByteCount::bytes(limit);
    request.max_entries = 200;
    const Result<copy::Unpacked> done = copy::unpack_tree(request);
    if (done) {
        require(done->bytes <= limit && done->notes.size() <= 10);
    } else {
        require(!done.error().message.empty() && done.error().code != Errc::internal);
    }
    world.check_outside();
    world.check_inside();
    return 0;
}
