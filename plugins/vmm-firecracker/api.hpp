#pragma once

#include <chrono>
#include <stop_token>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "plugins/vmm-firecracker/http_reply.hpp"

/// Firecracker's API (its swagger file, firecracker.yaml): HTTP over a unix socket, one request a
/// connection. Only what this plugin asks for.
namespace banger::firecracker {

enum class InstanceState { not_started, running, paused };

/// The text of one request.
std::string format_request(std::string_view method, std::string_view target, std::string_view body);

/// Sends the request on a fresh connection and reads the answer. Errc::unreachable when the other
/// side closes early, timed_out, cancelled, corrupt.
Result<HttpReply> exchange(const UniqueFd& connection, std::string_view request,
                           std::chrono::milliseconds deadline, std::stop_token stop);

struct InstanceInfo {
    InstanceState state = InstanceState::not_started;
    std::string version;  ///< "1.12.1", of the Firecracker that answers; printable
};

/// `GET /`.
Result<InstanceInfo> instance_info(const UniqueFd& connection, std::chrono::milliseconds deadline,
                                   std::stop_token stop);
/// `PATCH /vm`. Errc::wrong_state with Firecracker's words when it refuses.
Result<void> set_paused(const UniqueFd& connection, bool is_paused,
                        std::chrono::milliseconds deadline, std::stop_token stop);

/// `PUT /snapshot/create`, a full one: the machine is paused and stays so. The paths are its own.
Result<void> create_snapshot(const UniqueFd& connection, std::string_view state_path,
                             std::string_view memory_path, std::chrono::milliseconds deadline,
                             std::stop_token stop);
/// `PUT /snapshot/load`, into a Firecracker that has nothing yet; the machine is paused.
Result<void> load_snapshot(const UniqueFd& connection, std::string_view state_path,
                           std::string_view memory_path, std::chrono::milliseconds deadline,
                           std::stop_token stop);

/// The body of an answer to `GET /`. Errc::corrupt.
Result<InstanceInfo> parse_instance_info(std::string_view body);
/// The words in the body of a refusal, made printable; a general sentence when there are none.
std::string fault_message(std::string_view body);

}  // namespace banger::firecracker
