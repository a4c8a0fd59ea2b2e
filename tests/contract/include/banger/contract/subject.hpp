#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "banger/host.hpp"
#include "banger/result.hpp"
#include "banger/values.hpp"

/// The contract suites: what the headers of the roles promise, as tests that every plugin passes.
///
/// To put a plugin under its contract, derive from the role's subject (network.hpp:
/// NetworkSubject), and instantiate the suite in a test program that links
/// `banger::contract_network` *directly*:
///
///     class UserNetworkSubject : public contract::NetworkSubject { … };
///     INSTANTIATE_TEST_SUITE_P(
///         UserNetwork, NetworkContract,
///         testing::Values(contract::Case<contract::NetworkSubject>{
///             "user", [] { return std::make_unique<UserNetworkSubject>(); }}),
///         contract::case_name);
///
/// (`using banger::contract::NetworkContract;` first.) Each test makes a fresh subject: it owns its
/// folders (a mkdtemp), so that tests run at once. What a technology has no way to arrange, it
/// answers with false, and the test says that it was skipped.
namespace banger::contract {

/// A plugin's role and the strings to pull on its host.
template <class Role>
class Subject {
public:
    virtual ~Subject() = default;
    virtual Role& role() = 0;
    /// What of the plugin's is on the host when nothing goes behind a call any more, one word a
    /// thing (devices, files, processes), in any order. It must be the same before and after.
    virtual std::vector<std::string> exists() = 0;
    /// Puts a new instance of the plugin in the old one's place, on the same folders: a daemon that
    /// was restarted. The suite calls recover() next.
    virtual void restart() = 0;
    /// Takes what the machine has away behind the plugin's back, as a reboot or an administrator
    /// would. False: nothing that could get lost.
    virtual bool lose(const VmId& vm) = 0;
    /// Lets the next making call fail half-way. False: no way to arrange it.
    virtual bool fail_next() { return false; }
    /// Lets the next call that takes a stop token block until it is stopped. False: no way.
    virtual bool hang_next() { return false; }
    /// Returns when the call of hang_next() blocks.
    virtual void await_hang() {}
};

template <class S>
struct Case {
    std::string name;
    std::function<std::unique_ptr<S>()> make;
    friend std::ostream& operator<<(std::ostream& out, const Case& a_case) {
        return out << a_case.name;
    }
};

/// Names the tests: ".../attach_twice/user".
inline constexpr auto case_name = [](const auto& info) { return info.param.name; };

/// Common to all suites: a fresh subject, and the ledger of what was there before.
template <class S>
class Suite : public testing::TestWithParam<Case<S>> {
protected:
    void SetUp() override {
        subject_ = this->GetParam().make();
        before_ = existing();
    }
    S& subject() { return *subject_; }
    auto& role() { return subject_->role(); }
    std::vector<std::string> existing() {
        std::vector<std::string> words = subject_->exists();
        std::ranges::sort(words);
        return words;
    }
    void expect_nothing_left() { EXPECT_EQ(existing(), before_); }

private:
    std::unique_ptr<S> subject_;
    std::vector<std::string> before_;
};

template <class T>
testing::AssertionResult succeeded(const Result<T>& result) {
    if (result) return testing::AssertionSuccess();
    return testing::AssertionFailure()
           << to_string(result.error().code) << ": " << result.error().text();
}

template <class T>
testing::AssertionResult failed_with(const Result<T>& result, Errc code) {
    if (result) return testing::AssertionFailure() << "it succeeded";
    if (result.error().code == code && !result.error().message.empty())
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << to_string(result.error().code) << " instead of "
                                       << to_string(code) << ": " << result.error().text();
}

/// For failures that a person can do something about.
template <class T>
testing::AssertionResult has_remedy(const Result<T>& result) {
    if (result) return testing::AssertionFailure() << "it succeeded";
    if (!result.error().message.empty() && !result.error().remedy.empty())
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << "no remedy in: " << result.error().text();
}

inline std::stop_token never() { return {}; }
inline std::stop_token already_stopped() {
    std::stop_source source;
    source.request_stop();
    return source.get_token();
}

/// Runs `job(i)` for each i < count, all at once.
inline void all_at_once(std::size_t count, const std::function<void(std::size_t)>& job) {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < count; ++i)
        threads.emplace_back([&job, i] { job(i); });
}

/// Starts `job` (which is to hang), stops it once it hangs, and returns what it returned.
template <class S, class Job>
auto stopped_while_hanging(S& subject, Job job) {
    std::stop_source source;
    std::optional<decltype(job(source.get_token()))> result;
    {
        std::jthread thread([&] { result.emplace(job(source.get_token())); });
        subject.await_hang();
        source.request_stop();
    }
    return std::move(*result);
}

/// A Call that nobody watches, stopped or not.
class QuietCall final : public Call {
public:
    explicit QuietCall(std::stop_token stop = {}) : stop_(std::move(stop)) {}
    [[nodiscard]] std::stop_token stop() const override { return stop_; }
    void report(const Progress&) override {}

private:
    std::stop_token stop_;
};

/// A well-formed machine name for the i-th machine of a test.
inline VmName name_of(std::size_t i) { return VmName::parse("vm-" + std::to_string(i)).value(); }

}  // namespace banger::contract
