#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "banger/unique_fd.hpp"

struct sd_bus;
struct sd_bus_message;

namespace banger {

/// org.freedesktop.resolve1 as far as the plugin speaks to it. Like the real one it knows only
/// interfaces that exist, and forgets everything when it ends.
class FakeResolved {
public:
    struct Link {
        std::vector<std::string> servers;  ///< "127.0.0.1:42069"
        std::vector<std::string> domains;  ///< "~vm" for routing only
        bool is_default_route = true;
        std::map<std::string, std::string> words;  ///< "SetLinkLLMNR" → "no"
        /// A server was there while the link took every query: names of others went to banger.
        bool took_everything = false;
        friend bool operator==(const Link&, const Link&) = default;
    };

    /// On the bus when it returns.
    explicit FakeResolved(std::string address);
    ~FakeResolved();
    FakeResolved(const FakeResolved&) = delete;
    FakeResolved& operator=(const FakeResolved&) = delete;

    [[nodiscard]] std::map<int, Link> links();
    /// Returns when `is_so` of the links; fails the test after a while.
    void await(const std::function<bool(const std::map<int, Link>&)>& is_so);
    /// Calls that changed something.
    [[nodiscard]] int changes();
    /// From now on every change is refused with this error.
    void refuse(const std::string& error);
    /// Changes settings behind the plugin's back.
    void forget_links();

    // for the callbacks
    int set(sd_bus_message* message, const std::string& member);
    int get_link(sd_bus_message* message);
    int property(const std::string& path, const std::string& name, sd_bus_message* reply);

private:
    void serve();
    int change(sd_bus_message* message, const std::function<void(Link&)>& how);

    const std::string address_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<int, Link> links_;
    int changes_ = 0;
    bool is_ready_ = false;
    bool is_over_ = false;
    std::string refusal_;
    UniqueFd wake_;
    std::thread thread_;
};

}  // namespace banger
