#include "core/catalog/key.hpp"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <array>
#include <memory>
#include <optional>
#include <span>

namespace banger::catalog {

namespace {

constexpr std::string_view prefix = "ed25519:";
constexpr std::size_t key_size = 32;
constexpr std::size_t signature_size = 64;

template <auto function>
struct FreeBy {
    template <class T>
    void operator()(T* object) const {
        function(object);
    }
};
using Key = std::unique_ptr<EVP_PKEY, FreeBy<EVP_PKEY_free>>;
using Context = std::unique_ptr<EVP_MD_CTX, FreeBy<EVP_MD_CTX_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeBy<EVP_PKEY_CTX_free>>;
using Bio = std::unique_ptr<BIO, FreeBy<BIO_free_all>>;

const unsigned char* bytes_of(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

std::string to_base64(std::string_view raw) {
    std::string out((raw.size() + 2) / 3 * 4 + 1, '\0');
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes_of(raw),
                                       static_cast<int>(raw.size()));
    out.resize(static_cast<std::size_t>(length));
    return out;
}

/// Exactly `size` bytes in the one right spelling.
std::optional<std::string> from_base64(std::string_view text, std::size_t size) {
    if (text.size() != (size + 2) / 3 * 4) return std::nullopt;
    std::string raw(text.size(), '\0');
    const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(raw.data()), bytes_of(text),
                                       static_cast<int>(text.size()));
    if (length < 0) return std::nullopt;
    raw.resize(size);
    if (to_base64(raw) != text) return std::nullopt;
    return raw;
}

Error no_key() {
    return {Errc::invalid_argument, "this is no Ed25519 public key",
            "Give it as ed25519:…, as `banger catalog keygen` prints it, or as a PEM file."};
}

Key read_pem(std::string_view pem, bool is_private) {
    const Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    // An encrypted key would ask for its password on the terminal: an empty one is given instead.
    const auto no_password = [](char*, int, int, void*) { return 0; };
    Key key(is_private ? PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, nullptr)
                       : PEM_read_bio_PUBKEY(bio.get(), nullptr, no_password, nullptr));
    if (!key || EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519) return {};
    return key;
}

std::string public_text(const Key& key) {
    std::string raw(key_size, '\0');
    std::size_t size = raw.size();
    EVP_PKEY_get_raw_public_key(key.get(), reinterpret_cast<unsigned char*>(raw.data()), &size);
    return std::string(prefix) + to_base64(raw);
}

template <class Write>
std::string pem_of(const Write& write) {
    const Bio bio(BIO_new(BIO_s_mem()));
    write(bio.get());
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

/// The value of "NAME: VALUE\n" at the beginning, which is taken off.
std::optional<std::string_view> take_line(std::string_view& text, std::string_view name) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos || !text.starts_with(name)) return std::nullopt;
    const std::string_view value = text.substr(name.size(), end - name.size());
    text.remove_prefix(end + 1);
    return value;
}

}  // namespace

Result<PublicKey> PublicKey::parse(std::string_view text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
        text.remove_suffix(1);
    if (text.starts_with(prefix)) {
        if (!from_base64(text.substr(prefix.size()), key_size)) return no_key();
        return PublicKey(std::string(text));
    }
    if (text.size() > max_signature_text || !text.starts_with("-----BEGIN")) return no_key();
    const Key key = read_pem(std::string(text) + "\n", false);
    if (!key) return no_key();
    return PublicKey(public_text(key));
}

Result<KeyPair> KeyPair::make() {
    const KeyContext context(EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, nullptr));
    EVP_PKEY* made = nullptr;
    if (!context || EVP_PKEY_keygen_init(context.get()) != 1 ||
        EVP_PKEY_keygen(context.get(), &made) != 1)
        return Error(Errc::internal, "OpenSSL could not make an Ed25519 key");
    const Key key(made);
    PublicKey public_key = BANGER_TRY(PublicKey::parse(public_text(key)));
    return KeyPair{
        pem_of([&](BIO* bio) {
            PEM_write_bio_PKCS8PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
        }),
        pem_of([&](BIO* bio) { PEM_write_bio_PUBKEY(bio, key.get()); }), std::move(public_key)};
}

Result<Signature> Signature::parse(std::string_view text) {
    const Error damaged(Errc::corrupt, "the signature is not in the form that banger writes",
                        "Sign the catalog with `banger catalog sign`.");
    if (text.size() > max_signature_text) return damaged;
    const std::optional<std::string_view> key = take_line(text, "key: ");
    const std::optional<std::string_view> signature =
        key ? take_line(text, "signature: ") : std::nullopt;
    if (!key || !key->starts_with(prefix) || !signature || !text.empty() ||
        !from_base64(*signature, signature_size))
        return damaged;
    const Result<PublicKey> parsed = PublicKey::parse(*key);
    if (!parsed) return damaged;
    return Signature{*parsed, std::string(*signature)};
}

std::string Signature::text() const {
    return "key: " + key.text() + "\nsignature: " + base64 + "\n";
}

bool Signature::fits(std::string_view bytes) const {
    const std::optional<std::string> raw_key =
        from_base64(std::string_view(key.text()).substr(prefix.size()), key_size);
    const std::optional<std::string> raw = from_base64(base64, signature_size);
    if (!raw_key || !raw) return false;
    const Key public_key(
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes_of(*raw_key), key_size));
    const Context context(EVP_MD_CTX_new());
    return public_key && context &&
           EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, public_key.get()) == 1 &&
           EVP_DigestVerify(context.get(), bytes_of(*raw), raw->size(), bytes_of(bytes),
                            bytes.size()) == 1;
}

Result<Signature> sign(std::string_view bytes, std::string_view private_pem) {
    const Key key = read_pem(private_pem, true);
    if (!key)
        return Error(Errc::invalid_argument, "this is no Ed25519 private key without a password",
                     "Make one with `banger catalog keygen FILE`.");
    const Context context(EVP_MD_CTX_new());
    std::string raw(signature_size, '\0');
    std::size_t size = raw.size();
    if (!context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1 ||
        EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(raw.data()), &size,
                       bytes_of(bytes), bytes.size()) != 1 ||
        size != signature_size)
        return Error(Errc::internal, "OpenSSL could not sign");
    PublicKey public_key = BANGER_TRY(PublicKey::parse(public_text(key)));
    return Signature{std::move(public_key), to_base64(raw)};
}

}  // namespace banger::catalog
