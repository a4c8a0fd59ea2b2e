#pragma once

#include <memory>
#include <span>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "banger/values.hpp"

struct evp_md_ctx_st;

namespace banger {

/// SHA-256 of bytes that come piece by piece.
class Sha256 {
public:
    Sha256();
    void add(std::span<const char> bytes);
    /// Of everything added so far; more may follow.
    [[nodiscard]] Digest digest() const;

private:
    struct Free {
        void operator()(evp_md_ctx_st* context) const;
    };
    std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace banger
