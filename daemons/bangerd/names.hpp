#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "banger/dns.hpp"
#include "banger/host.hpp"
#include "core/dns/name_table.hpp"
#include "core/dns/responder.hpp"
#include "core/dns/responding_dns.hpp"

namespace boost::asio {
class io_context;
}

namespace banger {

/// Machine names on this host: the table, the responder that answers from it, and the plugin that
/// leads the host's resolver to the responder.
///
/// Machines do not depend on their names: a port that is taken, or a resolver that cannot be led,
/// is a warning in the log and a row of doctor.
class Names {
public:
    struct Parts {
        boost::asio::io_context& io;
        DnsZone zone;
        Dns& resolver;  ///< the plugin
        bool is_led;    ///< whether that plugin leads anybody, or names are `none`
        std::function<void(LogLevel, const std::string&)> log;
    };
    explicit Names(Parts parts);
    /// close().
    ~Names();
    Names(const Names&) = delete;
    Names& operator=(const Names&) = delete;

    /// What machines publish to.
    [[nodiscard]] Dns& dns() { return dns_; }
    /// The names that should resolve now; before open(), so that nobody is told that there are
    /// none.
    void fill(std::span<const DnsRecord> records) { names_.replace(records); }
    /// Begins to answer, on the thread of the io_context, and leads the resolver here in the
    /// background, since that may take seconds.
    void open();
    /// Takes the route back: while nobody answers, nobody should ask. Blocks for seconds at most.
    void close();

    /// Rows for doctor; none when names are not served. From a worker thread; blocks for seconds.
    std::vector<Check> checks(std::stop_token stop);

private:
    void lead(const std::stop_token& stop);

    Parts parts_;
    dns::NameTable names_;
    dns::RespondingDns dns_;
    std::unique_ptr<dns::Responder> responder_;
    std::optional<Error> failure_;  ///< why nobody answers
    bool is_open_ = false;
    std::jthread leading_;
};

}  // namespace banger
