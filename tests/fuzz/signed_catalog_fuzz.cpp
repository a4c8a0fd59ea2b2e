#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/base/file.hpp"
#include "core/catalog/added.hpp"

namespace {

using namespace banger;
using namespace banger::catalog;

class NoCall final : public Call {
public:
    [[nodiscard]] std::stop_token stop() const override { return {}; }
    void report(const Progress&) override {}
};

const KeyPair& key() {
    static const KeyPair pair = KeyPair::make().value();
    return pair;
}

std::string folder() {
    static std::string path = [] {
        std::string made = "/tmp/banger-fuzz-XXXXXX";
        if (::mkdtemp(made.data()) == nullptr) std::abort();
        return made;
    }();
    return path;
}

}  // namespace

/// A server says whatever it likes, about the catalog and about its signature: nothing is kept
/// unless the pinned key signed it. The input is both, with a zero byte between; when there is
/// none, the catalog is signed as it should be, so that what comes after the signature is reached.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const std::size_t cut = input.find('\0');
    const bool is_signed = cut == std::string_view::npos;
    const std::string text(input.substr(0, cut));
    const std::string signature =
        is_signed ? sign(text, key().private_pem)->text() : std::string(input.substr(cut + 1));
    (void)Signature::parse(signature);
    (void)PublicKey::parse(signature);
    AddedCatalogs catalogs(
        folder(),
        [&](const std::string& url, ByteCount limit, Call&) -> Result<std::string> {
            const std::string& answer = url.ends_with(".sig") ? signature : text;
            if (answer.size() > limit.count()) return Error(Errc::corrupt, "too large");
            return answer;
        },
        [] { return std::chrono::sys_seconds(std::chrono::seconds(1800000000)); });
    NoCall call;
    const Result<AddedCatalogs::Added> added =
        catalogs.add({"https://a.example/", "a", key().public_key.text()}, call);
    if (!added) {
        if (added.error().remedy.empty()) __builtin_trap();
        return 0;
    }
    if (!added->catalog || !is_signed || catalogs.list().size() != 1 ||
        !(catalogs.list()[0] == *added->catalog))
        __builtin_trap();
    if (!catalogs.remove("a")) __builtin_trap();
    return 0;
}
