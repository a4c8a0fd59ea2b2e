#pragma once

#include <string>

#include "banger/contract/subject.hpp"
#include "banger/contract/suite.hpp"
#include "banger/storage.hpp"
#include "banger/unique_fd.hpp"

namespace banger::contract {

BANGER_CONTRACT_SUITE(storage);

using StorageSubject = Subject<Storage>;

class StorageContract : public Suite<StorageSubject> {
protected:
    void SetUp() override;
    void TearDown() override;
    /// A request for a disk of `size` with the base below, in any format.
    VolumeRequest request(const VmId& vm, VolumeRole role = VolumeRole::root,
                          ByteCount size = ByteCount::mib(8));
    Result<Volume> create(const VmId& vm, VolumeRole role = VolumeRole::root);
    /// The first bytes of a raw volume; nothing for another format.
    static std::optional<std::string> head_of(const Volume& volume);

    /// 1 MiB with something at both ends, in a file of its own.
    std::string folder_;
    UniqueFd base_;
    static constexpr std::uint64_t base_size = 1 << 20;
    static constexpr std::string_view base_head = "the bytes the disk starts with";
};

}  // namespace banger::contract
