#include "daemons/bangerd/names.hpp"

#include "core/dns/probe.hpp"

namespace banger {

Names::Names(Parts parts) : parts_(std::move(parts)), dns_(names_, parts_.resolver) {}

Names::~Names() { close(); }

void Names::open() {
    is_open_ = true;
    Result<std::unique_ptr<dns::Responder>> responder =
        dns::Responder::open(parts_.io, parts_.zone, names_);
    if (responder) {
        responder_ = std::move(*responder);
    } else {
        failure_ = responder.error();
        parts_.log(LogLevel::warning, "machine names will not resolve: " + failure_->text());
    }
    leading_ = std::jthread([this](const std::stop_token& stop) { lead(stop); });
}

/// Whoever has our port now must not be asked for our names, though a daemon before led there.
void Names::lead(const std::stop_token& stop) {
    const Result<void> led =
        responder_ ? dns_.route(responder_->where(), stop) : parts_.resolver.unroute();
    if (led || led.error().code == Errc::cancelled) return;
    parts_.log(LogLevel::warning,
               "the host's resolver is not led to banger's names: " + led.error().text());
}

void Names::close() {
    if (!is_open_) return;
    is_open_ = false;
    leading_.request_stop();
    leading_.join();
    const Result<void> taken_back = dns_.unroute();
    if (!taken_back) parts_.log(LogLevel::warning, taken_back.error().text());
    responder_.reset();
}

std::vector<Check> Names::checks(std::stop_token stop) {
    if (!is_open_) return {};
    if (!responder_)
        return {{"dns responder", CheckStatus::fail, failure_->message, failure_->remedy}};
    return dns::check_resolution(responder_->where(), names_, parts_.is_led, std::move(stop));
}

}  // namespace banger
