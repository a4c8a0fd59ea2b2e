#include "tests/vms/bench_of_fakes.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "core/base/file.hpp"

namespace banger {

namespace fs = std::filesystem;

namespace {

Config config_of_fakes() {
    Result<Config> config =
        parse_config({{"test.toml",
                       "[plugins]\n"
                       "network = \"fake\"\ndns = \"fake\"\nstorage = \"fake\"\n"
                       "vm_backend = \"fake\"\nimage_sources = [\"fake\"]\n"}},
                     {.mode = RunMode::user, .home = "/root", .default_ssh_key = "/root/key"});
    if (!config) ADD_FAILURE() << config.error().text();
    return config.value_or({});
}

template <class T>
T require(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().text());
    return std::move(*result);
}

}  // namespace

BenchOfFakes::BenchOfFakes(const std::string& folder, Before before)
    : folder_(folder), config_(config_of_fakes()) {
    store_ = require(Store::open(folder + "/state/banger.db"));
    RegistryOptions options;
    options.folders = {BANGER_PLUGINS};
    options.owner = ::geteuid();
    options.choice = {"fake", "fake", "fake", "fake", {"fake"}};
    options.own_folders = {folder + "/state/plugins", folder + "/cache", folder + "/run"};
    options.hooks.before = std::move(before);
    options.on_load = [this](const PluginName& name, const Roles& roles) {
        return recover_plugin(*store_, name, roles);
    };
    registry_ = require(Registry::open(std::move(options)));
    std::vector<NamedImageSource> sources;
    for (const auto& [name, source] : registry_->image_sources())
        sources.push_back({name.str(), source});
    images_ = std::make_unique<ImageStore>(
        *store_, std::move(sources),
        ImageStore::Places{folder + "/state/images", folder + "/state/kernels",
                           folder + "/state/templates", folder + "/blobs"});
    machines_ = std::make_unique<Machines>(Machines::Parts{
        .store = *store_,
        .registry = *registry_,
        .dns = registry_->dns(),
        .images = *images_,
        .config = config_,
        .folder = folder + "/state/vms",
        .agent = "/bin/true",  // never runs: the fake VMM boots nothing
        .host = {4, ByteCount::gib(8)},
        .home = folder + "/home",
        .watch =
            [this](const VmId& vm, const ProcessId& process, UniqueFd) {
                const std::lock_guard lock(mutex_);
                watched_.emplace_back(vm, process);
            },
        .log = [](LogLevel, const std::string&) {},
        .ready_deadline = std::chrono::seconds(20),
        .stop_deadline = std::chrono::seconds(10),
    });
    (void)require(images_->recover());
    recovered = machines_->recover();
}

BenchOfFakes::~BenchOfFakes() = default;

Result<VmRecord> BenchOfFakes::create(TestCall& call, const std::string& name, bool start) {
    CreateRequest request;
    request.name = *VmName::parse(name);
    request.image = "fake:small";
    request.sizes.vcpus = 1;
    request.sizes.disk = ByteCount::mib(64);
    request.sizes.system_overlay = ByteCount::mib(256);
    std::vector<StageTime> times;
    return machines_->create(request, start, call, times);
}

HostInventory BenchOfFakes::inventory() const {
    HostInventory found;
    for (const char* part : {"/state/plugins", "/state/vms", "/run"}) {
        std::error_code error;
        for (const fs::directory_entry& entry :
             fs::recursive_directory_iterator(folder_ + part, error))
            if (!entry.is_directory()) found.push_back(entry.path().string());
    }
    // A process of the fakes has their folder on its command line.
    for (const std::string& pid : *list_folder("/proc")) {
        if (pid.find_first_not_of("0123456789") != pid.npos || pid == std::to_string(::getpid()))
            continue;
        const Result<std::string> words =
            read_file("/proc/" + pid + "/cmdline", ByteCount::kib(64));
        if (words && words->find(folder_) != words->npos) found.push_back("process " + *words);
    }
    std::ranges::sort(found);
    return found;
}

std::vector<std::pair<VmId, ProcessId>> BenchOfFakes::watched() const {
    const std::lock_guard lock(mutex_);
    return watched_;
}

}  // namespace banger
