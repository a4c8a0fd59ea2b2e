// The fakes as a privileged plugin: those roles that bangerd-root serves, with ways to misbehave
// that the fakes themselves do not have.

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "fake_plugin.hpp"

namespace banger {

namespace {

/// The fake network, but attach() of a machine called as its misdeed does it first.
class MisbehavingNetwork final : public Network {
public:
    explicit MisbehavingNetwork(Network& inner) : inner_(inner) {}
    [[nodiscard]] Addressing addressing() const override { return inner_.addressing(); }
    Result<NetworkLink> attach(const LinkRequest& request, std::stop_token stop) override {
        const std::string& deed = request.name.str();
        if (deed == "throws") throw std::runtime_error("as it was told");
        if (deed == "aborts") std::abort();
        if (deed == "blocks")
            while (true)
                ::pause();
        return inner_.attach(request, std::move(stop));
    }
    Result<void> detach(const VmId& vm) override { return inner_.detach(vm); }
    Result<std::vector<VmId>> recover(std::span<const NetworkLink> remembered) override {
        return inner_.recover(remembered);
    }
    std::vector<Check> checks(std::stop_token stop) override {
        return inner_.checks(std::move(stop));
    }

private:
    Network& inner_;
};

class FakeRootPlugin final : public Plugin {
public:
    FakeRootPlugin(std::unique_ptr<FakePlugin> fakes, bool has_all)
        : fakes_(std::move(fakes)), network_(*fakes_->roles().network), has_all_(has_all) {}
    Roles roles() override {
        Roles roles = fakes_->roles();
        roles.network = &network_;
        if (has_all_) return roles;
        return {roles.network, roles.dns, roles.storage, nullptr, nullptr};
    }

private:
    std::unique_ptr<FakePlugin> fakes_;
    MisbehavingNetwork network_;
    bool has_all_;
};

Result<std::unique_ptr<Plugin>> make(Host& host) {
    const auto all = host.settings().find("all_roles");
    const bool has_all = all != host.settings().end() && std::get<bool>(all->second);
    return std::unique_ptr<Plugin>(
        std::make_unique<FakeRootPlugin>(BANGER_TRY(FakePlugin::make(host)), has_all));
}

}  // namespace

}  // namespace banger

BANGER_PLUGIN("fake-root", banger::make);
