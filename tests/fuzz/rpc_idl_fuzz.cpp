#include "core/rpc/idl.hpp"
#include "core/rpc/server.hpp"

using namespace banger;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);  // NOLINT
    const Result<rpc::Idl> idl = rpc::Idl::parse(text);
    if (!idl) return 0;
    rpc::Interface interface(idl->name, text);
    interface.method<rpc::Nothing, rpc::Nothing>(
        "List", [](const rpc::Nothing&) -> Result<rpc::Nothing> { return rpc::Nothing{}; });
    static_cast<void>(rpc::disagreements(interface));
    return 0;
}
