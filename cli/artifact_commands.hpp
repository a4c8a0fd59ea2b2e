#pragma once

#include <functional>
#include <optional>
#include <string>

#include "cli/reference.hpp"
#include "cli/render/progress.hpp"
#include "cli/session.hpp"

/// What images and kernels have in common.
namespace banger::cli {

void print_available(const std::vector<protocol::Available>& available, const Arguments& arguments,
                     Terminal& terminal, const std::string& group);

constexpr const char* pull_cancelled = "cancelled; the next pull goes on from here where it can";

/// Pulls with progress. An interrupt ends it with Errc::cancelled.
template <class Reply>
Result<Reply> pull_artifact(Session& session, Context& context, const Arguments& arguments,
                            const std::string& method, const Interrupts& interrupts) {
    protocol::PullArtifact request;
    request.reference = BANGER_TRY(absolute_reference(arguments.words[0]));
    request.name = arguments.value("name");
    request.refresh = arguments.has("refresh");
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
};
void add_artifact_commands(CommandTable& table, const ArtifactCommands& commands);

}  // namespace banger::cli
