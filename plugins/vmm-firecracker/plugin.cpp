#include "banger/plugin.hpp"

#include "plugins/vmm-firecracker/firecracker_vm_backend.hpp"
#include "plugins/vmm-firecracker/systemd_launcher.hpp"

namespace banger {
namespace {

class FirecrackerPlugin final : public Plugin {
public:
    static Result<std::unique_ptr<Plugin>> make(Host& host) {
        auto plugin = std::make_unique<FirecrackerPlugin>();
        plugin->backend_ =
            BANGER_TRY(FirecrackerVmBackend::open(host, plugin->parts_, plugin->launcher_, {}));
        return std::unique_ptr<Plugin>(std::move(plugin));
    }
    Roles roles() override { return {.vm_backend = backend_.get()}; }

private:
    firecracker::KernelParts parts_;
    firecracker::SystemdLauncher launcher_;
    std::unique_ptr<FirecrackerVmBackend> backend_;
};

}  // namespace
}  // namespace banger

BANGER_PLUGIN("vmm-firecracker", banger::FirecrackerPlugin::make);
