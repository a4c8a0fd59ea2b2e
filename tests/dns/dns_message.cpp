#include "tests/dns/dns_message.hpp"

#include <gtest/gtest.h>

namespace banger::dns {

void put16(Bytes& bytes, unsigned value) {
    bytes.push_back(static_cast<std::uint8_t>(value >> 8U));
    bytes.push_back(static_cast<std::uint8_t>(value & 0xffU));
}

Bytes wire_name(std::string_view name) {
    Bytes bytes;
    for (std::size_t start = 0; start < name.size();) {
        const std::string_view label = name.substr(start, name.find('.', start) - start);
        bytes.push_back(static_cast<std::uint8_t>(label.size()));
        bytes.insert(bytes.end(), label.begin(), label.end());
        start += label.size() + 1;
    }
    bytes.push_back(0);
    return bytes;
}

Bytes Query::bytes() const {
    Bytes bytes;
    const unsigned options = edns_size ? edns_count : 0;
    for (const unsigned field : {id, flags, questions, 0U, 0U, options})
        put16(bytes, field);
    for (unsigned i = 0; i < questions; ++i) {
        const Bytes wire = wire_name(name);
        bytes.insert(bytes.end(), wire.begin(), wire.end());
        put16(bytes, type);
        put16(bytes, klass);
    }
    for (unsigned i = 0; i < options; ++i) {
        bytes.push_back(0);
        put16(bytes, 41);
        put16(bytes, *edns_size);
        put16(bytes, edns_version);  // extended code 0, version
        put16(bytes, wants_dnssec ? 0x8000U : 0U);
        put16(bytes, 0);
    }
    return bytes;
}

namespace {

class Reader {
public:
    explicit Reader(const Bytes& bytes) : bytes_(bytes) {}
    unsigned get8() {
        if (at_ < bytes_.size()) return bytes_[at_++];
        ADD_FAILURE() << "the message ends at " << at_;
        return 0;
    }
    unsigned get16() {
        const unsigned high = get8();
        return high << 8U | get8();
    }
    std::uint32_t get32() {
        const std::uint32_t high = get16();
        return high << 16U | get16();
    }
    std::string name() {
        std::string text;
        std::optional<std::size_t> back;
        for (int jumps = 0; jumps < 8;) {
            const unsigned length = get8();
            if (length == 0) break;
            if (length >= 0xc0) {
                const std::size_t target = (length & 0x3fU) << 8U | get8();
                if (!back) back = at_;
                at_ = target;
                ++jumps;
                continue;
            }
            if (!text.empty()) text += '.';
            for (unsigned i = 0; i < length; ++i)
                text += static_cast<char>(get8());
        }
        if (back) at_ = *back;
        return text;
    }
    std::vector<Record> records(unsigned count) {
        std::vector<Record> all;
        for (unsigned i = 0; i < count; ++i) {
            Record record;
            record.name = name();
            record.type = get16();
            record.klass = get16();
            record.ttl = get32();
            const unsigned size = get16();
            for (unsigned j = 0; j < size; ++j)
                record.data.push_back(static_cast<std::uint8_t>(get8()));
            all.push_back(record);
        }
        return all;
    }
    [[nodiscard]] bool is_at_end() const { return at_ == bytes_.size(); }

private:
    const Bytes& bytes_;
    std::size_t at_ = 0;
};

}  // namespace

Message read_message(const Bytes& bytes) {
    Reader reader(bytes);
    Message message;
    message.id = reader.get16();
    message.flags = reader.get16();
    message.questions = reader.get16();
    const unsigned answers = reader.get16();
    const unsigned authority = reader.get16();
    const unsigned additional = reader.get16();
    for (unsigned i = 0; i < message.questions; ++i) {
        message.question = reader.name();
        message.type = reader.get16();
        EXPECT_EQ(reader.get16() & 0xff00U, 0u) << "the class that was asked for";
    }
    message.answers = reader.records(answers);
    message.authority = reader.records(authority);
    message.additional = reader.records(additional);
    EXPECT_TRUE(reader.is_at_end()) << "bytes after the message";
    EXPECT_NE(message.flags & 0x8000U, 0u) << "no response";
    EXPECT_EQ(message.flags & 0x00f0U, 0u) << "RA, Z, AD or CD is set";
    return message;
}

unsigned Message::code() const {
    const Record* options = edns();
    return (flags & 0xfU) | (options ? options->ttl >> 24U << 4U : 0U);
}

const Record* Message::edns() const {
    for (const Record& record : additional)
        if (record.type == 41) return &record;
    return nullptr;
}

}  // namespace banger::dns
