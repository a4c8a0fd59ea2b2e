#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "banger/values.hpp"

/// SHA-256 and base64 (RFC 4648, section 4) by OpenSSL. Pure; safe from any thread.
namespace banger::image_oci {

Digest digest_of(std::string_view bytes);

std::string base64(std::string_view bytes);
/// Nothing for what is no base64. Padding may be missing, white space may not be there.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace banger::image_oci
