#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "core/base/child.hpp"

/// Drives the real `banger` against real guests: user mode, state and images in a cache that
/// outlives the test, so that the image is made once.
namespace banger::boot {

/// Where state, images and sockets of the boot tests lie: $BANGER_TEST_CACHE, else
/// ~/.cache/banger-test.
std::string cache_folder();

/// `banger WORDS…` as a value, with the environment of the tests.
Command banger_command(std::vector<std::string> words);

/// Runs it to the end. Ends the test when it cannot be started or takes longer than `deadline`.
CommandOutput run_banger(std::vector<std::string> words,
                         std::chrono::seconds deadline = std::chrono::seconds(240));

/// Standard output of a successful run, without the last newline; a failure is a test failure.
std::string output_of(std::vector<std::string> words);

/// The image that boot tests use. Made at the first call on this machine, which takes minutes.
std::string slim_image();

/// Deletes the machines in the state that `banger` names: what a test or a benchmark left that was
/// killed, since the state outlives it. Called before a test; each test looks itself for what it
/// leaves. `banger` is `banger_command` or one with another state.
void delete_what_is_left(const std::function<Command(std::vector<std::string>)>& banger);

/// Why boot tests cannot run here; empty when they can.
std::string reason_to_skip();

/// The value of a key in one flat JSON object: enough for what these tests look at.
std::string json_value(const std::string& json, const std::string& key);

}  // namespace banger::boot
