#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "core/catalog/added.hpp"
#include "core/config/config.hpp"
#include "core/images/image_store.hpp"
#include "core/plugins/registry.hpp"
#include "core/rpc/server.hpp"
#include "core/scopes/scopes.hpp"
#include "core/store/store.hpp"
#include "core/vms/auto_stop.hpp"
#include "core/vms/machines.hpp"
#include "core/vms/publisher.hpp"
#include "daemons/bangerd/names.hpp"

/// The tables of methods that bangerd serves: each turns wire structs into calls of core and back,
/// and nothing else. What the methods mean is written in core/protocol/*.varlink.
namespace banger {

/// `zone` is what names resolve below ("vm"), or empty when the host's resolver is not led there.
/// `uses`, where somebody wants to know, learns which machine each call is about.
rpc::Interface vm_interface(Machines& machines, Store& store, MachineUses* uses, std::string zone);
rpc::Interface image_interface(ImageStore& images, Store& store,
                               const catalog::AddedCatalogs& catalogs,
                               std::function<void(LogLevel, const std::string&)> log);
rpc::Interface kernel_interface(ImageStore& images, Store& store,
                                const catalog::AddedCatalogs& catalogs,
                                std::function<void(LogLevel, const std::string&)> log);
rpc::Interface bundle_interface(Publisher& publisher, Store& store);
rpc::Interface catalog_interface(catalog::AddedCatalogs& catalogs, Store& store);

struct SystemParts {
    Registry& registry;
    Store& store;
    Names& names;
    const Config& config;
    const Paths& paths;
    std::chrono::steady_clock::time_point started;
    std::function<void()> leave;
    const Scopes* scopes = nullptr;  ///< nothing where VMMs get none
    ImageStore& images;
    Machines& machines;
    bool is_safe_mode = false;
};
rpc::Interface system_interface(SystemParts parts);

/// Runs `work` and writes its beginning and its end into the history.
template <class Work>
auto recorded(Store& store, std::string_view kind, const std::string& subject, Work work)
    -> decltype(work()) {
    const Result<std::int64_t> id = store.begin_operation(kind, subject);
    auto result = work();
    // History is for people: failing to write it is no reason to fail the work.
    if (id) (void)store.end_operation(*id, result ? nullptr : &result.error());
    return result;
}

}  // namespace banger
