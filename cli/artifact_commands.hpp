#pragma once

#include <functional>
#include <optional>
#include <string>

#include "cli/render/progress.hpp"
#include "cli/session.hpp"

/// What images and kernels have in common.
namespace banger::cli {

void print_available(const std::vector<protocol::Available>& available, const Arguments& arguments,
                     Terminal& terminal, const std::string& group);

/// Pulls with progress; the cancelled and the failed end likewise for both.
template <class Reply>
Result<Reply> pull_artifact(Session& session, Context& context, const Arguments& arguments,
                            const std::string& method) {
    protocol::PullArtifact request;
    request.reference = arguments.words[0];
    request.name = arguments.value("name");
    request.refresh = arguments.has("refresh");
    ProgressView progress(context.terminal, arguments.has("quiet"));
    return session.daemon.call<Reply>(
        method, request, {.on_progress = [&](const Progress& now) { progress.show(now); }});
}

/// The commands of one group, of which only the functions differ.
struct ArtifactCommands {
    std::string group;   ///< "image"
    std::string holder;  ///< "IMAGE..."
    std::string sample;  ///< "debian-bookworm"
    std::string about;   ///< of the group
    std::string list_details;
    std::string pull_details;
    decltype(Command::run) list;
    decltype(Command::run) show;
    decltype(Command::run) pull;
    decltype(Command::run) remove;
};
void add_artifact_commands(CommandTable& table, const ArtifactCommands& commands);

}  // namespace banger::cli
