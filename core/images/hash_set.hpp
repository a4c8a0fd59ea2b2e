#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

namespace banger::images {

/// FNV-1a, 64 bits: of a path it gives the hash of each leading part on the way.
constexpr std::uint64_t hash_of_nothing = 0xcbf29ce484222325;
constexpr std::uint64_t hash_on(std::uint64_t hash, std::string_view text) {
    for (const char c : text)
        hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return hash;
}

/// Hashes alone, eight to sixteen bytes each, up to a limit. Where a hash stands is drawn by chance
/// (multiply-shift), so that no image can be made whose names all meet in one place; what the set
/// answers does not depend on it.
class HashSet {
public:
    explicit HashSet(std::size_t limit) : limit_(limit) {}

    [[nodiscard]] bool contains(std::uint64_t hash) const {
        return !slots_.empty() && slots_[slot_of(hash)] != 0;
    }
    /// False when it is full.
    bool insert(std::uint64_t hash) {
        if (contains(hash)) return true;
        if (count_ == limit_) return false;
        if (++count_ * 2 > slots_.size()) grow();
        slots_[slot_of(hash)] = stored(hash);
        return true;
    }
    void clear() {
        slots_.clear();
        count_ = 0;
    }

private:
    static std::uint64_t stored(std::uint64_t hash) { return hash == 0 ? 1 : hash; }
    [[nodiscard]] std::size_t slot_of(std::uint64_t hash) const {
        const std::uint64_t wanted = stored(hash);
        const std::size_t mask = slots_.size() - 1;
        std::size_t i = (wanted * multiplier_ >> 32) & mask;
        while (slots_[i] != 0 && slots_[i] != wanted)
            i = (i + 1) & mask;
        return i;
    }
    void grow() {
        std::vector<std::uint64_t> old(slots_.empty() ? 1024 : slots_.size() * 2);
        old.swap(slots_);
        for (const std::uint64_t each : old)
            if (each != 0) slots_[slot_of(each)] = each;
    }

    static std::uint64_t random_odd() {
        std::random_device source;
        return (std::uint64_t{source()} << 32 | source()) | 1;
    }

    std::size_t limit_;
    std::size_t count_ = 0;
    std::uint64_t multiplier_ = random_odd();
    std::vector<std::uint64_t> slots_;
};

}  // namespace banger::images
