#include "core/guest/ssh_host_key.hpp"

#include <openssl/evp.h>
#include <sys/random.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace banger::guest {

namespace {

using KeyBytes = std::array<unsigned char, 32>;

void append_u32(std::string& out, std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8)
        out += static_cast<char>((value >> shift) & 0xff);
}

/// RFC 4251, section 5: "string".
void append_string(std::string& out, std::string_view text) {
    append_u32(out, static_cast<std::uint32_t>(text.size()));
    out += text;
}

std::string_view as_text(std::span<const unsigned char> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string base64(std::string_view bytes) {
    std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                       reinterpret_cast<const unsigned char*>(bytes.data()),
                                       static_cast<int>(bytes.size()));
    out.resize(static_cast<std::size_t>(length));
    return out;
}

std::string armoured(std::string_view bytes) {
    const std::string text = base64(bytes);
    std::string out = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
    for (std::size_t at = 0; at < text.size(); at += 70)
        out += text.substr(at, 70) + "\n";
    return out + "-----END OPENSSH PRIVATE KEY-----\n";
}

struct KeyPair {
    KeyBytes seed{};
    KeyBytes point{};
};

Result<KeyPair> generate() {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
        EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"), EVP_PKEY_free);
    KeyPair pair;
    std::size_t seed_size = pair.seed.size();
    std::size_t point_size = pair.point.size();
    if (!key || EVP_PKEY_get_raw_private_key(key.get(), pair.seed.data(), &seed_size) != 1 ||
        EVP_PKEY_get_raw_public_key(key.get(), pair.point.data(), &point_size) != 1)
        return Error(Errc::internal, "OpenSSL made no Ed25519 key");
    return pair;
}

}  // namespace

Result<SshHostKey> generate_ssh_host_key(std::string_view comment) {
    const KeyPair pair = BANGER_TRY(generate());
    std::uint32_t check = 0;
    if (getrandom(&check, sizeof check, 0) != sizeof check)
        return Error(Errc::internal, "the kernel gave no random bytes");

    std::string public_blob;
    append_string(public_blob, "ssh-ed25519");
    append_string(public_blob, as_text(pair.point));

    // What would be encrypted: the same number twice tells whether it was decrypted right.
    std::string secret;
    append_u32(secret, check);
    append_u32(secret, check);
    secret += public_blob;
    append_string(secret, std::string(as_text(pair.seed)) + std::string(as_text(pair.point)));
    append_string(secret, comment);
    for (char pad = 1; secret.size() % 8 != 0; ++pad)
        secret += pad;

    std::string file("openssh-key-v1\0", 15);
    append_string(file, "none");  // cipher
    append_string(file, "none");  // key derivation
    append_string(file, "");
    append_u32(file, 1);  // one key
    append_string(file, public_blob);
    append_string(file, secret);

    return SshHostKey{
        .private_key = armoured(file),
        .public_key = "ssh-ed25519 " + base64(public_blob) + " " + std::string(comment)};
}

}  // namespace banger::guest
