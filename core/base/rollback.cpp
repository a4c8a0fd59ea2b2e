#include "core/base/rollback.hpp"

namespace banger {

Rollback::~Rollback() {
    const Result<void> result = run();
    if (!result && report_) report_(result.error());
}

void Rollback::add(std::string what, std::function<Result<void>()> undo) {
    steps_.push_back({std::move(what), std::move(undo)});
}

Result<void> Rollback::run() {
    ErrorCollector errors;
    while (!steps_.empty()) {
        const Step step = std::move(steps_.back());
        steps_.pop_back();
        errors.add(step.undo(), step.what);
    }
    return errors.result();
}

void ErrorCollector::add(Result<void> result, std::string_view doing) {
    if (result) return;
    errors_.push_back(doing.empty() ? result.error() : result.error().context(doing));
}

Result<void> ErrorCollector::result() const {
    if (errors_.empty()) return ok();
    Error all = errors_.front();
    for (std::size_t i = 1; i < errors_.size(); ++i) {
        all.message += "; " + errors_[i].message;
        if (!errors_[i].remedy.empty() && all.remedy.find(errors_[i].remedy) == all.remedy.npos)
            all.remedy += (all.remedy.empty() ? "" : " ") + errors_[i].remedy;
    }
    return all;
}

}  // namespace banger
