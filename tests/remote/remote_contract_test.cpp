// The fakes under the contract suites again, each call through a proxy, a packet channel and the
// role server: core cannot tell the difference. restart() is a server that went away and came back.

#include "core/remote/proxies.hpp"
#include "tests/fake/fake_subjects.hpp"
#include "tests/remote/served.hpp"

namespace banger::contract {

class RemoteWay final : public Way {
public:
    Roles lead(FakePlugin* plugin) override {
        if (plugin == nullptr) {
            served_.end();
            return {};
        }
        served_.serve({{PluginName::parse("fake").value(), plugin->roles(), {}}});
        if (!remote_) {
            auto client = remote::Client::open(served_.connect(), {}).value();
            remote_ = remote::RemotePlugin::open(std::move(client), "fake").value();
        }
        return remote_->roles();
    }

private:
    remote::Served served_;
    std::unique_ptr<remote::RemotePlugin> remote_;
};

BANGER_FAKE_CONTRACTS(Remote, RemoteWay);

}  // namespace banger::contract
