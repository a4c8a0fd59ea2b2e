#include <cstddef>
#include <cstdint>
#include <string>

#include "plugins/vmm-firecracker/snapshot_file.hpp"
#include "tests/fuzz/require.hpp"

using namespace banger::firecracker;

/// A snapshot's head comes from the owner's file; the input is padded to its size.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string bytes(reinterpret_cast<const char*>(data), size);
    bytes.resize(snapshot_head_size, '\0');
    const banger::Result<SnapshotHead> head = decode_snapshot_head(bytes);
    if (!head) return 0;
    require(head->state_size <= largest_snapshot_state);
    require(head->memory_size <= largest_snapshot_memory);
    require(head->memory_offset() >= head->state_offset() + head->state_size);
    const banger::Result<std::string> again = encode(*head);
    require(again.has_value());
    require(decode_snapshot_head(*again).value() == *head);
    return 0;
}
