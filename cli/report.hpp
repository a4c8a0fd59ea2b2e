#pragma once

#include <string>
#include <vector>

#include "cli/session.hpp"

/// `banger doctor --report`: what a bug report needs, without what is nobody's business.
namespace banger::cli {

/// What stands for this user and host, and is replaced wherever it appears.
struct PrivateWords {
    std::string home;  ///< becomes ~
    std::string user;  ///< becomes USER; "root" and the like say nothing and stay
    std::string host;  ///< becomes HOST, except "localhost" and names under 4 letters
};

/// Text without keys, tokens, passwords and credentials in addresses, mail addresses, and the
/// private words. Rather too much than too little: what looks like a secret goes. Pure.
std::string without_secrets(const std::string& text, const PrivateWords& words);

/// The whole report. What cannot be found out is said in its place.
std::string bug_report(Session& session, const protocol::DoctorReply& doctor);

}  // namespace banger::cli
