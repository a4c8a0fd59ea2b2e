#pragma once

/// Whoever includes the header of a suite gets its tests out of the library
/// (`banger::plugin-contract`), although no name of theirs is used: an archive gives only what is
/// referred to.
#define BANGER_CONTRACT_SUITE(role)           \
    extern const bool role##_suite_is_linked; \
    [[gnu::used]] inline const bool* const role##_suite_anchor = &role##_suite_is_linked
