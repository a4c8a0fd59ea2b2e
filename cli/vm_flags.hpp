#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "cli/command.hpp"

/// Flags that several commands on machines have.
namespace banger::cli {

/// Bytes. Errc::invalid_argument for what is no size.
Result<std::optional<std::uint64_t>> size_flag(const Arguments& arguments, std::string_view name);
/// 1 to 256.
Result<std::optional<std::uint32_t>> count_flag(const Arguments& arguments, std::string_view name);

}  // namespace banger::cli
