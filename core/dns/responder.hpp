#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "banger/dns.hpp"
#include "banger/result.hpp"
#include "core/dns/name_table.hpp"

namespace boost::asio {
class io_context;
}

namespace banger::dns {

struct ResponderLimits {
    /// TCP connections at once; a further one takes the place of the oldest.
    std::size_t connections = 64;
    /// A connection that has not finished a query, or not taken its answer, for this long is
    /// closed.
    std::chrono::milliseconds patience{10'000};
};

/// What came in since the start. Read on the I/O thread.
struct ResponderCounts {
    std::uint64_t answered = 0;
    std::uint64_t dropped = 0;  ///< datagrams and connections that got no answer
    std::size_t connections = 0;
};

/// Answers for one zone over UDP and TCP on one loopback address, from a table that others write.
///
/// Lives on the thread that runs the io_context and never blocks it: sockets are non-blocking, a
/// burst of datagrams is answered in portions, each TCP connection has a query and its answer in
/// memory and no more. Queries on one connection are answered in order (RFC 7766).
///
/// Nothing that a client sends is an error of ours, so that there is no log: count() has the sum.
class Responder {
public:
    /// Binds both sockets; with port 0 the kernel chooses one that is free for both. The table and
    /// the io_context outlive this.
    ///
    /// Errors: in_use (the message names the address and port), invalid_argument (an address that
    /// is none of loopback's, a bad zone), permission_denied (a port under 1024).
    static Result<std::unique_ptr<Responder>> open(boost::asio::io_context& io,
                                                   const DnsZone& where, const NameTable& names,
                                                   ResponderLimits limits = {});
    /// Closes everything at once. The io_context may have been stopped.
    ~Responder();
    Responder(const Responder&) = delete;
    Responder& operator=(const Responder&) = delete;

    /// With the port that was chosen.
    [[nodiscard]] const DnsZone& where() const;
    [[nodiscard]] ResponderCounts counts() const;

    class Inside;  ///< in responder.cpp

private:
    explicit Responder(std::shared_ptr<Inside> inside);
    std::shared_ptr<Inside> inside_;
};

}  // namespace banger::dns
