#pragma once

#include <string>

/// What runs in the guest: POSIX shell, with what the smallest images have (a shell, tar, and
/// mostly git). Values are quoted when they are put in. Internal to core/workspace.
namespace banger::workspace {

struct PrepareScript {
    std::string guest_path;
    std::string base;
    bool is_forced = false;
    bool is_readonly = false;
    std::string user_name;  ///< of the host's own git; empty: none
    std::string user_email;
};
/// Says "banger STATE GIT GZIP HAVE", waits for "go PACKING FILES OBJECTS", reads a tar archive,
/// says "banger done". STATE: new, incomplete, prepared, changed, foreign. GIT: git or no; GZIP:
/// gzip or no; HAVE: a commit whose files are all in .git already, or "-". PACKING: gzip or plain.
/// FILES: checkout when git in the guest makes what the archive lacks, else all. OBJECTS: keep when
/// those of HAVE are needed, else none. Anything that fails: "banger failed WHY".
std::string prepare_script(const PrepareScript& values);

/// Says "banger patch" and writes it, or "banger failed WHY" and stops.
std::string export_script(const std::string& guest_path, const std::string& base);

}  // namespace banger::workspace
