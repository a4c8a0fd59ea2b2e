#pragma once

#include <memory>
#include <string>
#include <utility>

#include "core/remote/client.hpp"
#include "core/remote/marshal.hpp"

namespace banger::remote {

/// One plugin at the other end. For proxies.cpp and web.cpp.
class Peer {
public:
    Peer(std::shared_ptr<Client> client, std::string plugin)
        : client_(std::move(client)), plugin_(std::move(plugin)) {}

    /// Calls a method of the table.
    template <auto member, class... Given>
    auto call(Given&&... given) const {
        using Types = Signature<decltype(member)>;
        constexpr const auto& entry = entry_of<member>();
        Outgoing out{entry.parameters.data(), descriptor_kind<member>, {}, {}, {}, nullptr};
        Types::write(out, std::forward<Given>(given)...);
        if (out.failure)
            return Outcome<typename Types::Return>::read(*std::move(out.failure), plugin_);
        return Outcome<typename Types::Return>::read(
            client_->call({plugin_ + "/" + std::string(entry.name),
                           rpc::Json(std::move(out.parameters)), std::move(out.descriptors),
                           entry.again, std::move(out.stop), out.call}),
            plugin_);
    }

private:
    std::shared_ptr<Client> client_;
    std::string plugin_;
};

}  // namespace banger::remote
