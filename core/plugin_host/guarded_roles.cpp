#include "core/plugin_host/guarded_roles.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <functional>
#include <thread>

#include "banger/unique_fd.hpp"
#include "core/base/names.hpp"

namespace banger::plugin_host {

namespace {

constexpr std::size_t pipe_bytes = std::size_t{1} << 20;

Error cancelled() { return {Errc::cancelled, "the fetch was cancelled"}; }

/// Empties a pipe into the sink until finish(), in a thread of its own.
class Relay {
public:
    /// `on_failure` is called when nothing more can be written.
    static Result<std::unique_ptr<Relay>> open(const UniqueFd& sink, std::stop_token stop,
                                               std::function<void()> on_failure) {
        int ends[2] = {-1, -1};
        if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "making a pipe");
        std::unique_ptr<Relay> relay(new Relay(UniqueFd(ends[0]), UniqueFd(ends[1]), sink));
        if (!relay->wake_) return Error::from_errno(errno, "making an event");
        ::fcntl(ends[1], F_SETPIPE_SZ, pipe_bytes);  // faster; the user's pipes may be used up
        ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
        relay->pump_ = std::jthread(
            [relay = relay.get(), stop = std::move(stop), fail = std::move(on_failure)] {
                relay->result_ = relay->pump(stop);
                if (relay->result_) return;
                relay->read_.reset();  // the writer is not to wait for ever
                fail();
            });
        return relay;
    }
    [[nodiscard]] const UniqueFd& writer() const { return write_; }
    /// The call has ended: what is in the pipe now is all there is.
    Result<void> finish() {
        write_.reset();
        static_cast<void>(::eventfd_write(wake_.get(), 1));
        pump_.join();
        return std::move(result_);
    }

private:
    Relay(UniqueFd read_end, UniqueFd write_end, const UniqueFd& sink)
        : read_(std::move(read_end)), write_(std::move(write_end)), sink_(sink) {}

    Result<void> pump(const std::stop_token& stop) {
        const std::stop_callback wake(
            stop, [this] { static_cast<void>(::eventfd_write(wake_.get(), 1)); });
        bool is_last = false;
        while (true) {
            pollfd source[] = {{read_.get(), POLLIN, 0}, {is_last ? -1 : wake_.get(), POLLIN, 0}};
            if (::poll(source, 2, is_last ? 0 : -1) < 0) continue;
            if (stop.stop_requested()) return cancelled();
            if (source[1].revents != 0) is_last = true;
            // The other end is ours too until the end, so a hang-up is the end.
            if ((source[0].revents & POLLIN) == 0) {
                if (is_last && source[1].fd < 0) return ok();
                if ((source[0].revents & POLLHUP) != 0) return ok();
                continue;
            }
            pollfd room[] = {{sink_.get(), POLLOUT, 0}};
            // 100 ms is how late a stop is seen; a sink that is not full does not wait.
            if (::poll(room, 1, 100) <= 0) {
                if (stop.stop_requested()) return cancelled();
                continue;
            }
            const ssize_t moved = ::splice(read_.get(), nullptr, sink_.get(), nullptr, pipe_bytes,
                                           SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
            const int number = errno;
            if (moved >= 0 || number == EAGAIN || number == EINTR) continue;
            if (number == EPIPE) return cancelled();
            return Error::from_errno(number, "writing a part");
        }
    }

    UniqueFd read_;
    UniqueFd write_;
    const UniqueFd& sink_;
    UniqueFd wake_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    Result<void> result_;
    std::jthread pump_;
};

/// The caller's call, which can also be ended from here.
class StoppableCall final : public Call {
public:
    explicit StoppableCall(Call& outer)
        : outer_(outer), forward_(outer.stop(), [this] { source_.request_stop(); }) {}
    [[nodiscard]] std::stop_token stop() const override { return source_.get_token(); }
    void report(const Progress& progress) override { outer_.report(progress); }
    void request_stop() { source_.request_stop(); }

private:
    Call& outer_;
    std::stop_source source_;
    std::stop_callback<std::function<void()>> forward_;
};

class GuardedImageSource final : public ImageSource {
public:
    explicit GuardedImageSource(ImageSource& inner) : inner_(inner) {}
    Result<Resolution> resolve(const ResolveRequest& request, Call& call) override {
        return inner_.resolve(request, call);
    }
    Result<void> fetch(const ArtifactManifest& manifest, std::size_t part,
                       std::uint64_t resume_from, const UniqueFd& sink, Call& call) override {
        StoppableCall stoppable(call);
        const std::unique_ptr<Relay> relay =
            BANGER_TRY(Relay::open(sink, call.stop(), [&stoppable] { stoppable.request_stop(); }));
        Result<void> fetched =
            inner_.fetch(manifest, part, resume_from, relay->writer(), stoppable);
        const Result<void> written = relay->finish();
        // What stopped the call says more than that it was stopped.
        if (!written) return written;
        return fetched;
    }
    Result<std::vector<AvailableArtifact>> available(Call& call) override {
        return inner_.available(call);
    }
    std::vector<Check> checks(std::stop_token stop) override {
        return inner_.checks(std::move(stop));
    }

private:
    ImageSource& inner_;
};

/// Those of `lost` that are among `remembered`.
template <class Record>
Result<std::vector<VmId>> only_remembered(Result<std::vector<VmId>> lost,
                                          std::span<const Record> remembered) {
    if (lost)
        std::erase_if(*lost, [&](const VmId& id) {
            return std::ranges::find(remembered, id, &Record::vm) == remembered.end();
        });
    return lost;
}

class GuardedNetwork final : public Network {
public:
    explicit GuardedNetwork(Network& inner) : inner_(inner) {}
    [[nodiscard]] Addressing addressing() const override { return inner_.addressing(); }
    Result<NetworkLink> attach(const LinkRequest& request, std::stop_token stop) override {
        Result<NetworkLink> link = inner_.attach(request, std::move(stop));
        if (!link || link->vm == request.vm) return link;
        return Error(Errc::corrupt, "the network plugin made a link of another machine",
                     "Choose another network plugin, and tell the author of this one.");
    }
    Result<void> detach(const VmId& vm) override { return inner_.detach(vm); }
    Result<std::vector<VmId>> recover(std::span<const NetworkLink> remembered) override {
        return only_remembered(inner_.recover(remembered), remembered);
    }
    std::vector<Check> checks(std::stop_token stop) override {
        return inner_.checks(std::move(stop));
    }

private:
    Network& inner_;
};

class GuardedStorage final : public Storage, private StorageCloning {
public:
    GuardedStorage(Storage& inner, std::vector<std::string> folders)
        : inner_(inner), folders_(std::move(folders)) {}
    Result<Volume> create(const VolumeRequest& request, std::stop_token stop) override {
        return looked_at(inner_.create(request, std::move(stop)), request.vm, request.role);
    }
    Result<Volume> activate(const Volume& volume, const UniqueFd& base,
                            std::stop_token stop) override {
        return looked_at(inner_.activate(volume, base, std::move(stop)), volume.vm, volume.role);
    }
    Result<void> deactivate(const VmId& vm) override { return inner_.deactivate(vm); }
    Result<Volume> resize(const Volume& volume, ByteCount size, std::stop_token stop) override {
        return looked_at(inner_.resize(volume, size, std::move(stop)), volume.vm, volume.role);
    }
    Result<VolumeUsage> usage(const Volume& volume) override { return inner_.usage(volume); }
    Result<void> remove(const VmId& vm) override { return inner_.remove(vm); }
    Result<std::vector<VmId>> recover(std::span<const Volume> remembered) override {
        return only_remembered(inner_.recover(remembered), remembered);
    }
    StorageCloning* cloning() override { return inner_.cloning() != nullptr ? this : nullptr; }
    std::vector<Check> checks(std::stop_token stop) override {
        return inner_.checks(std::move(stop));
    }

private:
    Result<Volume> clone(const Volume& source, const VmId& target, std::stop_token stop) override {
        return looked_at(inner_.cloning()->clone(source, target, std::move(stop)), target,
                         source.role);
    }
    [[nodiscard]] Result<Volume> looked_at(Result<Volume> volume, const VmId& vm,
                                           VolumeRole role) const {
        if (!volume) return volume;
        const std::unique_ptr<char, decltype(&std::free)> real(
            ::realpath(volume->path.c_str(), nullptr), &std::free);
        const bool is_inside = real && volume->path == real.get() &&
                               std::ranges::any_of(folders_, [&](const std::string& folder) {
                                   return volume->path.starts_with(folder + "/");
                               });
        if (volume->vm != vm || volume->role != role)
            return Error(Errc::corrupt, "the storage plugin made a disk of another machine",
                         "Choose another storage plugin, and tell the author of this one.");
        if (is_inside) return volume;
        return Error(Errc::corrupt,
                     "the storage plugin made a disk of " + banger::quoted(volume->path) +
                         ", which is no file in its own folders",
                     "Choose another storage plugin, and tell the author of this one.");
    }
    Storage& inner_;
    const std::vector<std::string> folders_;
};

}  // namespace

std::unique_ptr<ImageSource> guard(ImageSource& inner) {
    return std::make_unique<GuardedImageSource>(inner);
}

std::unique_ptr<Network> guard(Network& inner) { return std::make_unique<GuardedNetwork>(inner); }

std::unique_ptr<Storage> guard(Storage& inner, std::vector<std::string> folders) {
    // As realpath(3) will say it of what lies in them.
    for (std::string& folder : folders) {
        const std::unique_ptr<char, decltype(&std::free)> real(::realpath(folder.c_str(), nullptr),
                                                               &std::free);
        if (real) folder = real.get();
    }
    return std::make_unique<GuardedStorage>(inner, std::move(folders));
}

}  // namespace banger::plugin_host
