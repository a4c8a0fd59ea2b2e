#include "core/plugin_host/crashes.hpp"

#include "core/base/file.hpp"

namespace banger::plugin_host {

namespace {

struct File {
    std::string identity;
    std::vector<Crash> crashes;
};

constexpr ByteCount max_file = ByteCount::kib(64);

std::int64_t now_in_seconds() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace

}  // namespace banger::plugin_host

template <>
struct banger::rpc::Fields<banger::plugin_host::File> {
    using T = banger::plugin_host::File;
    static constexpr auto list =
        fields(field("identity", &T::identity), field("crashes", &T::crashes));
};

namespace banger::plugin_host {

Crashes::Crashes(std::string path, std::string identity, Limit limit)
    : path_(std::move(path)), identity_(std::move(identity)), limit_(limit) {
    if (path_.empty()) return;
    const Result<std::string> text = read_file(path_, max_file);
    if (!text) return;
    Result<File> file = rpc::decode_text<File>(*text, "crashes");
    if (file && file->identity == identity_ && file->crashes.size() <= limit_.count)
        list_ = std::move(file->crashes);
}

Result<void> Crashes::add(const std::string& what) {
    list_.push_back({now_in_seconds(), what.substr(0, 500)});
    if (list_.size() > limit_.count) list_.erase(list_.begin());
    if (path_.empty()) return ok();
    BANGER_TRY(ensure_private_folder(parent_path(path_)));
    return write_file_atomic(path_, rpc::encode_text(File{identity_, list_}), 0600);
}

Result<void> Crashes::forget() {
    list_.clear();
    return path_.empty() ? ok() : remove_file(path_);
}

bool Crashes::is_too_many() const {
    return list_.size() >= limit_.count &&
           list_.back().seconds - list_.front().seconds <= limit_.window.count();
}

}  // namespace banger::plugin_host
