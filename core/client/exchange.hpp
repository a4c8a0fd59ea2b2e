#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "banger/result.hpp"
#include "banger/unique_fd.hpp"
#include "core/rpc/wait.hpp"

/// What connection.cpp and upgrade.cpp have in common. Internal to this folder.
namespace banger::client {

/// See Connection::connect().
Result<UniqueFd> connect_to(const std::string& path, std::chrono::milliseconds timeout);
Result<void> send_all(int socket, std::string_view bytes, const rpc::WaitLimits& limits);

}  // namespace banger::client
