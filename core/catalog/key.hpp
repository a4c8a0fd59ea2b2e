#pragma once

#include <string>
#include <string_view>

#include "banger/result.hpp"

/// Who made a catalog: Ed25519 (RFC 8032) over the bytes of its file.
namespace banger::catalog {

/// A public key, written "ed25519:" and the base64 of its 32 bytes. Short enough to be its own
/// fingerprint.
class PublicKey {
public:
    /// That form, or PEM ("-----BEGIN PUBLIC KEY-----"), as `openssl pkey -pubout` writes it.
    static Result<PublicKey> parse(std::string_view text);
    [[nodiscard]] const std::string& text() const { return text_; }
    friend bool operator==(const PublicKey&, const PublicKey&) = default;

private:
    explicit PublicKey(std::string text) : text_(std::move(text)) {}
    std::string text_;
};

struct KeyPair {
    std::string private_pem;  ///< PKCS #8, as `openssl genpkey -algorithm ed25519` writes it
    std::string public_pem;
    PublicKey public_key;
    /// From the kernel's random source.
    static Result<KeyPair> make();
};

/// What lies beside a catalog as NAME.sig: two lines of text.
///
///     key: ed25519:BASE64
///     signature: BASE64
///
/// The key is there to be shown and compared; what counts is the one that was pinned.
struct Signature {
    PublicKey key;
    std::string base64;  ///< of 64 bytes

    static Result<Signature> parse(std::string_view text);
    [[nodiscard]] std::string text() const;
    /// Whether its key made it over exactly these bytes.
    [[nodiscard]] bool fits(std::string_view bytes) const;
};

inline constexpr std::size_t max_signature_text = 4096;

/// Errc::invalid_argument when the PEM is no unencrypted Ed25519 private key.
Result<Signature> sign(std::string_view bytes, std::string_view private_pem);

}  // namespace banger::catalog
