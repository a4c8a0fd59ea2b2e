#include <banger/plugin.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <map>
#include <mutex>

namespace {

using namespace banger;

Error cancelled() { return {Errc::cancelled, "cancelled"}; }

Error failure(const std::string& what) {
    Error error = Error::from_errno(errno, what);
    if (error.remedy.empty()) error.remedy = "Look at that file and its folder.";
    return error;
}

/// Machine names in FOLDER/machines, a file of lines "ADDRESS NAME.ZONE". The resolver that reads
/// it answers, so route() has nothing to lead there; it only tells the zone.
///
/// The file is replaced as a whole and is gone when there are no names. What it had before
/// recover() is of no account: core remembers.
class HostsDns final : public Dns {
public:
    explicit HostsDns(std::string folder) : folder_(std::move(folder)) {}

    Result<void> route(const DnsZone& zone, std::stop_token stop) override {
        if (stop.stop_requested()) return cancelled();
        const std::lock_guard lock(mutex_);
        return change(records_, zone.zone);
    }

    Result<void> unroute() override {
        const std::lock_guard lock(mutex_);
        return change({}, zone_);
    }

    Result<void> publish(const DnsRecord& record, std::stop_token stop) override {
        if (stop.stop_requested()) return cancelled();
        const std::lock_guard lock(mutex_);
        Records records = records_;
        for (const auto& [vm, other] : records)
            if (vm != record.vm && other.name == record.name)
                return Error(Errc::already_exists,
                             "the name " + record.name.str() + " belongs to machine " + vm.str(),
                             "Choose another name.");
        records.insert_or_assign(record.vm, record);
        return change(std::move(records), zone_);
    }

    Result<void> withdraw(const VmId& vm) override {
        const std::lock_guard lock(mutex_);
        Records records = records_;
        if (records.erase(vm) == 0) return ok();
        return change(std::move(records), zone_);
    }

    Result<void> recover(std::span<const DnsRecord> remembered) override {
        const std::lock_guard lock(mutex_);
        Records records;
        for (const DnsRecord& record : remembered)
            records.insert_or_assign(record.vm, record);
        return change(std::move(records), zone_);
    }

    std::vector<Check> checks(std::stop_token) override {
        if (::access(folder_.c_str(), W_OK | X_OK) == 0)
            return {{"hosts file", CheckStatus::pass, file_, ""}};
        return {{"hosts file", CheckStatus::fail, folder_ + " cannot be written",
                 "Make it yours, or set plugin.dns-hosts.folder."}};
    }

private:
    using Records = std::map<VmId, DnsRecord>;

    /// All or nothing: what is in memory changes only when the file did.
    Result<void> change(Records records, const std::string& zone) {
        std::string text = "# machines of banger; written anew with each change\n";
        for (const auto& [vm, record] : records)
            text += record.address.text() + " " + record.name.str() + "." + zone + "\n";
        if (records.empty()) {
            if (::unlink(file_.c_str()) != 0 && errno != ENOENT)
                return failure("removing " + file_);
        } else {
            BANGER_TRY(replace(text));
        }
        records_ = std::move(records);
        zone_ = zone;
        return ok();
    }

    /// A reader sees the old names or the new. Not fsync()ed: after a crash recover() writes it.
    Result<void> replace(const std::string& text) const {
        // A resolver that reads the whole folder passes over a name with a dot in front.
        const std::string part = folder_ + "/.machines.new";
        const UniqueFd fd(
            ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644));
        if (!fd) return failure("making " + part);
        // For the resolver, which is another user.
        const bool is_whole =
            ::fchmod(fd.get(), 0644) == 0 &&
            ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
            ::rename(part.c_str(), file_.c_str()) == 0;
        if (is_whole) return ok();
        const Error error = failure("writing " + file_);
        ::unlink(part.c_str());
        return error;
    }

    const std::string folder_;
    const std::string file_ = folder_ + "/machines";
    std::mutex mutex_;
    std::string zone_ = "vm";
    Records records_;
};

class HostsPlugin final : public Plugin {
public:
    explicit HostsPlugin(std::string folder) : dns_(std::move(folder)) {}
    Roles roles() override {
        Roles roles;
        roles.dns = &dns_;
        return roles;
    }

private:
    HostsDns dns_;
};

Result<std::unique_ptr<Plugin>> make(Host& host) {
    std::string folder = std::get<std::string>(host.settings().at("folder"));
    if (folder.empty()) folder = host.state_folder();
    if (!folder.starts_with('/'))
        return Error(Errc::invalid_argument, "plugin.dns-hosts.folder is not an absolute path",
                     "Begin it with a slash.");
    return std::unique_ptr<Plugin>(std::make_unique<HostsPlugin>(std::move(folder)));
}

}  // namespace

BANGER_PLUGIN("dns-hosts", make);
