#include "core/images/sha256.hpp"

#include <openssl/evp.h>

#include <array>
#include <cstdlib>
#include <string>

namespace banger {

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

// Every OpenSSL that banger links has SHA-256; without memory for 200 bytes nothing else goes on.
Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) std::abort();
}

void Sha256::add(std::span<const char> bytes) {
    EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size());
}

Digest Sha256::digest() const {
    const std::unique_ptr<evp_md_ctx_st, Free> copy(EVP_MD_CTX_new());
    std::array<unsigned char, 32> hash{};
    if (!copy || EVP_MD_CTX_copy_ex(copy.get(), context_.get()) != 1 ||
        EVP_DigestFinal_ex(copy.get(), hash.data(), nullptr) != 1)
        std::abort();
    std::string text = "sha256:";
    for (const unsigned char byte : hash) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return Digest::parse(text).value();
}

}  // namespace banger
