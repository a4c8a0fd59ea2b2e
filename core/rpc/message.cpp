#include "core/rpc/message.hpp"

#include "core/base/names.hpp"
#include "core/rpc/fields.hpp"
#include "core/rpc/upgrade.hpp"

namespace banger::rpc {

namespace {

constexpr std::string_view service = "org.varlink.service.";
constexpr std::string_view failed = ".Failed";

/// Error in the shape of `error Failed`. Error itself cannot be a Result's value.
struct Failure {
    std::string code;
    std::string message;
    std::string remedy;
};

}  // namespace

template <>
struct Fields<Failure> {
    static constexpr auto list =
        fields(field("code", &Failure::code), field("message", &Failure::message),
               field("remedy", &Failure::remedy).or_empty());
};

namespace {

Result<std::string> bounded(std::string text) {
    if (text.size() > max_message_bytes)
        return Error(Errc::no_space, "a message of " + std::to_string(text.size()) +
                                         " bytes is over the limit of one message");
    return text;
}

/// A member that is true, false or not there.
Result<bool> read_flag(const Json& json, std::string_view name) {
    const Json* flag = json.find(name);
    if (flag == nullptr) return false;
    if (flag->if_bool() == nullptr)
        return Error(Errc::corrupt, quoted(name) + " of a message is not true or false");
    return *flag->if_bool();
}

Result<Json> read_parameters(const Json& json) {
    const Json* parameters = json.find("parameters");
    if (parameters == nullptr || parameters->is_null()) return Json(Json::Object{});
    if (parameters->if_object() == nullptr)
        return Error(Errc::corrupt, "the parameters of a message are not an object");
    return *parameters;
}

Result<Json> read_message(std::string_view text) {
    Json json = BANGER_TRY(Json::parse(text, {.bytes = max_message_bytes}));
    if (json.if_object() == nullptr) return Error(Errc::corrupt, "a message is not an object");
    return json;
}

void add(Json::Object& object, std::string_view name, Json value) {
    object.push_back({std::string(name), std::move(value)});
}

}  // namespace

Result<std::string> write_message(const CallMessage& call) {
    Json::Object object;
    add(object, "method", Json(call.method));
    add(object, "parameters", call.parameters);
    if (call.more) add(object, "more", Json(true));
    if (call.oneway) add(object, "oneway", Json(true));
    return bounded(Json(std::move(object)).text());
}

Result<std::string> write_message(const ReplyMessage& reply) {
    Json::Object object;
    if (!reply.error.empty()) add(object, "error", Json(reply.error));
    add(object, "parameters", reply.parameters);
    if (reply.continues) add(object, "continues", Json(true));
    return bounded(Json(std::move(object)).text());
}

Result<std::string> write_upgrade(std::string_view method, const Json& parameters) {
    Json::Object object;
    add(object, "method", Json(method));
    add(object, "parameters", parameters);
    add(object, "upgrade", Json(true));
    return bounded(Json(std::move(object)).text());
}

Result<CallMessage> read_call(std::string_view text) {
    AnyCall any = BANGER_TRY(read_any_call(text));
    if (any.is_upgrade) return Error(Errc::corrupt, "a call asks for another protocol");
    return std::move(any.call);
}

Result<AnyCall> read_any_call(std::string_view text) {
    const Json json = BANGER_TRY(read_message(text));
    for (const JsonMember& member : *json.if_object())
        if (member.name != "method" && member.name != "parameters" && member.name != "more" &&
            member.name != "oneway" && member.name != "upgrade")
            return Error(Errc::corrupt, "a call has no " + quoted(member.name));
    const Json* method = json.find("method");
    if (method == nullptr || method->if_text() == nullptr)
        return Error(Errc::corrupt, "a call does not say which method");
    Json parameters = BANGER_TRY(read_parameters(json));
    const bool more = BANGER_TRY(read_flag(json, "more"));
    const bool oneway = BANGER_TRY(read_flag(json, "oneway"));
    CallMessage call{*method->if_text(), std::move(parameters), more, oneway};
    const std::size_t dot = call.method.rfind('.');
    if (dot == call.method.npos || dot == 0 || dot + 1 == call.method.size())
        return Error(Errc::corrupt, quoted(call.method) + " is not INTERFACE.METHOD");
    if (call.more && call.oneway)
        return Error(Errc::corrupt, "a call wants several replies and none");
    const bool is_upgrade = BANGER_TRY(read_flag(json, "upgrade"));
    if (is_upgrade && (call.more || call.oneway))
        return Error(Errc::corrupt, "a call asks for another protocol, and not for one reply");
    return AnyCall{std::move(call), is_upgrade};
}

Result<ReplyMessage> read_reply(std::string_view text) {
    const Json json = BANGER_TRY(read_message(text));
    Json parameters = BANGER_TRY(read_parameters(json));
    const bool continues = BANGER_TRY(read_flag(json, "continues"));
    ReplyMessage reply{std::move(parameters), continues, {}};
    if (const Json* error = json.find("error"); error != nullptr && !error->is_null()) {
        if (error->if_text() == nullptr || error->if_text()->empty())
            return Error(Errc::corrupt, "the error of a reply is not a name");
        reply.error = *error->if_text();
    }
    return reply;
}

ReplyMessage failed_reply(std::string_view interface, const Error& error) {
    const Failure failure{std::string(to_string(error.code)), error.message, error.remedy};
    return {encode(failure), false, std::string(interface).append(failed)};
}

ReplyMessage service_error(std::string_view name, std::string_view member, std::string_view value) {
    Json::Object parameters;
    add(parameters, member, Json(value));
    return {Json(std::move(parameters)), false, std::string(service).append(name)};
}

Error error_of(const ReplyMessage& reply) {
    if (reply.error.ends_with(failed)) {
        const Result<Failure> failure =
            decode<Failure>(reply.parameters, "error", Unknown::ignored);
        const std::optional<Errc> code = failure ? parse_errc(failure->code) : std::nullopt;
        // A code of a newer daemon: the sentence still helps.
        if (failure) return {code.value_or(Errc::internal), failure->message, failure->remedy};
    }
    const auto text_of = [&](std::string_view name) {
        const Json* value = reply.parameters.find(name);
        return value != nullptr && value->if_text() != nullptr ? *value->if_text() : std::string();
    };
    if (reply.error == "org.varlink.service.InvalidParameter") {
        const std::string message = text_of("message");
        return {
            Errc::invalid_argument,
            message.empty() ? quoted(text_of("parameter")) + " is not what it should be" : message,
            text_of("remedy")};
    }
    constexpr std::string_view versions =
        "Client and daemon may be of different versions; restart bangerd.";
    if (reply.error == "org.varlink.service.MethodNotFound" ||
        reply.error == "org.varlink.service.MethodNotImplemented")
        return {Errc::unsupported, "the daemon does not know " + quoted(text_of("method")),
                std::string(versions)};
    if (reply.error == "org.varlink.service.InterfaceNotFound")
        return {Errc::unsupported, "the daemon does not know " + quoted(text_of("interface")),
                std::string(versions)};
    return {Errc::internal, "the daemon answered with the error " + quoted(reply.error)};
}

Result<void> MessageSplitter::add(std::string_view bytes) {
    if (start_ > 0 && start_ >= buffer_.size() / 2) {
        buffer_.erase(0, start_);
        scanned_ -= start_;
        start_ = 0;
    }
    buffer_.append(bytes);
    const std::size_t first_end = buffer_.find('\0', scanned_);
    scanned_ = first_end == buffer_.npos ? buffer_.size() : first_end;
    if (scanned_ - start_ > limit_)
        return Error(Errc::corrupt,
                     "a message is longer than " + std::to_string(limit_) + " bytes");
    return {};
}

std::optional<std::string> MessageSplitter::next() {
    if (scanned_ >= buffer_.size()) return std::nullopt;
    std::string message = buffer_.substr(start_, scanned_ - start_);
    start_ = scanned_ + 1;
    const std::size_t next_end = buffer_.find('\0', start_);
    scanned_ = next_end == buffer_.npos ? buffer_.size() : next_end;
    if (start_ == buffer_.size()) {
        buffer_.clear();
        start_ = scanned_ = 0;
    }
    return message;
}

bool MessageSplitter::is_inside() const { return !buffer_.empty() && buffer_.back() != '\0'; }

}  // namespace banger::rpc
