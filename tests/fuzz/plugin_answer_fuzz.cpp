#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/file.hpp"
#include "core/plugin_host/guarded_roles.hpp"
#include "core/plugin_host/messages.hpp"
#include "core/remote/proxies.hpp"
#include "core/remote/server.hpp"
#include "core/remote/web.hpp"
#include "core/rpc/message.hpp"
#include "require.hpp"

using namespace banger;

namespace {

class QuietCall final : public Call {
public:
    [[nodiscard]] std::stop_token stop() const override { return {}; }
    void report(const Progress& progress) override { require(progress.stage.size() < 4096); }
};

class NoWeb final : public remote::WebRole {
public:
    Result<remote::WebAnswer> get(const remote::WebCall&, const UniqueFd&, Call&) override {
        return Error(Errc::permission_denied, "no");
    }
    Result<remote::WebAnswer> download(const remote::WebCall&, const UniqueFd&, Call&) override {
        return Error(Errc::permission_denied, "no");
    }
};

/// What core speaks of.
struct Core {
    PluginName name = PluginName::parse("p").value();
    VmId vm = VmId::parse("0123456789ab").value();
    VmName box = VmName::parse("box").value();
    LinkRequest link{vm, box, MacAddress::of(vm), Ipv4Address(0x0a63000f), false, 0, {}};
    NetworkLink known{
        vm, LinkKind::user, "", link.mac, Ipv4Prefix::parse("10.99.0.15/24").value(), {},
        {}, false,          {}};
    DnsRecord record{vm, box, Ipv4Address(0x0a63000f)};
    std::string folder = make_folder();
    Volume volume{vm, VolumeRole::root, folder + "/disk", DiskFormat::raw, ByteCount::mib(1)};
    UniqueFd base{::memfd_create("base", MFD_CLOEXEC)};
    UniqueFd place{::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    NoWeb web;
    remote::Server server{{{PluginName::parse("core").value(), {}, {}, &web}}, {}, {}};

    static std::string make_folder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "fuzz-XXXXXX").string();
        require(::mkdtemp(pattern.data()) != nullptr);
        require(write_file_atomic(pattern + "/disk", "d", 0600).has_value());
        require(::symlink("/etc/passwd", (pattern + "/link").c_str()) == 0);
        return pattern;
    }
};

/// Core's side of one connection to a plugin in a process of its own.
struct Session {
    Session(const Core& given, rpc::PacketChannel channel)
        : core(given), next(std::move(channel)) {}
    const Core& core;
    rpc::PacketChannel next;
    std::unique_ptr<remote::RemotePlugin> plugin =
        remote::RemotePlugin::open(
            remote::Client::make(
                [this]() -> Result<rpc::PacketChannel> {
                    if (!next.socket()) return Error(Errc::unavailable, "it has ended", "None.");
                    return std::exchange(next, rpc::PacketChannel{UniqueFd()});
                },
                {.connections = 1},
                {.name = "the plugin p", .is_asked_again = false, .remedy = "None."},
                {"0",
                 {{core.name,
                   {Role::network, Role::dns, Role::storage, Role::image_source},
                   {Ipv4Prefix::parse("10.99.0.1/24").value()},
                   true,
                   false,
                   false,
                   {}}}}),
            "p")
            .value();
    Dns* dns = plugin->roles().dns;
    std::unique_ptr<Network> network = plugin_host::guard(*plugin->roles().network);
    std::unique_ptr<Storage> storage = plugin_host::guard(*plugin->roles().storage, {core.folder});
    std::unique_ptr<ImageSource> images = plugin_host::guard(*plugin->roles().image_source);
};

/// A call of core's; what it believes of the answer is what it may believe.
template <class T>
void check_error(const Result<T>& result) {
    if (!result) require(!result.error().message.empty());
}
void check_volume(const Core& core, const Result<Volume>& result) {
    check_error(result);
    if (result) require(result->path == core.folder + "/disk" && result->vm == core.vm);
}
void check_lost(const Core& core, const Result<std::vector<VmId>>& lost) {
    check_error(lost);
    if (lost)
        for (const VmId& vm : *lost)
            require(vm == core.vm);
}

ArtifactManifest manifest() {
    ArtifactManifest made;
    made.reference = "p:x";
    made.suggested_name = "x";
    made.architecture = "amd64";
    made.parts.push_back({PartFormat::tar_layer, std::nullopt, std::nullopt, "x"});
    return made;
}

using Ask = void (*)(Session&);
constexpr std::array<Ask, 17> asks = {
    [](Session& s) {
        const Result<NetworkLink> link = s.network->attach(s.core.link, {});
        check_error(link);
        if (link) require(link->vm == s.core.vm);
    },
    [](Session& s) { check_error(s.network->detach(s.core.vm)); },
    [](Session& s) {
        check_lost(s.core, s.network->recover({&s.core.known, 1}));
    },
    [](Session& s) { s.network->checks({}); },
    [](Session& s) { check_error(s.dns->publish(s.core.record, {})); },
    [](Session& s) {
        check_error(s.dns->recover({&s.core.record, 1}));
    },
    [](Session& s) {
        check_volume(s.core, s.storage->create({s.core.vm,
                                                VolumeRole::root,
                                                s.core.base.get(),
                                                ByteCount::mib(1),
                                                {DiskFormat::raw},
                                                0},
                                               {}));
    },
    [](Session& s) { check_volume(s.core, s.storage->activate(s.core.volume, s.core.base, {})); },
    [](Session& s) {
        check_volume(s.core, s.storage->resize(s.core.volume, ByteCount::mib(2), {}));
    },
    [](Session& s) { check_error(s.storage->usage(s.core.volume)); },
    [](Session& s) {
        check_lost(s.core, s.storage->recover({&s.core.volume, 1}));
    },
    [](Session& s) {
        check_volume(s.core, s.storage->cloning()->clone(s.core.volume, s.core.vm, {}));
    },
    [](Session& s) {
        QuietCall call;
        check_error(s.images->resolve({ArtifactKind::image, "p:x", "amd64"}, call));
    },
    [](Session& s) {
        QuietCall call;
        const UniqueFd sink(::memfd_create("sink", MFD_CLOEXEC));
        check_error(s.images->fetch(manifest(), 0, 0, sink, call));
    },
    [](Session& s) {
        QuietCall call;
        check_error(s.images->available(call));
    },
    [](Session& s) { s.images->checks({}); },
    [](Session& s) { s.storage->checks({}); },
};

/// With the plugin's folder in the place of each '@'.
std::string with_folder(std::string_view line, const std::string& folder) {
    std::string text;
    for (const char c : line)
        c == '@' ? text += folder : text += c;
    return text;
}

std::size_t open_descriptors() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
        ++count;
    return count;
}

}  // namespace

/// A hostile plugin, as core hears it. The first byte says what core asks ('a' and on: a method of
/// a role; '<': what the plugin is; '>': the plugin asks core for the web). Each line after that is
/// a packet of the plugin's; its first byte's lowest bits say which descriptors come with it.
/// An '@' is its folder. Whatever comes, core has a value that it may believe or an error with a
/// message, and nothing stays open.
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    static Core* const core = new Core;
    if (size < 2) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);  // NOLINT
    if (data[0] == '<') {
        const Result<plugin_host::Started> started = plugin_host::read_started(text);
        if (!started)
            require(started.error().code == Errc::corrupt ||
                    started.error().code == Errc::unavailable);
        return 0;
    }
    auto ends = rpc::PacketChannel::pair().value();
    const auto soon = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        const std::string_view line = text.substr(at, end - at);
        at = end + 1;
        if (line.size() < 2) continue;
        const std::string packet = with_folder(line.substr(1), core->folder);
        if (packet.size() > rpc::max_packet_bytes) continue;
        std::vector<int> descriptors;
        if ((line[0] & 1) != 0) descriptors.push_back(core->base.get());
        if ((line[0] & 2) != 0) descriptors.push_back(core->place.get());
        // The peer reads nothing yet: only so much goes in.
        const int socket = ends.second.socket().get();
        ::fcntl(socket, F_SETFL, O_NONBLOCK);
        if (!ends.second.send(packet, descriptors, std::chrono::steady_clock::now())) break;
    }
    const std::size_t before = open_descriptors();
    if (data[0] == '>') {
        // Until it has read everything, and closed.
        ::shutdown(ends.second.socket().get(), SHUT_WR);
        core->server.add(std::move(ends.first));
        while (ends.second.receive(soon, {}))
            continue;
        return 0;
    }
    ::shutdown(ends.second.socket().get(), SHUT_WR);
    {
        Session session(*core, std::move(ends.first));
        asks[static_cast<unsigned char>(data[0] - 'a') % asks.size()](session);
    }
    // Fewer when the server closes what it had of an input before.
    require(open_descriptors() <= before - 1);
    return 0;
}
