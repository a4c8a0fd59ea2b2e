#pragma once

#include "banger/result.hpp"
#include "core/store/records.hpp"

/// What states mean to core/vms. Internal to this folder.
namespace banger {

inline bool is_live(VmState state) {
    return state == VmState::running || state == VmState::paused || state == VmState::starting ||
           state == VmState::stopping;
}

inline Error not_running(const VmRecord& vm) {
    if (vm.state == VmState::deleting)
        return {Errc::wrong_state, vm.name.str() + " is being deleted",
                "Finish that: banger vm delete " + vm.name.str()};
    return {Errc::wrong_state, vm.name.str() + " is not running",
            "Start it: banger vm start " + vm.name.str()};
}

}  // namespace banger
