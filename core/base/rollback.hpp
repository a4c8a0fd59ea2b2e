#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "banger/result.hpp"

namespace banger {

/// The way back out of something that is made in steps.
///
/// Register the undo *before* its step runs: removal is idempotent everywhere in banger, so undoing
/// a step that never happened is harmless, while a crash between a step and its registration is
/// not. Unless commit() is called, the destructor runs every undo, last registered first. An undo
/// that fails never skips the others.
///
/// Used from one thread. Undos cannot be cancelled.
class Rollback {
public:
    /// Told of each undo that failed in the destructor, where no caller can be.
    using Report = std::function<void(const Error&)>;

    explicit Rollback(Report report) : report_(std::move(report)) {}
    Rollback(const Rollback&) = delete;
    Rollback& operator=(const Rollback&) = delete;
    ~Rollback();

    /// `what` completes the sentence "while …": "removing the disk of sandbox".
    void add(std::string what, std::function<Result<void>()> undo);
    /// Everything was made: keep it.
    void commit() { steps_.clear(); }
    /// Runs the undos now and joins their errors into one. Nothing is left registered.
    Result<void> run();

private:
    struct Step {
        std::string what;
        std::function<Result<void>()> undo;
    };
    Report report_;
    std::vector<Step> steps_;
};

/// Collects the failures of steps that must all run, and gives them back as one error: the code of
/// the first, every message, every remedy.
class ErrorCollector {
public:
    void add(Result<void> result, std::string_view doing = {});
    [[nodiscard]] bool has_errors() const { return !errors_.empty(); }
    [[nodiscard]] Result<void> result() const;

private:
    std::vector<Error> errors_;
};

}  // namespace banger
