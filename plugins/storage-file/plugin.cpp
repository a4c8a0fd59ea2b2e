#include "banger/plugin.hpp"

#include "plugins/storage-file/file_storage.hpp"

namespace banger {
namespace {

class FileStoragePlugin final : public Plugin {
public:
    explicit FileStoragePlugin(Host& host) : storage_(host) {}
    Roles roles() override { return {.storage = &storage_}; }

private:
    FileStorage storage_;
};

Result<std::unique_ptr<Plugin>> make_file_storage(Host& host) {
    return std::unique_ptr<Plugin>(std::make_unique<FileStoragePlugin>(host));
}

}  // namespace
}  // namespace banger

BANGER_PLUGIN("storage-file", banger::make_file_storage);
