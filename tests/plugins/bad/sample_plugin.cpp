// One small plugin, good as it stands. Each -D makes one thing about it wrong; CMakeLists.txt
// builds a library of each.

#include <stdexcept>

#include "banger/plugin.hpp"

#ifndef SAMPLE_NAME
#define SAMPLE_NAME "sample"
#endif
#ifndef SAMPLE_MAGIC
#define SAMPLE_MAGIC BANGER_PLUGIN_MAGIC
#endif
#ifndef SAMPLE_SIZE
#define SAMPLE_SIZE sizeof(banger_plugin_door)
#endif
#ifndef SAMPLE_API
#define SAMPLE_API BANGER_PLUGIN_API_VERSION
#endif
#ifndef SAMPLE_RESERVED
#define SAMPLE_RESERVED 0
#endif
#ifndef SAMPLE_TAG
#define SAMPLE_TAG banger::build_tag
#endif
#ifndef SAMPLE_CREATE
#define SAMPLE_CREATE create
#endif

#ifdef SAMPLE_UNDEFINED
void symbol_that_is_nowhere();
#endif

namespace {

using namespace banger;

class SampleNetwork final : public Network {
public:
    [[nodiscard]] Addressing addressing() const override { return {}; }
    Result<NetworkLink> attach(const LinkRequest&, std::stop_token) override {
        throw std::runtime_error("attach lost its temper");
    }
    Result<void> detach(const VmId&) override { throw 42; }
    Result<std::vector<VmId>> recover(std::span<const NetworkLink>) override {
        return std::vector<VmId>{};
    }
    std::vector<Check> checks(std::stop_token) override { throw std::runtime_error("checks too"); }
};

class SamplePlugin final : public Plugin {
public:
    Roles roles() override {
        Roles roles;
#ifdef SAMPLE_ROLES_THROW
        throw std::runtime_error("no roles");
#endif
#ifdef SAMPLE_UNDEFINED
        symbol_that_is_nowhere();
#endif
#ifndef SAMPLE_NO_ROLES
        roles.network = &network_;
#endif
        return roles;
    }

private:
    SampleNetwork network_;
};

[[maybe_unused]] Plugin* create(Host*, char*, std::size_t) { return new SamplePlugin; }
[[maybe_unused]] Plugin* create_null(Host*, char*, std::size_t) { return nullptr; }
[[maybe_unused]] Plugin* create_sentence(Host*, char* message, std::size_t capacity) {
    detail::copy_message("the moon is in the wrong phase", message, capacity);
    return nullptr;
}
/// Fills the whole buffer and ends it with nothing.
[[maybe_unused]] Plugin* create_endless(Host*, char* message, std::size_t capacity) {
    for (std::size_t i = 0; i < capacity; ++i)
        message[i] = 'x';
    return nullptr;
}
[[maybe_unused]] Plugin* create_throws(Host*, char*, std::size_t) {
    throw std::runtime_error("create lost its temper");
}
[[maybe_unused]] void destroy(Plugin* plugin) { delete plugin; }

}  // namespace

#if defined(SAMPLE_TINY)
extern "C" __attribute__((visibility("default"))) const std::uint32_t banger_plugin =
    BANGER_PLUGIN_MAGIC;
#elif !defined(SAMPLE_NO_SYMBOL)
extern "C" __attribute__((visibility("default"))) const banger_plugin_door banger_plugin;
const banger_plugin_door banger_plugin = {
    SAMPLE_MAGIC, SAMPLE_SIZE, SAMPLE_API,    SAMPLE_RESERVED,
    SAMPLE_TAG,   SAMPLE_NAME, SAMPLE_CREATE, destroy,
};
#endif
