#include "fake_plugin.hpp"

#include "core/base/file.hpp"

namespace banger {

namespace {

template <class T>
T setting(const Host& host, std::string_view key, T fallback) {
    const auto at = host.settings().find(key);
    const T* value = at == host.settings().end() ? nullptr : std::get_if<T>(&at->second);
    return value ? *value : fallback;
}

Result<std::string> folder(const std::string& parent, const char* name) {
    const std::string path = parent + "/" + name;
    BANGER_TRY(ensure_private_folder(path));
    return path;
}

}  // namespace

Result<std::unique_ptr<FakePlugin>> FakePlugin::make(Host& host) {
    std::unique_ptr<FakePlugin> plugin(new FakePlugin);
    using Words = std::vector<std::string>;
    BANGER_TRY(
        plugin->failpoints_.arm(setting(host, "fail", Words{}), setting(host, "hang", Words{})));
    std::optional<Ipv4Prefix> pool;
    if (setting(host, "addressing", std::string("pool")) == "pool")
        pool = BANGER_TRY(Ipv4Prefix::parse(setting(host, "pool", std::string("10.99.0.1/24"))));
    std::string vmm = setting(host, "vmm", std::string());
    if (vmm.empty()) vmm = FAKE_VMM;

    const std::string& run = host.run_folder();
    const std::string& state = host.state_folder();
    Failpoints& failpoints = plugin->failpoints_;
    plugin->network_.emplace(BANGER_TRY(folder(run, "net")), pool, failpoints);
    plugin->dns_.emplace(BANGER_TRY(folder(run, "dns")), failpoints);
    plugin->storage_.emplace(BANGER_TRY(folder(state, "disks")), failpoints);
    plugin->image_source_.emplace(failpoints);
    plugin->vm_backend_.emplace(BANGER_TRY(folder(run, "vms")),
                                BANGER_TRY(folder(state, "consoles")), vmm, failpoints);
    return plugin;
}

}  // namespace banger
