#pragma once

#include <optional>
#include <string>
#include <vector>

#include "banger/unique_fd.hpp"
#include "banger/web.hpp"
#include "core/rpc/role_fields.hpp"

namespace banger::remote {

/// A WebRequest as it crosses.
struct WebCall {
    HttpRequest request;
    std::optional<std::string> post;
    bool may_be_plain = false;
    bool must_be_public = false;
    bool must_resume = false;
};

/// A WebResponse without its body, which went into the sink.
struct WebAnswer {
    int status = 0;
    std::vector<HttpHeader> headers;
    bool is_public = false;
};

/// What core does on the web for a plugin in a process that has no way there itself: the one role
/// that goes the other way. Bodies go into a descriptor, because a message has 128 KiB.
class WebRole {
public:
    virtual ~WebRole() = default;
    /// Web::web_get(); `sink` is a regular file (a memfd) that gets the body whatever the status.
    virtual Result<WebAnswer> get(const WebCall& call, const UniqueFd& sink, Call& progress) = 0;
    /// Web::web_download().
    virtual Result<WebAnswer> download(const WebCall& call, const UniqueFd& sink,
                                       Call& progress) = 0;
};

}  // namespace banger::remote

template <>
struct banger::rpc::Fields<banger::remote::WebCall> {
    using T = banger::remote::WebCall;
    static constexpr auto list = fields(field("request", &T::request), field("post", &T::post),
                                        field("may_be_plain", &T::may_be_plain).or_empty(),
                                        field("must_be_public", &T::must_be_public).or_empty(),
                                        field("must_resume", &T::must_resume).or_empty());
};

template <>
struct banger::rpc::Fields<banger::remote::WebAnswer> {
    using T = banger::remote::WebAnswer;
    static constexpr auto list = fields(field("status", &T::status), field("headers", &T::headers),
                                        field("is_public", &T::is_public));
};
