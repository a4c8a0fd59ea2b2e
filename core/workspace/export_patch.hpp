#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/values.hpp"
#include "core/workspace/copy_in.hpp"

namespace banger::workspace {

struct ExportRequest {
    std::string guest_path;
    std::string base;  ///< commit that the patch applies to; the guest has it
    ByteCount limit = ByteCount::gib(2);
};

/// Has the guest's own git write one binary patch of everything that differs from the base:
/// commits, edits, untracked files that are not ignored. The guest's index and files stay as they
/// are, and no git of this host looks at what the guest has written.
///
/// The patch goes to `sink` in pieces, as it comes; the count of its bytes is returned. All of it
/// is the guest's word: it is bounded and has to begin as a patch does, nothing more is known of
/// it. After an error the sink has got a part that is worth nothing.
Result<std::uint64_t> export_patch(const ExportRequest& request, const GuestShell& shell,
                                   const std::function<Result<void>(std::string_view)>& sink,
                                   std::stop_token stop);

}  // namespace banger::workspace
