#include "plugins/net-bridge/link_record.hpp"

#include <charconv>
#include <limits>

namespace banger {

namespace {

Error damaged(std::string_view word) {
    return {Errc::corrupt, "the record of a link is damaged at \"" + std::string(word) + "\"",
            "Stop the machine and start it again."};
}

/// Takes the line "WORD VALUE" off the text.
Result<std::string> take_line(std::string_view& text, std::string_view word) {
    const std::size_t end = text.find('\n');
    if (end == text.npos || end <= word.size() || !text.starts_with(word) ||
        text[word.size()] != ' ')
        return damaged(word);
    std::string value(text.substr(word.size() + 1, end - word.size() - 1));
    text.remove_prefix(end + 1);
    return value;
}

template <class Number>
Result<Number> take_number(std::string_view& text, std::string_view word) {
    const std::string value = BANGER_TRY(take_line(text, word));
    Number number{};
    const char* const end = value.data() + value.size();
    const auto [at, error] = std::from_chars(value.data(), end, number);
    if (error != std::errc() || at != end || number < 0 || value.empty()) return damaged(word);
    return number;
}

Result<bool> take_choice(std::string_view& text, std::string_view word, std::string_view yes,
                         std::string_view no) {
    const std::string value = BANGER_TRY(take_line(text, word));
    if (value != yes && value != no) return damaged(word);
    return value == yes;
}

using State = LinkRecord::State;

std::string_view word_of(State state) {
    return state == State::making ? "making" : state == State::made ? "made" : "leaving";
}

Result<State> take_state(std::string_view& text) {
    const std::string value = BANGER_TRY(take_line(text, "state"));
    for (const State state : {State::making, State::made, State::leaving})
        if (value == word_of(state)) return state;
    return damaged("state");
}

}  // namespace

std::string key_of(const VmId& vm) { return "vm-" + vm.str(); }

std::string format_link(const LinkRecord& record) {
    return "state " + std::string(word_of(record.state)) + "\nvm " + record.vm.str() + "\ndevice " +
           record.device + "\nindex " + std::to_string(record.index) + "\nowner " +
           std::to_string(record.owner) + "\nmac " + record.mac.text() + "\naddress " +
           record.address.text() + "\nnat " + (record.nat ? "yes" : "no") + "\n";
}

Result<LinkRecord> parse_link(std::string_view text) {
    const State state = BANGER_TRY(take_state(text));
    const std::string id = BANGER_TRY(take_line(text, "vm"));
    const std::string device = BANGER_TRY(take_line(text, "device"));
    const int index = BANGER_TRY(take_number<int>(text, "index"));
    const auto owner = BANGER_TRY(take_number<std::int64_t>(text, "owner"));
    const std::string mac_text = BANGER_TRY(take_line(text, "mac"));
    const std::string address_text = BANGER_TRY(take_line(text, "address"));
    const bool nat = BANGER_TRY(take_choice(text, "nat", "yes", "no"));
    const Result<VmId> vm = VmId::parse(id);
    const Result<MacAddress> mac = MacAddress::parse(mac_text);
    const Result<Ipv4Address> address = Ipv4Address::parse(address_text);
    if (!vm) return damaged("vm");
    if (device.empty() || device.size() > 15) return damaged("device");
    if (owner > std::numeric_limits<std::uint32_t>::max()) return damaged("owner");
    if (!mac) return damaged("mac");
    if (!address) return damaged("address");
    if (!text.empty()) return damaged("end");
    return LinkRecord{state, *vm,      device, index, static_cast<std::uint32_t>(owner),
                      *mac,  *address, nat};
}

}  // namespace banger
