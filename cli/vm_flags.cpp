#include "cli/vm_flags.hpp"

#include <charconv>
#include <string>

#include "banger/values.hpp"
#include "cli/render/text.hpp"

namespace banger::cli {

Result<std::optional<std::uint64_t>> size_flag(const Arguments& arguments, std::string_view name) {
    const std::optional<std::string> text = arguments.value(name);
    if (!text) return std::optional<std::uint64_t>();
    const ByteCount size =
        BANGER_TRY(ByteCount::parse(*text).context("reading --" + std::string(name)));
    return std::optional<std::uint64_t>(size.count());
}

Result<std::optional<std::uint32_t>> count_flag(const Arguments& arguments, std::string_view name) {
    const std::optional<std::string> text = arguments.value(name);
    if (!text) return std::optional<std::uint32_t>();
    std::uint32_t count = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), count);
    if (error != std::errc() || end != text->data() + text->size() || count == 0 || count > 256)
        return Error(Errc::invalid_argument,
                     "--" + std::string(name) + " cannot be \"" + printable(*text) + "\"",
                     "Give a whole number from 1 to 256");
    return std::optional<std::uint32_t>(count);
}

}  // namespace banger::cli
