#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/values.hpp"

namespace banger::firecracker {

/// The ledger's entry of a machine: written before anything of it is made, and again when its
/// process is known.
struct Record {
    std::uint32_t uid = 0;  ///< which the VMM runs as; nobody else has it meanwhile
    std::string program;    ///< file name of the firecracker it runs: a folder of the jail's path
    ByteCount console_limit;
    std::optional<ProcessId> process;
    friend bool operator==(const Record&, const Record&) = default;
};

/// Lines of "name value".
std::string encode(const Record& record);
/// Errc::corrupt for anything that encode() does not write.
Result<Record> decode_record(std::string_view text);

}  // namespace banger::firecracker
