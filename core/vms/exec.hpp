#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "banger/image_source.hpp"
#include "core/guest/agent_client.hpp"
#include "core/guest/exec_protocol.hpp"

namespace banger {

/// A command that somebody wants run through the agent; nothing where the image decides.
struct ExecWish {
    std::optional<std::vector<std::string>> command;  ///< nothing: a shell
    /// As the image is run, not as somebody looks into it: its entrypoint comes before the command,
    /// and stands in for a shell that it does not have.
    bool is_run = false;
    std::optional<std::vector<std::string>> entrypoint;  ///< instead of the image's
    std::vector<std::string> environment;                ///< beside the image's, and before it
    std::optional<std::string> folder;
    std::optional<std::string> user;
    std::optional<TerminalSize> terminal;
};

/// What the agent is asked for. Pure. Without words: a shell.
guest::ExecRequest exec_request(const ExecWish& wish, const RunConfig& image);
/// What is run where the image has no shell; empty when there is nothing.
std::vector<std::string> words_without_shell(const ExecWish& wish, const RunConfig& image);

/// A command that runs. Attach its client: without one it is hung up when this goes.
class GuestCommand {
public:
    GuestCommand(std::shared_ptr<guest::AgentClient> agent, guest::AgentClient::Started started)
        : agent_(std::move(agent)), started_(started) {}
    ~GuestCommand() {
        if (agent_) agent_->hang_up(started_.session);
    }
    GuestCommand(GuestCommand&& other) noexcept = default;
    GuestCommand& operator=(GuestCommand&&) = delete;
    GuestCommand(const GuestCommand&) = delete;

    /// Input that the client may send at once.
    [[nodiscard]] std::uint32_t window() const { return started_.window; }
    /// See AgentClient::attach().
    void attach(UniqueFd client) {
        agent_->attach(started_.session, std::move(client));
        agent_.reset();
    }

private:
    std::shared_ptr<guest::AgentClient> agent_;
    guest::AgentClient::Started started_;
};

}  // namespace banger
