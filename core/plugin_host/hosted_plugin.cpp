#include "core/plugin_host/hosted_plugin.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "core/base/version.hpp"
#include "core/plugin_host/guarded_roles.hpp"
#include "core/remote/connect.hpp"

namespace banger::plugin_host {

namespace {

using rpc::PacketChannel;

constexpr std::size_t library_connections = 8;
constexpr std::size_t executable_connections = 4;
constexpr std::chrono::seconds connect_patience{5};

/// What a plugin gets that has not asked for the network.
class NoWeb final : public remote::WebRole {
public:
    Result<remote::WebAnswer> get(const remote::WebCall&, const UniqueFd&, Call&) override {
        return refused();
    }
    Result<remote::WebAnswer> download(const remote::WebCall&, const UniqueFd&, Call&) override {
        return refused();
    }

private:
    static Error refused() {
        return {Errc::permission_denied, "its manifest does not ask for the network",
                "Let its author add `network = true` to the manifest's [sandbox]."};
    }
};

std::unique_ptr<remote::WebRole> web_role(Web* web) {
    if (web != nullptr) return std::make_unique<remote::WebOfCore>(*web);
    return std::make_unique<NoWeb>();
}

bool is_image_source_alone(const std::vector<Role>& roles) {
    return roles == std::vector{Role::image_source};
}

std::string words(const std::vector<Role>& roles) {
    std::string text;
    for (const Role role : roles)
        text += (text.empty() ? "" : ", ") + std::string(to_string(role));
    return text.empty() ? "none" : text;
}

Recipe with_patience(Recipe recipe, std::chrono::milliseconds patience) {
    recipe.patience = patience;
    return recipe;
}

}  // namespace

HostedPlugin::HostedPlugin(HostedOptions options)
    : options_(std::move(options)),
      web_(web_role(options_.web)),
      core_({{PluginName::parse(core_name).value(), {}, {}, web_.get()}},
            {.connections = 16,
             .calls = 8,
             .long_call = options_.patience.long_call,
             .grace = options_.patience.stopping},
            options_.recipe.log),
      crashes_(options_.crash_file, options_.identity, options_.patience.crashes) {}

HostedPlugin::~HostedPlugin() {
    plugin_.reset();  // its connections close
    std::list<ProcessPointer> processes;
    {
        const std::lock_guard lock(mutex_);
        processes.swap(processes_);
    }
    for (const ProcessPointer& process : processes)
        process->kill({});
    processes.clear();
}

Result<Roles> HostedPlugin::open() {
    const std::vector<Role>& roles = options_.roles;
    remote::PluginDescription said{options_.recipe.confine.name,  roles, {}, false, false, false,
                                   options_.recipe.start.settings};
    if (!is_image_source_alone(roles)) {
        const std::lock_guard starting(starting_);
        BANGER_TRY(start());
        said.addressing = started_->addressing.value_or(Addressing{});
        said.cloning = started_->cloning.value_or(false);
    }
    const bool is_executable = options_.recipe.confine.is_executable;
    const Patience& patience = options_.patience;
    const remote::ClientLimits limits{.connections = !is_executable ? library_connections
                                                     : is_image_source_alone(roles)
                                                         ? executable_connections
                                                         : 1,
                                      .call = patience.call,
                                      .long_call = patience.long_call,
                                      .checks = patience.checks,
                                      .silence = patience.silence,
                                      .stopping = patience.stopping};
    remote::FarEnd far{
        .name = "the plugin " + name(),
        .is_asked_again = false,
        .remedy = "It is started again when it is needed; see `banger plugin info " + name() + "`.",
        .on_close = [this](int socket, remote::Closing why, const std::string& what) {
            handle_close(socket, why, what);
        }};
    plugin_ = BANGER_TRY(remote::RemotePlugin::open(
        remote::Client::make([this] { return connect(); }, limits, std::move(far),
                             {std::string(version().number), {said}}),
        name()));
    Roles open = plugin_->roles();
    if (open.image_source != nullptr) {
        image_source_ = guard(*open.image_source);
        open.image_source = image_source_.get();
    }
    if (open.network != nullptr) {
        network_ = guard(*open.network);
        open.network = network_.get();
    }
    if (open.storage != nullptr) {
        storage_ = guard(*open.storage, options_.recipe.confine.write);
        open.storage = storage_.get();
    }
    return open;
}

Result<void> HostedPlugin::probe() {
    // An executable has no door to look at.
    if (options_.recipe.confine.is_executable) return ok();
    Recipe recipe = with_patience(options_.recipe, options_.patience.start);
    recipe.confine.is_probe = true;
    BANGER_TRY(HostedProcess::start(recipe, core_, [](const auto&...) {}));
    return ok();
}

Health HostedPlugin::health() const {
    const std::lock_guard lock(mutex_);
    Health health;
    for (const ProcessPointer& process : processes_)
        if (!process->has_ended()) ++health.processes;
    health.last_crash = crashes_.last();
    health.is_quarantined = crashes_.is_too_many();
    health.trouble = trouble_;
    return health;
}

Result<void> HostedPlugin::forgive() {
    const std::lock_guard lock(mutex_);
    trouble_.reset();
    return crashes_.forget();
}

Result<void> HostedPlugin::may_start() const {
    const std::lock_guard lock(mutex_);
    if (!crashes_.is_too_many()) return ok();
    return Error(Errc::unavailable,
                 "the plugin " + name() + " is in quarantine, because it crashed " +
                     std::to_string(options_.patience.crashes.count) +
                     " times in a short time, last: " + crashes_.last(),
                 "Install a corrected one, or let it try again: banger plugin retry " + name());
}

/// A process that has said what it is. The caller holds starting_.
Result<HostedPlugin::ProcessPointer> HostedPlugin::start() {
    BANGER_TRY(may_start());
    Result<ProcessPointer> process = HostedProcess::start(
        with_patience(options_.recipe, options_.patience.start), core_,
        [this](const ExitStatus& status, bool was_killed, const std::string& blame) {
            handle_end(status, was_killed, blame);
        });
    const std::lock_guard lock(mutex_);
    if (!process) {
        trouble_ = process.error();
    } else if ((*process)->started().roles != options_.roles) {
        trouble_ = Error(Errc::unavailable,
                         "it fills " + words((*process)->started().roles) + ", its manifest says " +
                             words(options_.roles),
                         "Put the plugin and the manifest of one build together.");
    } else {
        trouble_.reset();
    }
    if (trouble_)
        return Error(Errc::unavailable,
                     "the plugin " + name() + " did not start: " + trouble_->message,
                     trouble_->remedy);
    started_ = (*process)->started();
    processes_.push_back(*process);
    return *process;
}

Result<PacketChannel> HostedPlugin::connect() {
    const std::lock_guard starting(starting_);
    forget_ended();
    return options_.recipe.confine.is_executable ? connect_to_executable() : connect_to_library();
}

void HostedPlugin::forget_ended() {
    std::list<ProcessPointer> ended;  // their threads want the lock, too
    const std::lock_guard lock(mutex_);
    for (auto each = processes_.begin(); each != processes_.end();) {
        const auto next = std::next(each);
        if ((*each)->has_ended()) ended.splice(ended.end(), processes_, each);
        each = next;
    }
}

Result<PacketChannel> HostedPlugin::connect_to_executable() {
    // The one of open() waits for its first call.
    {
        const std::lock_guard lock(mutex_);
        for (const ProcessPointer& process : processes_)
            if (std::optional<PacketChannel> channel = process->take_channel())
                return std::move(*channel);
    }
    const ProcessPointer process = BANGER_TRY(start());
    return *process->take_channel();
}

Result<PacketChannel> HostedPlugin::connect_to_library() {
    constexpr int attempts = 2;
    for (int attempt = 1;; ++attempt) {
        ProcessPointer process;
        {
            const std::lock_guard lock(mutex_);
            if (!processes_.empty()) process = processes_.front();
        }
        if (!process || process->has_ended()) {
            forget_ended();
            process = BANGER_TRY(start());
        }
        auto ends = BANGER_TRY(PacketChannel::pair());
        const Result<void> taken = remote::give_connection(
            process->channel(), ends.second, std::chrono::steady_clock::now() + connect_patience);
        if (taken) return std::move(ends.first);
        if (taken.error().code != Errc::unavailable)
            process->kill("it takes no more calls: " + taken.error().message);
        process->expect_end();
        if (attempt == attempts)
            return Error(Errc::unavailable, "the plugin " + name() + " ended",
                         "See `banger plugin info " + name() + "`.");
    }
}

/// From the client: what it thinks of the connection decides about the process.
void HostedPlugin::handle_close(int socket, remote::Closing why, const std::string& what) {
    const bool is_executable = options_.recipe.confine.is_executable;
    // A library's process has other connections, too.
    if (!is_executable && why == remote::Closing::ours) return;
    ProcessPointer process;
    {
        const std::lock_guard lock(mutex_);
        const auto at = std::ranges::find_if(processes_, [&](const ProcessPointer& each) {
            return !is_executable || each->socket() == socket;
        });
        if (at == processes_.end()) return;
        process = *at;
    }
    switch (why) {
        case remote::Closing::ours:
            process->kill({});
            break;
        case remote::Closing::theirs:
            process->expect_end();
            break;
        case remote::Closing::misdeed:
            process->kill(what);
            break;
    }
}

/// From the thread of a process that has ended.
void HostedPlugin::handle_end(const ExitStatus& status, bool was_killed, const std::string& blame) {
    if ((was_killed && blame.empty()) || status.is_success()) return;
    const std::string what = was_killed ? blame : status.text();
    bool is_in_quarantine = false;
    {
        const std::lock_guard lock(mutex_);
        static_cast<void>(crashes_.add(what));
        is_in_quarantine = crashes_.is_too_many();
    }
    if (!options_.recipe.log) return;
    options_.recipe.log(LogLevel::error,
                        is_in_quarantine ? what + "; it has crashed too often and is in quarantine"
                                         : what + "; it is started again when it is needed");
}

}  // namespace banger::plugin_host
