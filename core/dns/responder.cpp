#include "core/dns/responder.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <list>
#include <string>
#include <vector>

#include "core/dns/authority.hpp"

namespace banger::dns {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using boost::system::error_code;

namespace {

/// Datagrams answered before other work of the I/O thread gets its turn.
constexpr int portion = 64;
/// After accept(2) failed for want of descriptors or memory.
constexpr std::chrono::milliseconds accept_pause{200};
constexpr int tries_for_a_port = 16;
constexpr std::size_t frame = 2;  // the length in front of each message (RFC 1035, section 4.2.2)

Error bind_error(const error_code& error, std::string_view protocol, const DnsZone& where) {
    const std::string place = std::string(protocol) + " port " + std::to_string(where.port) +
                              " on " + where.server.text();
    if (error == asio::error::address_in_use)
        return {Errc::in_use, place + " is taken by another program",
                "See which with `ss -lntup 'sport = :" + std::to_string(where.port) +
                    "'`, and end it or set dns_port to another port."};
    return Error::from_errno(error.value(), "opening " + place);
}

}  // namespace

/// One TCP connection: read, answer everything that is complete, write, read on.
class Session : public std::enable_shared_from_this<Session> {
public:
    Session(tcp::socket socket, std::shared_ptr<Responder::Inside> owner);
    void begin();
    void close();
    std::list<std::shared_ptr<Session>>::iterator place;

private:
    void read();
    void handle(std::size_t size);
    void write();
    void be_patient();
    void end();

    tcp::socket socket_;
    asio::steady_timer patience_;
    std::shared_ptr<Responder::Inside> owner_;
    std::array<std::uint8_t, frame + max_query> input_{};
    std::size_t filled_ = 0;
    std::vector<std::uint8_t> output_;
};

class Responder::Inside : public std::enable_shared_from_this<Responder::Inside> {
public:
    Inside(asio::io_context& io, DnsZone where, Authority authority, ResponderLimits limits)
        : where_(std::move(where)),
          authority_(std::move(authority)),
          limits_(limits),
          io_(io),
          udp_(io),
          tcp_(io),
          accept_again_(io) {}

    Result<void> open();
    void begin() {
        wait_for_datagrams();
        accept();
    }
    void close();
    void forget(const Session& session) {
        if (is_open_) sessions_.erase(session.place);
    }

    [[nodiscard]] const DnsZone& where() const { return where_; }
    [[nodiscard]] const Authority& authority() const { return authority_; }
    [[nodiscard]] const ResponderLimits& limits() const { return limits_; }
    [[nodiscard]] bool is_open() const { return is_open_; }
    [[nodiscard]] asio::io_context& io() { return io_; }
    [[nodiscard]] ResponderCounts counts() const {
        ResponderCounts all = counts_;
        all.connections = sessions_.size();
        return all;
    }
    void count(bool was_answered) { ++(was_answered ? counts_.answered : counts_.dropped); }

private:
    Result<bool> try_to_bind();
    void wait_for_datagrams();
    bool answer_datagram();
    void accept();

    DnsZone where_;
    Authority authority_;
    ResponderLimits limits_;
    asio::io_context& io_;
    udp::socket udp_;
    tcp::acceptor tcp_;
    asio::steady_timer accept_again_;
    std::list<std::shared_ptr<Session>> sessions_;  ///< the oldest first
    ResponderCounts counts_;
    std::array<std::uint8_t, max_query> query_{};
    std::array<std::uint8_t, max_answer> answer_{};
    bool is_open_ = true;
};

// ---- opening -----------------------------------------------------------------------------------

Result<void> Responder::Inside::open() {
    for (int tries = where_.port == 0 ? tries_for_a_port : 1;; --tries) {
        if (BANGER_TRY(try_to_bind())) return ok();
        if (tries == 1) return bind_error(asio::error::address_in_use, "TCP", where_);
    }
}

/// False: UDP is bound, and its port is taken for TCP.
Result<bool> Responder::Inside::try_to_bind() {
    const asio::ip::address address = asio::ip::address_v4(where_.server.bits());
    error_code error;
    udp_ = udp::socket(io_);
    tcp_ = tcp::acceptor(io_);
    (void)udp_.open(udp::v4(), error);
    if (!error) (void)udp_.non_blocking(true, error);
    if (!error) (void)udp_.bind({address, where_.port}, error);
    if (error) return bind_error(error, "UDP", where_);
    const std::uint16_t port = udp_.local_endpoint(error).port();
    (void)tcp_.open(tcp::v4(), error);
    // Connections of the daemon before this one may linger. Two listeners still exclude each other.
    if (!error) (void)tcp_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) (void)tcp_.bind({address, port}, error);
    if (!error) (void)tcp_.listen(asio::socket_base::max_listen_connections, error);
    if (error == asio::error::address_in_use) return false;
    if (error) return bind_error(error, "TCP", where_);
    where_.port = port;
    return true;
}

void Responder::Inside::close() {
    is_open_ = false;
    error_code ignored;
    (void)udp_.close(ignored);
    (void)tcp_.close(ignored);
    accept_again_.cancel();
    for (const std::shared_ptr<Session>& session : sessions_)
        session->close();
    sessions_.clear();
}

// ---- UDP ---------------------------------------------------------------------------------------

void Responder::Inside::wait_for_datagrams() {
    udp_.async_wait(udp::socket::wait_read, [self = shared_from_this()](const error_code& error) {
        if (error == asio::error::operation_aborted || !self->is_open_) return;
        for (int i = 0; i < portion && self->answer_datagram(); ++i)
            ;
        self->wait_for_datagrams();
    });
}

/// False when there is none. Straight system calls: Asio's would cost an allocation and a turn of
/// the loop for each.
bool Responder::Inside::answer_datagram() {
    sockaddr_in peer{};
    socklen_t peer_size = sizeof peer;
    auto* address = reinterpret_cast<sockaddr*>(&peer);  // NOLINT: the sockets API is like that
    const ssize_t size = ::recvfrom(udp_.native_handle(), query_.data(), query_.size(), MSG_TRUNC,
                                    address, &peer_size);
    // Anything but "none": the error of an earlier answer that did not arrive.
    if (size < 0) return errno != EAGAIN && errno != EWOULDBLOCK;
    std::size_t answer = 0;
    if (static_cast<std::size_t>(size) <= query_.size() && peer.sin_port != 0)
        answer = authority_.answer({query_.data(), static_cast<std::size_t>(size)}, Transport::udp,
                                   answer_);
    count(answer != 0);
    // An answer that finds no room is lost; who asked asks again.
    if (answer != 0)
        (void)::sendto(udp_.native_handle(), answer_.data(), answer, 0, address, peer_size);
    return true;
}

// ---- TCP ---------------------------------------------------------------------------------------

void Responder::Inside::accept() {
    tcp_.async_accept([self = shared_from_this()](const error_code& error, tcp::socket socket) {
        if (error == asio::error::operation_aborted || !self->is_open_) return;
        if (error) {
            self->accept_again_.expires_after(accept_pause);
            self->accept_again_.async_wait([self](const error_code& cancelled) {
                if (!cancelled && self->is_open_) self->accept();
            });
            return;
        }
        if (self->sessions_.size() >= self->limits_.connections) {
            self->sessions_.front()->close();
            self->sessions_.pop_front();
            self->count(false);
        }
        const std::shared_ptr<Session> session = std::make_shared<Session>(std::move(socket), self);
        session->place = self->sessions_.insert(self->sessions_.end(), session);
        session->begin();
        self->accept();
    });
}

Session::Session(tcp::socket socket, std::shared_ptr<Responder::Inside> owner)
    : socket_(std::move(socket)), patience_(owner->io()), owner_(std::move(owner)) {}

void Session::begin() {
    be_patient();
    read();
}

/// For the owner, who forgets it by itself.
void Session::close() {
    error_code ignored;
    (void)socket_.close(ignored);
    patience_.cancel();
}

void Session::end() {
    if (!socket_.is_open()) return;
    close();
    owner_->forget(*this);
}

void Session::be_patient() {
    patience_.expires_after(owner_->limits().patience);
    patience_.async_wait([self = shared_from_this()](const error_code& error) {
        if (!error) self->end();
    });
}

void Session::read() {
    socket_.async_read_some(asio::buffer(input_.data() + filled_, input_.size() - filled_),
                            [self = shared_from_this()](const error_code& error, std::size_t size) {
                                if (!self->socket_.is_open()) return;
                                if (error) return self->end();
                                self->handle(size);
                            });
}

/// Answers every query that is complete. What is none, or too long for one, ends the connection: a
/// stream that is out of step does not find back.
void Session::handle(std::size_t size) {
    filled_ += size;
    std::size_t at = 0;
    while (filled_ - at >= frame) {
        const std::size_t length = std::size_t{input_[at]} << 8U | input_[at + 1];
        if (length > max_query) {
            owner_->count(false);
            return end();
        }
        if (filled_ - at < frame + length) break;
        std::array<std::uint8_t, max_answer> answer;
        const std::size_t answered = owner_->authority().answer(
            std::span(input_).subspan(at + frame, length), Transport::tcp, answer);
        owner_->count(answered != 0);
        if (answered == 0) return end();
        output_.push_back(static_cast<std::uint8_t>(answered >> 8U));
        output_.push_back(static_cast<std::uint8_t>(answered & 0xffU));
        output_.insert(output_.end(), answer.begin(),
                       answer.begin() + static_cast<std::ptrdiff_t>(answered));
        at += frame + length;
    }
    std::copy(input_.begin() + static_cast<std::ptrdiff_t>(at),
              input_.begin() + static_cast<std::ptrdiff_t>(filled_), input_.begin());
    filled_ -= at;
    output_.empty() ? read() : write();
}

void Session::write() {
    asio::async_write(socket_, asio::buffer(output_),
                      [self = shared_from_this()](const error_code& error, std::size_t) {
                          if (!self->socket_.is_open()) return;
                          if (error) return self->end();
                          self->output_.clear();
                          self->be_patient();
                          self->read();
                      });
}

// ---- Responder ---------------------------------------------------------------------------------

Responder::Responder(std::shared_ptr<Inside> inside) : inside_(std::move(inside)) {}

Responder::~Responder() { inside_->close(); }

Result<std::unique_ptr<Responder>> Responder::open(asio::io_context& io, const DnsZone& where,
                                                   const NameTable& names, ResponderLimits limits) {
    if (where.server.bits() >> 24U != 127)
        return Error(Errc::invalid_argument, where.server.text() + " is not a loopback address",
                     "Names are for this host alone: use 127.0.0.1.");
    Authority authority = BANGER_TRY(Authority::make(where.zone, names));
    std::shared_ptr<Inside> inside =
        std::make_shared<Inside>(io, where, std::move(authority), limits);
    BANGER_TRY(inside->open());
    inside->begin();
    return std::unique_ptr<Responder>(new Responder(std::move(inside)));
}

const DnsZone& Responder::where() const { return inside_->where(); }
ResponderCounts Responder::counts() const { return inside_->counts(); }

}  // namespace banger::dns
