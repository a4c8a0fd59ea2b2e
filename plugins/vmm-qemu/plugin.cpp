#include "banger/plugin.hpp"

#include "plugins/vmm-qemu/qemu_vm_backend.hpp"

namespace banger::qemu {
namespace {

class QemuPlugin final : public Plugin {
public:
    explicit QemuPlugin(Host& host) : backend_(host) {}
    Roles roles() override { return {.vm_backend = &backend_}; }

private:
    QemuVmBackend backend_;
};

Result<std::unique_ptr<Plugin>> make(Host& host) {
    return std::unique_ptr<Plugin>(std::make_unique<QemuPlugin>(host));
}

}  // namespace
}  // namespace banger::qemu

BANGER_PLUGIN("vmm-qemu", banger::qemu::make);
