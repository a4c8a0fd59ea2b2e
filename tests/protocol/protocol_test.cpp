#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/protocol/artifact_fields.hpp"
#include "core/protocol/catalog_fields.hpp"
#include "core/protocol/exec_fields.hpp"
#include "core/protocol/plugin_fields.hpp"
#include "core/protocol/system_fields.hpp"
#include "core/protocol/vm_fields.hpp"
#include "core/rpc/idl.hpp"
#include "core/rpc/server.hpp"
#include "varlink/io.banger.Bundle.hpp"
#include "varlink/io.banger.Catalog.hpp"
#include "varlink/io.banger.Image.hpp"
#include "varlink/io.banger.Kernel.hpp"
#include "varlink/io.banger.System.hpp"
#include "varlink/io.banger.Vm.hpp"

namespace banger::protocol {
namespace {

using rpc::disagreements;
using rpc::Interface;
using testing::IsEmpty;

/// A method with these types; never called.
template <class In, class Out>
void declare(Interface& interface, const char* name) {
    interface.method<In, Out>(name, [](const In&) -> Result<Out> {
        return Error(Errc::internal, "declared for its types alone");
    });
}

TEST(Protocol, VmIsAsItsTextSays) {
    Interface vm("io.banger.Vm", varlink::io_banger_Vm);
    declare<PlanVm, PlanVmReply>(vm, "Plan");
    declare<CreateVm, CreateVmReply>(vm, "Create");
    declare<ListVms, ListVmsReply>(vm, "List");
    declare<NamedVm, VmReply>(vm, "Show");
    declare<NamedVm, CreateVmReply>(vm, "Start");
    declare<NamedVm, StopVmReply>(vm, "Stop");
    declare<KillVm, VmReply>(vm, "Kill");
    declare<SetVm, SetVmReply>(vm, "Set");
    declare<NamedVm, StatsOfVmReply>(vm, "Stats");
    declare<NamedVm, PortsOfVmReply>(vm, "Ports");
    declare<DeleteVm, DeleteVmReply>(vm, "Delete");
    declare<SetWorkspace, VmReply>(vm, "SetWorkspace");
    declare<HealthOfVm, HealthOfVmReply>(vm, "Health");
    declare<ExecInVm, ExecInVmReply>(vm, "Exec");
    declare<LogsOfVm, LogsOfVmReply>(vm, "Logs");
    EXPECT_THAT(disagreements(vm), IsEmpty());
}

TEST(Protocol, ImageIsAsItsTextSays) {
    Interface image("io.banger.Image", varlink::io_banger_Image);
    declare<NoParameters, ListImagesReply>(image, "List");
    declare<NoParameters, AvailableReply>(image, "Available");
    declare<NamedArtifact, ShowImageReply>(image, "Show");
    declare<PullImage, PullImageReply>(image, "Pull");
    declare<NamedArtifact, DetailsReply>(image, "Details");
    declare<RegisterImage, PullImageReply>(image, "Register");
    declare<NamedArtifact, PullImageReply>(image, "Promote");
    declare<SetImageKernel, SetImageKernelReply>(image, "SetKernel");
    declare<PruneCache, PruneCacheReply>(image, "PruneCache");
    declare<NamedArtifact, DeleteImageReply>(image, "Delete");
    EXPECT_THAT(disagreements(image), IsEmpty());
}

TEST(Protocol, KernelIsAsItsTextSays) {
    Interface kernel("io.banger.Kernel", varlink::io_banger_Kernel);
    declare<NoParameters, ListKernelsReply>(kernel, "List");
    declare<NoParameters, AvailableReply>(kernel, "Available");
    declare<NamedArtifact, ShowKernelReply>(kernel, "Show");
    declare<PullArtifact, PullKernelReply>(kernel, "Pull");
    declare<ImportKernel, PullKernelReply>(kernel, "Import");
    declare<NamedArtifact, DeleteKernelReply>(kernel, "Delete");
    EXPECT_THAT(disagreements(kernel), IsEmpty());
}

TEST(Protocol, BundleIsAsItsTextSays) {
    Interface bundle("io.banger.Bundle", varlink::io_banger_Bundle);
    declare<PublishBundle, PublishBundleReply>(bundle, "Publish");
    EXPECT_THAT(disagreements(bundle), IsEmpty());
}

TEST(Protocol, CatalogIsAsItsTextSays) {
    Interface catalog("io.banger.Catalog", varlink::io_banger_Catalog);
    declare<NoParameters, ListCatalogsReply>(catalog, "List");
    declare<AddCatalog, AddCatalogReply>(catalog, "Add");
    declare<NamedCatalog, RemoveCatalogReply>(catalog, "Remove");
    declare<NamedCatalog, UpdateCatalogReply>(catalog, "Update");
    declare<SignCatalog, SignCatalogReply>(catalog, "Sign");
    declare<NoParameters, MakeKeyReply>(catalog, "MakeKey");
    EXPECT_THAT(disagreements(catalog), IsEmpty());
}

TEST(Protocol, SystemIsAsItsTextSays) {
    Interface system("io.banger.System", varlink::io_banger_System);
    declare<rpc::Nothing, SystemInfoReply>(system, "Info");
    declare<rpc::Nothing, PluginsReply>(system, "Plugins");
    declare<RetryPlugin, NoReply>(system, "RetryPlugin");
    declare<rpc::Nothing, SafeModeReply>(system, "SafeMode");
    declare<rpc::Nothing, DiskUsageReply>(system, "DiskUsage");
    declare<rpc::Nothing, DoctorReply>(system, "Doctor");
    declare<rpc::Nothing, NoReply>(system, "Exit");
    EXPECT_THAT(disagreements(system), IsEmpty());
}

TEST(Protocol, OptionalFieldsMayBeLeftOut) {
    const Result<CreateVm> create = rpc::decode_text<CreateVm>(
        R"({"request":{"name":"sandbox","image":null,"authorized_keys":[]},"start":false})");
    ASSERT_TRUE(create) << create.error().text();
    EXPECT_EQ(create->request.name, "sandbox");
    EXPECT_EQ(create->request.image, std::nullopt);
    EXPECT_FALSE(create->start);
}

}  // namespace
}  // namespace banger::protocol
