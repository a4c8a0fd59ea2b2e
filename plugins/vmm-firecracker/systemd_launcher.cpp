#include "plugins/vmm-firecracker/systemd_launcher.hpp"

#include <sys/stat.h>
#include <systemd/sd-bus.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <thread>

#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "plugins/vmm-firecracker/unit.hpp"

namespace banger::firecracker {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr const char* manager_name = "org.freedesktop.systemd1";
constexpr const char* manager_path = "/org/freedesktop/systemd1";
constexpr const char* manager_interface = "org.freedesktop.systemd1.Manager";
constexpr const char* service_interface = "org.freedesktop.systemd1.Service";
constexpr const char* no_such_unit = "org.freedesktop.systemd1.NoSuchUnit";
constexpr const char* unit_exists = "org.freedesktop.systemd1.UnitExists";
constexpr std::chrono::microseconds call_patience = 10s;
constexpr std::chrono::seconds job_patience{20};
constexpr std::chrono::seconds end_patience{10};
constexpr std::chrono::milliseconds between_looks{20};  // at most
constexpr std::chrono::milliseconds first_look{1};
constexpr char systemd_remedy[] = "Look at `systemctl status` and the journal.";

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
    [[nodiscard]] bool is(const char* name) const {
        return sd_bus_error_has_name(&error, name) != 0;
    }
    [[nodiscard]] Error text(int status, const std::string& doing) const {
        const std::string why =
            error.message ? error.message : Error::from_errno(-status, "").message;
        return {Errc::unavailable, doing + ": " + why, systemd_remedy};
    }
};

Error bus_failure(int status, const std::string& doing) { return BusError().text(status, doing); }

Result<Bus> connect(const std::string& address) {
    sd_bus* made = nullptr;
    int status = sd_bus_new(&made);
    Bus bus(made);
    if (status >= 0)
        status = sd_bus_set_address(
            made, address.empty() ? "unix:path=/run/dbus/system_bus_socket" : address.c_str());
    if (status >= 0) status = sd_bus_set_bus_client(made, 1);
    if (status >= 0)
        status =
            sd_bus_set_method_call_timeout(made, static_cast<std::uint64_t>(call_patience.count()));
    if (status >= 0) status = sd_bus_start(made);
    if (status < 0) return bus_failure(status, "connecting to systemd");
    return bus;
}

/// Writes one property's value as the variant that systemd wants.
struct Append {
    sd_bus_message* message;

    int operator()(const std::string& text) const {
        return sd_bus_message_append(message, "v", "s", text.c_str());
    }
    int operator()(bool truth) const {
        return sd_bus_message_append(message, "v", "b", truth ? 1 : 0);
    }
    int operator()(std::uint64_t number) const {
        return sd_bus_message_append(message, "v", "t", number);
    }
    int operator()(Descriptor descriptor) const {
        return sd_bus_message_append(message, "v", "h", descriptor.fd);
    }
    int operator()(const Words& words) const {
        return in_array("as", "s", [&](int status) { return append_words(words, status); });
    }
    int operator()(const Pairs& pairs) const {
        return in_array("a(ss)", "(ss)", [&](int status) {
            for (const auto& [first, second] : pairs)
                if (status >= 0)
                    status = sd_bus_message_append(message, "(ss)", first.c_str(), second.c_str());
            return status;
        });
    }
    int operator()(const Binds& binds) const {
        return in_array("a(ssbt)", "(ssbt)", [&](int status) {
            for (const auto& [source, target] : binds.places)
                if (status >= 0)
                    status = sd_bus_message_append(message, "(ssbt)", source.c_str(),
                                                   target.c_str(), 0, std::uint64_t{0});
            return status;
        });
    }
    int operator()(const Executable& program) const {
        return in_array("a(sasb)", "(sasb)", [&](int status) {
            if (status >= 0) status = sd_bus_message_open_container(message, 'r', "sasb");
            if (status >= 0) status = sd_bus_message_append(message, "s", program.path.c_str());
            if (status >= 0) status = sd_bus_message_open_container(message, 'a', "s");
            status = append_words(program.arguments, status);
            if (status >= 0) status = sd_bus_message_close_container(message);
            if (status >= 0) status = sd_bus_message_append(message, "b", 0);
            return status >= 0 ? sd_bus_message_close_container(message) : status;
        });
    }

private:
    [[nodiscard]] int append_words(const Words& words, int status) const {
        for (const std::string& word : words)
            if (status >= 0) status = sd_bus_message_append(message, "s", word.c_str());
        return status;
    }
    template <class Content>
    int in_array(const char* type, const char* element, Content content) const {
        int status = sd_bus_message_open_container(message, 'v', type);
        if (status >= 0) status = sd_bus_message_open_container(message, 'a', element);
        status = content(status);
        if (status >= 0) status = sd_bus_message_close_container(message);
        return status >= 0 ? sd_bus_message_close_container(message) : status;
    }
};

/// systemd's numbers have two widths: these properties are uint32.
bool is_short(const std::string& name) { return name == "UMask"; }

int append_property(sd_bus_message* message, const Property& property) {
    int status = sd_bus_message_open_container(message, 'r', "sv");
    if (status >= 0) status = sd_bus_message_append(message, "s", property.name.c_str());
    if (status >= 0)
        status = is_short(property.name)
                     ? sd_bus_message_append(
                           message, "v", "u",
                           static_cast<std::uint32_t>(std::get<std::uint64_t>(property.value)))
                     : std::visit(Append{message}, property.value);
    return status >= 0 ? sd_bus_message_close_container(message) : status;
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

/// One call's way to systemd: a connection, and the jobs that ended since.
class Manager {
public:
    static Result<std::unique_ptr<Manager>> open(const std::string& address) {
        std::unique_ptr<Manager> manager(new Manager);
        manager->bus_ = BANGER_TRY(connect(address));
        return manager;
    }

    /// To the ends of our own jobs, of which systemd tells whoever asked for them; all else it
    /// tells subscribers alone.
    Result<void> listen() {
        const int status =
            sd_bus_match_signal(bus_.get(), nullptr, manager_name, manager_path, manager_interface,
                                "JobRemoved", on_job_removed, &results_);
        if (status < 0) return bus_failure(status, "listening to systemd");
        return ok();
    }

    /// The job's path. Errc::already_exists while a unit of that name is there.
    Result<std::string> start_unit(const std::string& unit,
                                   const std::vector<Property>& properties) {
        sd_bus_message* made = nullptr;
        int status = sd_bus_message_new_method_call(bus_.get(), &made, manager_name, manager_path,
                                                    manager_interface, "StartTransientUnit");
        const Message message(made);
        if (status >= 0) status = sd_bus_message_append(made, "ss", unit.c_str(), "fail");
        if (status >= 0) status = sd_bus_message_open_container(made, 'a', "(sv)");
        for (const Property& property : properties)
            if (status >= 0) status = append_property(made, property);
        if (status >= 0) status = sd_bus_message_close_container(made);
        if (status >= 0) status = sd_bus_message_append(made, "a(sa(sv))", 0);
        if (status < 0) return bus_failure(status, "writing to systemd");
        sd_bus_message* answered = nullptr;
        BusError error;
        status = sd_bus_call(bus_.get(), made, 0, &error.error, &answered);
        const Message answer(answered);
        if (status < 0 && error.is(unit_exists))
            return Error(Errc::already_exists, unit + " exists already", systemd_remedy);
        if (status < 0) return error.text(status, "asking systemd for " + unit);
        const char* job = nullptr;
        if (sd_bus_message_read(answered, "o", &job) < 0)
            return Error(Errc::corrupt, "systemd's answer is not understood", systemd_remedy);
        return std::string(job);
    }

    Result<void> wait_for(const std::string& job, const std::stop_token& stop) {
        const Clock::time_point deadline = Clock::now() + job_patience;
        while (!results_.contains(job)) {
            if (stop.stop_requested()) return Error(Errc::cancelled, "cancelled");
            const int processed = sd_bus_process(bus_.get(), nullptr);
            if (processed < 0) return bus_failure(processed, "talking to systemd");
            if (processed > 0) continue;
            if (Clock::now() >= deadline)
                return Error(Errc::timed_out, "systemd does not answer", systemd_remedy);
            (void)sd_bus_wait(bus_.get(), static_cast<std::uint64_t>(
                                              std::chrono::microseconds(between_looks).count()));
        }
        if (results_.at(job) == "done") return ok();
        return Error(Errc::unavailable, "systemd could not start the VMM: " + results_.at(job),
                     systemd_remedy);
    }

    /// 0 when the unit has no process, or is not there.
    Result<std::uint32_t> main_pid(const std::string& unit) {
        char* escaped = nullptr;
        if (sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit.c_str(), &escaped) < 0)
            return Error(Errc::internal, unit + " has no path on the bus", systemd_remedy);
        const std::unique_ptr<char, decltype(&::free)> path(escaped, ::free);
        std::uint32_t pid = 0;
        BusError error;
        const int status =
            sd_bus_get_property_trivial(bus_.get(), manager_name, path.get(), service_interface,
                                        "MainPID", &error.error, 'u', &pid);
        if (status < 0 && !error.is("org.freedesktop.DBus.Error.UnknownObject") &&
            !error.is(no_such_unit))
            return error.text(status, "asking systemd for the process of " + unit);
        return pid;
    }

    Result<void> kill(const std::string& unit) {
        BusError error;
        const int status =
            sd_bus_call_method(bus_.get(), manager_name, manager_path, manager_interface,
                               "KillUnit", &error.error, nullptr, "ssi", unit.c_str(), "all", 9);
        // A unit without a process is as good as none.
        if (status >= 0 || error.is(no_such_unit) ||
            error.is("org.freedesktop.systemd1.NoSuchProcess"))
            return ok();
        return error.text(status, "killing " + unit);
    }

    /// Whether systemd knows the unit at all. One that has ended is collected by itself.
    Result<bool> has(const std::string& unit) {
        BusError error;
        const int status =
            sd_bus_call_method(bus_.get(), manager_name, manager_path, manager_interface, "GetUnit",
                               &error.error, nullptr, "s", unit.c_str());
        if (status >= 0) return true;
        if (error.is(no_such_unit)) return false;
        return error.text(status, "asking systemd for " + unit);
    }

    Result<std::string> version() {
        char* text = nullptr;
        BusError error;
        const int status =
            sd_bus_get_property_string(bus_.get(), manager_name, manager_path, manager_interface,
                                       "Version", &error.error, &text);
        if (status < 0) return error.text(status, "asking systemd");
        std::string version = text;
        ::free(text);  // NOLINT: sd-bus gives away what malloc made
        return version;
    }

private:
    Manager() = default;
    JobResults results_;
    Bus bus_;  // goes first: its slots point at the results
};

}  // namespace

namespace {

OwnJail own_jail() {
    OwnJail own{path_exists("/usr/sbin/chroot") ? "/usr/sbin/chroot" : "/usr/bin/chroot", 0};
    struct stat status {};
    if (::stat("/dev/kvm", &status) == 0) own.kvm_gid = status.st_gid;
    return own;
}

}  // namespace

Result<ProcessId> SystemdLauncher::start(const Launch& launch, std::stop_token stop) {
    const std::unique_ptr<Manager> systemd = BANGER_TRY(Manager::open(bus_));
    BANGER_TRY(systemd->listen());
    const std::string unit = unit_name(launch.vm);
    const std::string job =
        BANGER_TRY(systemd->start_unit(unit, unit_properties(launch, own_jail())));
    BANGER_TRY(systemd->wait_for(job, stop));
    const std::uint32_t pid = BANGER_TRY(systemd->main_pid(unit));
    if (pid == 0)
        return Error(Errc::unavailable, "the VMM ended as soon as it was started", systemd_remedy);
    return process_id_of(pid);
}

Result<void> SystemdLauncher::end(const VmId& vm) {
    const std::unique_ptr<Manager> systemd = BANGER_TRY(Manager::open(bus_));
    const std::string unit = unit_name(vm);
    const Clock::time_point deadline = Clock::now() + end_patience;
    for (auto pause = first_look; BANGER_TRY(systemd->has(unit));
         pause = std::min(pause * 2, between_looks)) {
        BANGER_TRY(systemd->kill(unit));
        if (Clock::now() >= deadline)
            return Error(Errc::timed_out, unit + " does not end",
                         "Look at `systemctl status " + unit + "`.");
        std::this_thread::sleep_for(pause);
    }
    return ok();
}

Check SystemdLauncher::check() {
    const Result<std::unique_ptr<Manager>> systemd = Manager::open(bus_);
    const Result<std::string> version =
        systemd ? (*systemd)->version() : Result<std::string>(systemd.error());
    if (!version)
        return {"machine services", CheckStatus::fail, version.error().message,
                "Firecracker's machines are services of systemd: run it, or choose vmm-qemu."};
    return {"machine services",
            CheckStatus::pass,
            "machines are services in banger.slice (systemd " + *version + ")",
            {}};
}

}  // namespace banger::firecracker
