#pragma once

#include <functional>
#include <optional>
#include <string>

#include "cli/reference.hpp"
#include "cli/render/progress.hpp"
#include "cli/session.hpp"
#include "core/protocol/artifact_fields.hpp"

/// What images and kernels have in common.
namespace banger::cli {

void print_available(const std::vector<protocol::Available>& available, const Arguments& arguments,
                     Terminal& terminal, const std::string& group);

constexpr const char* pull_cancelled = "cancelled; the next pull goes on from here where it can";

/// The user's file as the daemon has to be told: it has a working folder of its own.
std::string absolute_path(const std::string& path);

/// Makes an image or a kernel, with progress. An interrupt ends it with Errc::cancelled.
template <class Reply, class Request>
Result<Reply> make_artifact(Session& session, Context& context, const Arguments& arguments,
                            const std::string& method, const Request& request,
                            const Interrupts& interrupts) {
    ProgressView progress(context.terminal, arguments.has("quiet"));
    return session.daemon.call<Reply>(
        method, request,
        {.on_progress = [&](const Progress& now) { progress.show(now); },
         .stop_fd = interrupts.fd()});
}

/// The commands of one group, of which only the functions differ.
struct ArtifactCommands {
    std::string group;   ///< "image"
    std::string holder;  ///< "IMAGE..."
    std::string sample;  ///< "debian-bookworm"
    std::string about;   ///< of the group
    std::string list_details;
    std::string pull_details;
    decltype(CommandSpec::run) list;
    decltype(CommandSpec::run) show;
    decltype(CommandSpec::run) pull;
    decltype(CommandSpec::run) remove;
    std::vector<Option> pull_options = {};  ///< besides those that both have
};
void add_artifact_commands(CommandTable& table, const ArtifactCommands& commands);
void add_df_command(CommandTable& table);  ///< system df: most of it is images

}  // namespace banger::cli
