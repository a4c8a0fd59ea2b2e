#include "core/scopes/scopes.hpp"

#include <pwd.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/file.hpp"
#include "core/base/process.hpp"

namespace banger {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr const char* manager_name = "org.freedesktop.systemd1";
constexpr const char* manager_path = "/org/freedesktop/systemd1";
constexpr const char* manager_interface = "org.freedesktop.systemd1.Manager";
constexpr const char* slice = "banger.slice";
constexpr std::chrono::microseconds call_patience = 5s;
/// The scope of the run before may still be going when a machine is started again.
constexpr int attempts = 10;
constexpr std::chrono::milliseconds between_attempts{100};

struct BusCloser {
    void operator()(sd_bus* bus) const { sd_bus_flush_close_unref(bus); }
};
struct MessageCloser {
    void operator()(sd_bus_message* message) const { sd_bus_message_unref(message); }
};
using Bus = std::unique_ptr<sd_bus, BusCloser>;
using Message = std::unique_ptr<sd_bus_message, MessageCloser>;

struct BusError {
    sd_bus_error error{};
    BusError() = default;
    ~BusError() { sd_bus_error_free(&error); }
    BusError(const BusError&) = delete;
    BusError& operator=(const BusError&) = delete;
    [[nodiscard]] Error text(int status, const std::string& doing) const {
        if (error.message)
            return {Errc::unavailable, doing + ": " + error.message, "See `banger doctor`."};
        return Error::from_errno(-status, doing);
    }
};

Result<Bus> connect(const std::string& path) {
    sd_bus* made = nullptr;
    int status = sd_bus_new(&made);
    Bus bus(made);
    if (status >= 0) status = sd_bus_set_address(made, ("unix:path=" + path).c_str());
    if (status >= 0) status = sd_bus_set_bus_client(made, 1);
    if (status >= 0)
        status =
            sd_bus_set_method_call_timeout(made, static_cast<std::uint64_t>(call_patience.count()));
    if (status >= 0) status = sd_bus_start(made);
    if (status < 0) return Error::from_errno(-status, "connecting to " + path);
    return bus;
}

/// Results of jobs by their object path, as the manager's signals tell them.
using JobResults = std::map<std::string, std::string>;

int on_job_removed(sd_bus_message* signal, void* data, sd_bus_error*) {
    std::uint32_t id = 0;
    const char* job = nullptr;
    const char* unit = nullptr;
    const char* result = nullptr;
    if (sd_bus_message_read(signal, "uoss", &id, &job, &unit, &result) >= 0)
        (*static_cast<JobResults*>(data))[job] = result;
    return 0;
}

Result<void> wait_for_job(sd_bus* bus, const std::string& job, const JobResults& results) {
    const Clock::time_point deadline = Clock::now() + call_patience;
    while (!results.contains(job)) {
        const int processed = sd_bus_process(bus, nullptr);
        if (processed < 0) return Error::from_errno(-processed, "talking to the user manager");
        if (processed > 0) continue;
        const auto left =
            std::chrono::duration_cast<std::chrono::microseconds>(deadline - Clock::now());
        if (left.count() <= 0) return Error(Errc::timed_out, "the user manager does not answer");
        (void)sd_bus_wait(bus, static_cast<std::uint64_t>(left.count()));
    }
    if (results.at(job) == "done") return ok();
    return Error(Errc::unavailable, "the user manager made no scope: " + results.at(job));
}

int append_properties(sd_bus_message* message, const ScopeRequest& request) {
    const std::string description = "banger " + request.subject;
    int status = sd_bus_message_open_container(message, 'a', "(sv)");
    const auto add = [&](auto... arguments) {
        if (status >= 0) status = sd_bus_message_append(message, "(sv)", arguments...);
    };
    add("Description", "s", description.c_str());
    add("Slice", "s", slice);
    add("PIDs", "au", 1, static_cast<std::uint32_t>(request.process.pid));
    add("MemoryMax", "t", request.memory.count());
    add("TasksMax", "t", request.tasks);
    // Gone as soon as the process is, also when it was killed.
    add("CollectMode", "s", "inactive-or-failed");
    if (status >= 0) status = sd_bus_message_close_container(message);
    // No auxiliary units.
    if (status >= 0) status = sd_bus_message_append(message, "a(sa(sv))", 0);
    return status;
}

/// True: made. False: a unit of that name exists already.
Result<bool> start_scope(sd_bus* bus, const ScopeRequest& request, const JobResults& results) {
    sd_bus_message* made = nullptr;
    int status = sd_bus_message_new_method_call(bus, &made, manager_name, manager_path,
                                                manager_interface, "StartTransientUnit");
    const Message message(made);
    if (status >= 0) status = sd_bus_message_append(made, "ss", request.unit.c_str(), "fail");
    if (status >= 0) status = append_properties(made, request);
    if (status < 0) return Error::from_errno(-status, "writing to the user manager");
    sd_bus_message* answered = nullptr;
    BusError error;
    status = sd_bus_call(bus, made, 0, &error.error, &answered);
    const Message answer(answered);
    if (status < 0 && sd_bus_error_has_name(&error.error, "org.freedesktop.systemd1.UnitExists"))
        return false;
    if (status < 0) return error.text(status, "asking the user manager for a scope");
    const char* job = nullptr;
    if (sd_bus_message_read(answered, "o", &job) < 0)
        return Error(Errc::corrupt, "the user manager's answer is not understood");
    BANGER_TRY(wait_for_job(bus, job, results));
    return true;
}

bool is_ours(const ScopeRequest& request) {
    struct stat status {};
    const std::string place = "/proc/" + std::to_string(request.process.pid);
    return ::stat(place.c_str(), &status) != 0 || status.st_uid == ::getuid();
}

bool is_in_scope(const ScopeRequest& request) {
    const Result<std::string> group =
        read_file("/proc/" + std::to_string(request.process.pid) + "/cgroup", ByteCount::kib(64));
    return group && group->find("/" + request.unit) != std::string::npos;
}

}  // namespace

ScopeRequest scope_of_machine(const VmId& vm, const VmName& name, const ProcessId& process,
                              ByteCount guest_memory, std::uint32_t vcpus) {
    const std::uint64_t guest = guest_memory.count();
    return {.unit = "banger-" + vm.str() + ".scope",
            .subject = "machine " + name.str(),
            .process = process,
            .memory = ByteCount::bytes(guest + guest / 16 + ByteCount::mib(1280).count()),
            // QEMU has a thread a vCPU, up to 64 for I/O, and a handful of its own.
            .tasks = 128 + 2 * std::uint64_t{vcpus}};
}

ScopeRequest scope_of_plugin(const PluginName& name, const ProcessId& process, ByteCount memory) {
    return {.unit = "banger-plugin-" + name.str() + "-" + std::to_string(process.pid) + ".scope",
            .subject = "plugin " + name.str(),
            .process = process,
            .memory = memory,
            // A library has one for each call, and 16 calls at once would be many.
            .tasks = 64};
}

struct Scopes::Inside {
    std::string bus;
    Log log;
    std::mutex mutex;
    std::condition_variable_any came;
    std::deque<ScopeRequest> queue;
    std::jthread worker;  // the last member: it uses the others

    void work(std::stop_token stop);
    void contain(const ScopeRequest& request, std::stop_token stop);
    Result<void> try_to_contain(const ScopeRequest& request, std::stop_token stop);
};

void Scopes::Inside::contain(const ScopeRequest& request, std::stop_token stop) {
    const Result<void> contained = try_to_contain(request, stop);
    if (!contained)
        log(LogLevel::warning,
            request.subject + " runs without a scope and its limits: " + contained.error().message);
}

Result<void> Scopes::Inside::try_to_contain(const ScopeRequest& request, std::stop_token stop) {
    // Another user's VMM is its back end's to contain, and no user manager would take it.
    if (is_in_scope(request) || !is_ours(request)) return ok();
    const Bus connection = BANGER_TRY(connect(bus));
    JobResults results;
    sd_bus_slot* slot = nullptr;
    int status = sd_bus_match_signal(connection.get(), &slot, manager_name, manager_path,
                                     manager_interface, "JobRemoved", on_job_removed, &results);
    const std::unique_ptr<sd_bus_slot, decltype(&sd_bus_slot_unref)> match(slot,
                                                                           &sd_bus_slot_unref);
    BusError error;
    if (status >= 0)
        status = sd_bus_call_method(connection.get(), manager_name, manager_path, manager_interface,
                                    "Subscribe", &error.error, nullptr, "");
    if (status < 0) return error.text(status, "listening to the user manager");
    for (int attempt = 0; attempt < attempts; ++attempt) {
        // The number must be this process's still, and not another program's.
        if (!is_running(request.process)) return ok();
        if (BANGER_TRY(start_scope(connection.get(), request, results))) return ok();
        std::unique_lock lock(mutex);
        came.wait_for(lock, stop, between_attempts, [] { return false; });
        if (stop.stop_requested()) return ok();
    }
    return Error(Errc::busy, "a unit named " + request.unit + " exists already");
}

void Scopes::Inside::work(std::stop_token stop) {
    for (;;) {
        std::unique_lock lock(mutex);
        if (!came.wait(lock, stop, [&] { return !queue.empty(); })) return;
        const ScopeRequest request = std::move(queue.front());
        queue.pop_front();
        lock.unlock();
        contain(request, stop);
    }
}

Scopes::Scopes(std::string bus, Log log) : inside_(std::make_unique<Inside>()) {
    inside_->bus = std::move(bus);
    inside_->log = std::move(log);
    inside_->worker =
        std::jthread([inside = inside_.get()](std::stop_token stop) { inside->work(stop); });
}

Scopes::~Scopes() = default;

void Scopes::contain(ScopeRequest request) {
    const std::lock_guard lock(inside_->mutex);
    inside_->queue.push_back(std::move(request));
    inside_->came.notify_all();
}

void Scopes::contain_now(const ScopeRequest& request) { inside_->contain(request, {}); }

Check Scopes::check() const {
    const auto ask = [&]() -> Result<std::string> {
        const Bus bus = BANGER_TRY(connect(inside_->bus));
        char* version = nullptr;
        BusError error;
        const int status =
            sd_bus_get_property_string(bus.get(), manager_name, manager_path, manager_interface,
                                       "Version", &error.error, &version);
        if (status < 0) return error.text(status, "asking the user manager");
        std::string text = version;
        ::free(version);  // NOLINT: sd-bus gives away what malloc made
        return text;
    };
    const Result<std::string> version = ask();
    if (version)
        return {"scopes", CheckStatus::pass,
                "machines and third parties' plugins run in " + std::string(slice) +
                    " of the user manager (systemd " + *version + ")",
                ""};
    return {"scopes", CheckStatus::warn,
            "machines and third parties' plugins run without limits of their own: " +
                version.error().message,
            "Install dbus-user-session, and keep the user manager: sudo loginctl enable-linger " +
                std::to_string(::getuid())};
}

bool user_manager_lingers() {
    std::vector<char> buffer(65536);
    passwd entry{};
    passwd* found = nullptr;
    (void)::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found);
    return found && path_exists(std::string("/var/lib/systemd/linger/") + found->pw_name);
}

}  // namespace banger
