#include <cstdlib>

#include "core/rpc/role_fields.hpp"

using namespace banger;

namespace {

/// What is accepted must come back the same: else two readers could take one text differently.
template <class T>
void decode_again(const rpc::Json& json) {
    const Result<T> value = rpc::decode<T>(json);
    if (!value) {
        static_cast<void>(rpc::decode<T>(json, "reply", rpc::Unknown::ignored));
        return;
    }
    const Result<T> again = rpc::decode_text<T>(rpc::encode_text(*value));
    if (!again || rpc::encode(*again) != rpc::encode(*value)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);  // NOLINT
    const Result<rpc::Json> json = rpc::Json::parse(text);
    if (!json) return 0;
    const Result<rpc::Json> again = rpc::Json::parse(json->text());
    if (!again || *again != *json) std::abort();
    if (rpc::Json::parse(json->pretty_text()).value() != *json) std::abort();
    decode_again<MachineSpec>(*json);
    decode_again<Resolution>(*json);
    decode_again<LinkRequest>(*json);
    decode_again<VolumeUsage>(*json);
    decode_again<BackendCapabilities>(*json);
    decode_again<Settings>(*json);
    decode_again<HttpRequest>(*json);
    decode_again<VmProcess>(*json);
    return 0;
}
