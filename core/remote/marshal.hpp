#pragma once

#include <concepts>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "banger/plugin.hpp"
#include "core/remote/methods.hpp"
#include "core/rpc/role_fields.hpp"

/// How the types of the table's methods become packets and back. For server.cpp and proxies.cpp.
namespace banger::remote {

/// The good end of a call.
struct Answer {
    rpc::Json result;  ///< an object: {"result": …}, or {} for success without a value
    std::vector<UniqueFd> descriptors;
};

/// A call as the near end gathers it.
struct Outgoing {
    const std::string_view* next_name;
    FdKind kind;  ///< of descriptors that are arguments by themselves
    rpc::Json::Object parameters;
    std::vector<int> descriptors;
    std::stop_token stop;
    Call* call = nullptr;
    std::vector<UniqueFd> opened = {};  ///< those of `descriptors` that are not the caller's
    std::optional<Error> failure = std::nullopt;  ///< nothing is sent then
};

/// A call as the far end takes it apart.
struct Incoming {
    const std::string_view* next_name;
    FdKind kind;  ///< of descriptors that are arguments by themselves
    const rpc::Json& parameters;
    std::vector<UniqueFd> descriptors;
    Call& call;
    std::size_t next_descriptor = 0;
};

/// Errc::invalid_argument when the descriptor is not of that kind: a folder, a socket, O_PATH, not
/// open for what is needed.
Result<void> check_descriptor(int fd, FdKind kind);

inline Error too_few_descriptors() {
    return {Errc::invalid_argument, "the call has too few descriptors"};
}

template <class T>
Result<T> read_parameter(Incoming& in) {
    const std::string_view name = *in.next_name++;
    const rpc::Json* json = in.parameters.find(name);
    if (json == nullptr)
        return Error(Errc::invalid_argument, std::string(name).append(": it is missing"));
    return rpc::decode<T>(*json, name);
}

/// One argument, both ways. What is read lives in the Argument until the method has returned.
///
/// This is the common case, a value that is sent as JSON, with the descriptors inside it beside.
template <class A>
struct Argument {
    using Value = std::remove_cvref_t<A>;
    static constexpr bool is_sent = true;
    static constexpr bool is_call = false;
    std::optional<Value> value;

    static void write(Outgoing& out, const Value& value) {
        out.parameters.push_back({std::string(*out.next_name++), rpc::encode(value)});
        for (int Value::*member : DescriptorsIn<Value>::members)
            out.descriptors.push_back(value.*member);
    }
    Result<void> read(Incoming& in) {
        value.emplace(BANGER_TRY(read_parameter<Value>(in)));
        for (int Value::*member : DescriptorsIn<Value>::members) {
            if (in.next_descriptor == in.descriptors.size()) return too_few_descriptors();
            const int fd = in.descriptors[in.next_descriptor++].get();
            BANGER_TRY(check_descriptor(fd, FdKind::source));
            *value.*member = fd;
        }
        return ok();
    }
    const Value& get() { return *value; }
};

/// The far end may not reach what the caller can open. So each read-only disk travels without its
/// path, as a descriptor after kernel and initramfs, and there its path is the descriptor's:
/// /proc/self/fd/N, good for as long as the method runs. Disks that are written are devices that
/// the far end made itself.
template <>
struct Argument<const MachineSpec&> {
    using Value = MachineSpec;
    static constexpr bool is_sent = true;
    static constexpr bool is_call = false;
    std::optional<Value> value;

    static void write(Outgoing& out, const MachineSpec& spec);
    Result<void> read(Incoming& in);
    const Value& get() { return *value; }
};

/// Numbers have no members to look for descriptors in.
template <std::integral A>
struct Argument<A> {
    static constexpr bool is_sent = true;
    static constexpr bool is_call = false;
    A value{};

    static void write(Outgoing& out, A value) {
        out.parameters.push_back({std::string(*out.next_name++), rpc::encode(value)});
    }
    Result<void> read(Incoming& in) {
        value = BANGER_TRY(read_parameter<A>(in));
        return ok();
    }
    A get() { return value; }
};

template <class T>
struct Argument<std::span<const T>> {
    static constexpr bool is_sent = true;
    static constexpr bool is_call = false;
    std::vector<T> value;

    static void write(Outgoing& out, std::span<const T> value) {
        out.parameters.push_back({std::string(*out.next_name++),
                                  rpc::encode(std::vector<T>(value.begin(), value.end()))});
    }
    Result<void> read(Incoming& in) {
        value = BANGER_TRY(read_parameter<std::vector<T>>(in));
        return ok();
    }
    std::span<const T> get() { return value; }
};

template <>
struct Argument<const UniqueFd&> {
    static constexpr bool is_sent = false;
    static constexpr bool is_call = false;
    UniqueFd value;

    static void write(Outgoing& out, const UniqueFd& value) {
        if (value || out.kind != FdKind::optional_source) out.descriptors.push_back(value.get());
    }
    Result<void> read(Incoming& in) {
        if (in.next_descriptor == in.descriptors.size())
            return in.kind == FdKind::optional_source ? ok() : too_few_descriptors();
        UniqueFd& fd = in.descriptors[in.next_descriptor++];
        BANGER_TRY(check_descriptor(fd.get(), in.kind));
        value = std::move(fd);
        return ok();
    }
    const UniqueFd& get() { return value; }
};

template <>
struct Argument<std::stop_token> {
    static constexpr bool is_sent = false;
    static constexpr bool is_call = false;
    std::stop_token value;

    static void write(Outgoing& out, std::stop_token stop) { out.stop = std::move(stop); }
    Result<void> read(Incoming& in) {
        value = in.call.stop();
        return ok();
    }
    std::stop_token get() { return value; }
};

template <>
struct Argument<Call&> {
    static constexpr bool is_sent = false;
    static constexpr bool is_call = true;
    Call* value = nullptr;

    static void write(Outgoing& out, Call& call) {
        out.stop = call.stop();
        out.call = &call;
    }
    Result<void> read(Incoming& in) {
        value = &in.call;
        return ok();
    }
    Call& get() { return *value; }
};

// ---- what a method returns ----

template <class T>
inline Answer answer_with(const T& value) {
    rpc::Json::Object object;
    object.push_back({"result", rpc::encode(value)});
    return {rpc::Json(std::move(object)), {}};
}

/// An answer that is none of this method's.
inline Error misfit(std::string_view plugin, std::string_view why) {
    return {Errc::corrupt,
            "the answer of " + std::string(plugin.empty() ? "the other process" : plugin) +
                " does not fit: " + std::string(why),
            "Both sides must be of fitting versions; see `banger plugin info`."};
}

template <class R>
struct Outcome;

template <class T>
struct Outcome<Result<T>> {
    static Result<Answer> write(Result<T> result) {
        if (!result) return std::move(result).error();
        return answer_with(*result);
    }
    static Result<T> read(Result<Answer> answer, std::string_view plugin) {
        if (!answer) return std::move(answer).error();
        const rpc::Json* json = answer->result.find("result");
        if (json == nullptr) return misfit(plugin, "there is no result");
        Result<T> value = rpc::decode<T>(*json, "result", rpc::Unknown::ignored);
        if (!value) return misfit(plugin, value.error().message);
        return value;
    }
};

template <>
struct Outcome<Result<void>> {
    static Result<Answer> write(Result<void> result) {
        if (!result) return std::move(result).error();
        return Answer{rpc::Json(rpc::Json::Object{}), {}};
    }
    static Result<void> read(Result<Answer> answer, std::string_view /*plugin*/) {
        if (!answer) return std::move(answer).error();
        return ok();
    }
};

template <>
struct Outcome<Result<UniqueFd>> {
    static Result<Answer> write(Result<UniqueFd> result) {
        if (!result) return std::move(result).error();
        Answer answer{rpc::Json(rpc::Json::Object{}), {}};
        answer.descriptors.push_back(std::move(result).value());
        return answer;
    }
    static Result<UniqueFd> read(Result<Answer> answer, std::string_view plugin) {
        if (!answer) return std::move(answer).error();
        if (answer->descriptors.size() != 1)
            return misfit(plugin, "there is not one descriptor with it");
        return std::move(answer->descriptors.front());
    }
};

/// checks() has no error: what went wrong is a row.
template <>
struct Outcome<std::vector<Check>> {
    static Result<Answer> write(const std::vector<Check>& rows) { return answer_with(rows); }
    static std::vector<Check> read(Result<Answer> answer, std::string_view plugin) {
        Result<std::vector<Check>> rows =
            Outcome<Result<std::vector<Check>>>::read(std::move(answer), plugin);
        if (rows) return std::move(rows).value();
        const Error& error = rows.error();
        return {{std::string(plugin), CheckStatus::fail, error.message, error.remedy}};
    }
};

// ---- methods ----

template <class M>
struct Signature;
template <class R, class C, class... A>
struct Signature<R (C::*)(A...)> {
    using Return = R;
    using Class = C;
    using Arguments = std::tuple<Argument<A>...>;
    static constexpr std::size_t names = (std::size_t{Argument<A>::is_sent} + ... + 0);
    static constexpr bool takes_call = (Argument<A>::is_call || ...);

    template <class... Given>
    static void write(Outgoing& out, Given&&... given) {
        (Argument<A>::write(out, std::forward<Given>(given)), ...);
    }
};

template <auto member, std::size_t count>
constexpr bool fits(const Method<member, count>& /*entry*/) {
    return Signature<decltype(member)>::names == count;
}
static_assert(std::apply([](const auto&... each) { return (fits(each) && ...); }, all_methods),
              "a method of the table does not name what it sends");

/// The table's entry of a method.
template <auto member, std::size_t index = 0>
constexpr const auto& entry_of() {
    using Wanted = Method<member, Signature<decltype(member)>::names>;
    if constexpr (std::is_same_v<
                      std::tuple_element_t<index, std::remove_cvref_t<decltype(all_methods)>>,
                      Wanted>)
        return std::get<index>(all_methods);
    else
        return entry_of<member, index + 1>();
}

}  // namespace banger::remote
