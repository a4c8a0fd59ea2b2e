#include "banger/plugin.hpp"

#include "plugins/storage-dm/dm_storage.hpp"
#include "plugins/storage-dm/kernel_devices.hpp"

namespace banger {
namespace {

class DmStoragePlugin final : public Plugin {
public:
    static Result<std::unique_ptr<Plugin>> make(Host& host) {
        auto plugin = std::make_unique<DmStoragePlugin>();
        plugin->storage_ = BANGER_TRY(DmStorage::open(host, plugin->devices_, {}));
        return std::unique_ptr<Plugin>(std::move(plugin));
    }
    Roles roles() override { return {.storage = storage_.get()}; }

private:
    dm::KernelDevices devices_;
    std::unique_ptr<DmStorage> storage_;
};

}  // namespace
}  // namespace banger

BANGER_PLUGIN("storage-dm", banger::DmStoragePlugin::make);
