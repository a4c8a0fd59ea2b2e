#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

/// Failure as a value.
///
/// Everything that can fail returns `Result<T>`. The names follow std::expected (C++23), which g++
/// 12 does not have in C++20 mode, so that the day it does this header becomes an alias.
///
/// How an error grows: errno is taken where the call failed (`Error::from_errno`), each caller
/// above adds what it was doing (`.context("making the disk of vm sandbox")`), and the program that
/// owns the terminal or the log prints it once. Libraries never log an error that they also return.
namespace banger {

/// What the reader of the error can do about it. Not where it happened: that is the message.
enum class Errc {
    invalid_argument,   ///< the input is wrong: correct it
    not_found,          ///< nothing of that name: look at the list
    already_exists,     ///< the name is taken: choose another or delete the old one
    in_use,             ///< something still needs it: stop or delete that first
    busy,               ///< held for a moment by somebody else: the same call may succeed later
    wrong_state,        ///< right thing, wrong moment (start a running machine)
    unsupported,        ///< this host, plugin or build cannot do it: choose another
    unavailable,        ///< something needed is not installed or not running: install or start it
    permission_denied,  ///< the operating system or a policy said no
    no_space,           ///< disk, address range or another limit is full: free some
    unreachable,        ///< the network peer did not answer: check the network, try again
    timed_out,          ///< it took longer than it may
    cancelled,          ///< the caller asked to stop; nothing is left behind
    corrupt,            ///< foreign bytes are not what they claim to be: fetch them again
    internal,           ///< a bug in banger or a plugin: report it
};

/// The stable wire and JSON spelling ("not_found").
std::string_view to_string(Errc code);
/// The inverse of to_string(); nothing for a word that is none of ours.
std::optional<Errc> parse_errc(std::string_view word);

/// One failure: a code for programs, a sentence for people, and the remedy beside it.
struct Error {
    Errc code = Errc::internal;
    /// What failed and why, without a final full stop. Context is prepended as "while X: why".
    std::string message;
    /// What the reader should do, as one imperative sentence; empty when there is nothing to
    /// advise.
    std::string remedy;

    Error() = default;
    Error(Errc error_code, std::string text, std::string advice = {})
        : code(error_code), message(std::move(text)), remedy(std::move(advice)) {}

    /// `what: strerror(error_number)`, with the Errc that fits the number. Take errno at the call:
    /// pass it here before anything else can change it.
    static Error from_errno(int error_number, std::string_view what);

    /// Returns the same error with what the caller was doing in front: "while DOING: message".
    [[nodiscard]] Error context(std::string_view doing) const&;
    [[nodiscard]] Error context(std::string_view doing) &&;

    /// Message and remedy as one line for people.
    [[nodiscard]] std::string text() const;

    friend bool operator==(const Error&, const Error&) = default;
};

/// The Errc that fits an errno value; Errc::internal for one that has no better answer.
Errc errc_from_errno(int error_number);

/// Tag-like wrapper that makes `return unexpected(error)` explicit where a T could be meant.
struct Unexpected {
    Error error;
};
[[nodiscard]] inline Unexpected unexpected(Error error) { return Unexpected{std::move(error)}; }

namespace detail {
/// Ends the program: value() of a failed Result is a bug in the caller, not a condition to handle.
[[noreturn]] void bad_result_access(const Error* error);
}  // namespace detail

/// A T or the Error that explains why there is none.
template <class T>
class [[nodiscard]] Result {
public:
    using value_type = T;

    // Implicit on purpose: `return value;` and `return Error{…};` are how functions end.
    Result(const T& value) : state_(std::in_place_index<0>, value) {}            // NOLINT
    Result(T&& value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT
    Result(const Error& error) : state_(std::in_place_index<1>, error) {}        // NOLINT
    Result(Error&& error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT
    Result(Unexpected failure)                                                   // NOLINT
        : state_(std::in_place_index<1>, std::move(failure.error)) {}

    [[nodiscard]] bool has_value() const { return state_.index() == 0; }
    explicit operator bool() const { return has_value(); }

    T& value() & { return checked(), std::get<0>(state_); }
    const T& value() const& { return checked(), std::get<0>(state_); }
    /// By value, so that a loop over `*f()` does not outlive what it loops over.
    T value() && { return checked(), std::get<0>(std::move(state_)); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }
    [[nodiscard]] T value_or(T fallback) const& {
        return has_value() ? **this : std::move(fallback);
    }

    const Error& error() const& { return failed(), std::get<1>(state_); }
    Error& error() & { return failed(), std::get<1>(state_); }
    Error&& error() && { return failed(), std::get<1>(std::move(state_)); }

    /// Same Result, with context on the error if there is one.
    [[nodiscard]] Result context(std::string_view doing) && {
        if (!has_value()) state_.template emplace<1>(std::get<1>(std::move(state_)).context(doing));
        return std::move(*this);
    }

private:
    void checked() const {
        if (!has_value()) detail::bad_result_access(&std::get<1>(state_));
    }
    void failed() const {
        if (has_value()) detail::bad_result_access(nullptr);
    }
    std::variant<T, Error> state_;
};

/// Success without a value, or the Error.
template <>
class [[nodiscard]] Result<void> {
public:
    using value_type = void;

    Result() = default;
    Result(const Error& error) : error_(error) {}                     // NOLINT
    Result(Error&& error) : error_(std::move(error)) {}               // NOLINT
    Result(Unexpected failure) : error_(std::move(failure.error)) {}  // NOLINT

    [[nodiscard]] bool has_value() const { return !error_.has_value(); }
    explicit operator bool() const { return has_value(); }
    void value() const {
        if (error_) detail::bad_result_access(&*error_);
    }
    const Error& error() const& { return failed(), *error_; }
    Error& error() & { return failed(), *error_; }
    Error&& error() && { return failed(), *std::move(error_); }

    [[nodiscard]] Result context(std::string_view doing) && {
        if (error_) error_ = std::move(*error_).context(doing);
        return std::move(*this);
    }

private:
    void failed() const {
        if (!error_) detail::bad_result_access(nullptr);
    }
    std::optional<Error> error_;
};

[[nodiscard]] inline Result<void> ok() { return {}; }

}  // namespace banger

namespace banger::detail {
template <class T>
T take(Result<T>&& result) {
    return std::move(result).value();
}
inline void take(Result<void>&& result) { result.value(); }
}  // namespace banger::detail

/// The value of a Result, or an early return of its error from the enclosing function:
///
///     Volume volume = BANGER_TRY(storage.create(request, stop));
///
/// A statement expression, which both supported compilers have; the enclosing function returns a
/// Result of any type. Not inside the braces of an initialiser after a member that owns memory: an
/// early return from the middle of it never destroys what is already made (g++). Name the value
/// first.
#define BANGER_TRY(...) \
    BANGER_DETAIL_TRY(BANGER_DETAIL_CONCAT(banger_try_result_, __COUNTER__), __VA_ARGS__)
#define BANGER_DETAIL_CONCAT_(a, b) a##b
#define BANGER_DETAIL_CONCAT(a, b) BANGER_DETAIL_CONCAT_(a, b)
/// A name of its own for each use, because one may stand inside a lambda inside another.
#define BANGER_DETAIL_TRY(name, ...)                                            \
    __extension__({                                                             \
        auto name = (__VA_ARGS__);                                              \
        if (!name.has_value()) return ::banger::Error(std::move(name).error()); \
        ::banger::detail::take(std::move(name));                                \
    })
