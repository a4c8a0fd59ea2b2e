#include "tests/dns-resolved/fake_resolved.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace banger {

namespace {

using namespace std::chrono_literals;

constexpr const char* link_path = "/org/freedesktop/resolve1/link";

int on_set(sd_bus_message* message, void* fake, sd_bus_error*) {
    return static_cast<FakeResolved*>(fake)->set(message, sd_bus_message_get_member(message));
}
int on_get_link(sd_bus_message* message, void* fake, sd_bus_error*) {
    return static_cast<FakeResolved*>(fake)->get_link(message);
}
int on_property(sd_bus*, const char* path, const char*, const char* name, sd_bus_message* reply,
                void* fake, sd_bus_error*) {
    return static_cast<FakeResolved*>(fake)->property(path, name, reply);
}

// The macros of sd-bus-vtable.h are C: designated initialisers out of order.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
const sd_bus_vtable manager_table[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("SetLinkDNSEx", "ia(iayqs)", nullptr, &on_set, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("SetLinkDomains", "ia(sb)", nullptr, &on_set, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("SetLinkDefaultRoute", "ib", nullptr, &on_set, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("SetLinkLLMNR", "is", nullptr, &on_set, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("SetLinkMulticastDNS", "is", nullptr, &on_set, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("SetLinkDNSOverTLS", "is", nullptr, &on_set, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("SetLinkDNSSEC", "is", nullptr, &on_set, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("RevertLink", "i", nullptr, &on_set, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("GetLink", "i", "o", &on_get_link, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END};
const sd_bus_vtable link_table[] = {
    SD_BUS_VTABLE_START(0), SD_BUS_PROPERTY("DNSEx", "a(iayqs)", &on_property, 0, 0),
    SD_BUS_PROPERTY("Domains", "a(sb)", &on_property, 0, 0),
    SD_BUS_PROPERTY("ScopesMask", "t", &on_property, 0, 0), SD_BUS_VTABLE_END};
#pragma GCC diagnostic pop

std::vector<std::string> read_servers(sd_bus_message* message) {
    std::vector<std::string> all;
    sd_bus_message_enter_container(message, 'a', "(iayqs)");
    while (sd_bus_message_enter_container(message, 'r', "iayqs") > 0) {
        int family = 0;
        const void* octets = nullptr;
        std::size_t size = 0;
        std::uint16_t port = 0;
        const char* name = nullptr;
        sd_bus_message_read(message, "i", &family);
        sd_bus_message_read_array(message, 'y', &octets, &size);
        sd_bus_message_read(message, "qs", &port, &name);
        sd_bus_message_exit_container(message);
        std::array<char, INET_ADDRSTRLEN> text{};
        EXPECT_EQ(family, AF_INET);
        EXPECT_EQ(size, 4u);
        ::inet_ntop(AF_INET, octets, text.data(), text.size());
        all.push_back(std::string(text.data()) + ":" + std::to_string(port));
    }
    return all;
}

std::vector<std::string> read_domains(sd_bus_message* message) {
    std::vector<std::string> all;
    sd_bus_message_enter_container(message, 'a', "(sb)");
    const char* domain = nullptr;
    int is_routing_only = 0;
    while (sd_bus_message_read(message, "(sb)", &domain, &is_routing_only) > 0)
        all.push_back((is_routing_only != 0 ? "~" : "") + std::string(domain));
    return all;
}

bool exists(int index) {
    std::array<char, IF_NAMESIZE> name{};
    return ::if_indextoname(static_cast<unsigned>(index), name.data()) != nullptr;
}

}  // namespace

FakeResolved::FakeResolved(std::string address)
    : address_(std::move(address)), wake_(::eventfd(0, EFD_CLOEXEC)) {
    thread_ = std::thread([this] { serve(); });
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, 20s, [this] { return is_ready_; }));
}

FakeResolved::~FakeResolved() {
    {
        const std::lock_guard lock(mutex_);
        is_over_ = true;
    }
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof one);
    thread_.join();
}

void FakeResolved::serve() {
    sd_bus* bus = nullptr;
    ASSERT_GE(sd_bus_new(&bus), 0);
    ASSERT_GE(sd_bus_set_address(bus, address_.c_str()), 0);
    ASSERT_GE(sd_bus_set_bus_client(bus, 1), 0);
    ASSERT_GE(sd_bus_start(bus), 0);
    ASSERT_GE(sd_bus_add_object_vtable(bus, nullptr, "/org/freedesktop/resolve1",
                                       "org.freedesktop.resolve1.Manager", manager_table, this),
              0);
    ASSERT_GE(sd_bus_add_fallback_vtable(bus, nullptr, link_path, "org.freedesktop.resolve1.Link",
                                         link_table, nullptr, this),
              0);
    ASSERT_GE(sd_bus_request_name(bus, "org.freedesktop.resolve1", 0), 0);
    {
        const std::lock_guard lock(mutex_);
        is_ready_ = true;
    }
    changed_.notify_all();
    for (;;) {
        while (sd_bus_process(bus, nullptr) > 0)
            ;
        {
            const std::lock_guard lock(mutex_);
            if (is_over_) break;
        }
        std::array<pollfd, 2> waiting{
            pollfd{sd_bus_get_fd(bus), static_cast<short>(sd_bus_get_events(bus)), 0},
            pollfd{wake_.get(), POLLIN, 0}};
        ::poll(waiting.data(), waiting.size(), -1);
        if ((waiting[0].revents & (POLLHUP | POLLERR)) != 0) break;
    }
    sd_bus_flush_close_unref(bus);
}

int FakeResolved::change(sd_bus_message* message, const std::function<void(Link&)>& how) {
    int index = 0;
    if (sd_bus_message_read(message, "i", &index) < 0) return -EINVAL;
    if (!exists(index))
        return sd_bus_reply_method_errorf(message, "org.freedesktop.resolve1.NoSuchLink",
                                          "Link %i not known", index);
    {
        const std::lock_guard lock(mutex_);
        if (!refusal_.empty())
            return sd_bus_reply_method_errorf(message, refusal_.c_str(), "%s", "not you");
        ++changes_;
        Link& link = links_[index];
        how(link);
        if (!link.servers.empty() && link.is_default_route) link.took_everything = true;
        if (link == Link{}) links_.erase(index);
    }
    changed_.notify_all();
    return sd_bus_reply_method_return(message, nullptr);
}

int FakeResolved::set(sd_bus_message* message, const std::string& member) {
    return change(message, [&](Link& link) {
        if (member == "SetLinkDNSEx") {
            link.servers = read_servers(message);
        } else if (member == "SetLinkDomains") {
            link.domains = read_domains(message);
        } else if (member == "SetLinkDefaultRoute") {
            int is_on = 0;
            sd_bus_message_read(message, "b", &is_on);
            link.is_default_route = is_on != 0;
        } else if (member == "RevertLink") {
            link = {};
        } else {
            const char* word = nullptr;
            sd_bus_message_read(message, "s", &word);
            link.words[member] = word;
        }
    });
}

int FakeResolved::get_link(sd_bus_message* message) {
    int index = 0;
    sd_bus_message_read(message, "i", &index);
    if (!exists(index))
        return sd_bus_reply_method_errorf(message, "org.freedesktop.resolve1.NoSuchLink",
                                          "Link %i not known", index);
    return sd_bus_reply_method_return(message, "o",
                                      (link_path + ("/_" + std::to_string(index))).c_str());
}

int FakeResolved::property(const std::string& path, const std::string& name,
                           sd_bus_message* reply) {
    const std::lock_guard lock(mutex_);
    const int index = std::stoi(path.substr(path.find('_') + 1));
    const auto found = links_.find(index);
    const Link link = found == links_.end() ? Link{} : found->second;
    if (name == "ScopesMask")
        return sd_bus_message_append(reply, "t", std::uint64_t{link.servers.empty() ? 0U : 1U});
    if (name == "Domains") {
        sd_bus_message_open_container(reply, 'a', "(sb)");
        for (const std::string& domain : link.domains) {
            const bool is_routing = domain.starts_with('~');
            sd_bus_message_append(reply, "(sb)", domain.c_str() + (is_routing ? 1 : 0),
                                  is_routing ? 1 : 0);
        }
        return sd_bus_message_close_container(reply);
    }
    sd_bus_message_open_container(reply, 'a', "(iayqs)");
    for (const std::string& server : link.servers) {
        const std::size_t colon = server.find(':');
        in_addr address{};
        ::inet_pton(AF_INET, server.substr(0, colon).c_str(), &address);
        sd_bus_message_open_container(reply, 'r', "iayqs");
        sd_bus_message_append(reply, "i", AF_INET);
        sd_bus_message_append_array(reply, 'y', &address, sizeof address);
        sd_bus_message_append(reply, "qs", std::stoi(server.substr(colon + 1)), "");
        sd_bus_message_close_container(reply);
    }
    return sd_bus_message_close_container(reply);
}

std::map<int, FakeResolved::Link> FakeResolved::links() {
    const std::lock_guard lock(mutex_);
    std::map<int, Link> living;
    for (const auto& [index, link] : links_)
        if (exists(index)) living.emplace(index, link);  // it hears of removal by netlink
    return living;
}

void FakeResolved::await(const std::function<bool(const std::map<int, Link>&)>& is_so) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, 20s, [&] { return is_so(links_); }));
}

int FakeResolved::changes() {
    const std::lock_guard lock(mutex_);
    return changes_;
}

void FakeResolved::refuse(const std::string& error) {
    const std::lock_guard lock(mutex_);
    refusal_ = error;
}

void FakeResolved::forget_links() {
    const std::lock_guard lock(mutex_);
    links_.clear();
}

}  // namespace banger
