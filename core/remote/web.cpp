#include "core/remote/web.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/base/file.hpp"
#include "core/remote/peer.hpp"

namespace banger::remote {

namespace {

/// A body that is built in core's memory for somebody else.
constexpr ByteCount max_body = ByteCount::mib(16);

WebCall call_of(const WebRequest& request) {
    return {request, request.post, request.may_be_plain, request.must_be_public,
            request.must_resume};
}

WebRequest request_of(const WebCall& call) {
    WebRequest request(call.request);
    request.post = call.post;
    request.may_be_plain = call.may_be_plain;
    request.must_be_public = call.must_be_public;
    request.must_resume = call.must_resume;
    return request;
}

WebResponse response_of(WebAnswer answer, std::string body) {
    WebResponse response;
    response.status = answer.status;
    response.headers = std::move(answer.headers);
    response.body = std::move(body);
    response.is_public = answer.is_public;
    return response;
}

WebAnswer answer_of(WebResponse response) {
    return {response.status, std::move(response.headers), response.is_public};
}

}  // namespace

Result<WebAnswer> WebOfCore::get(const WebCall& call, const UniqueFd& sink, Call& progress) {
    struct stat status {};
    // Writing to a pipe that nobody empties would hold this thread.
    if (::fstat(sink.get(), &status) != 0 || !S_ISREG(status.st_mode))
        return Error(Errc::invalid_argument, "the sink of a web.get is not a regular file");
    WebRequest request = request_of(call);
    request.max_body = std::min(request.max_body, max_body);
    WebResponse response = BANGER_TRY(web_.web_get(request, progress));
    BANGER_TRY(write_all(sink.get(), response.body));
    return answer_of(std::move(response));
}

Result<WebAnswer> WebOfCore::download(const WebCall& call, const UniqueFd& sink, Call& progress) {
    return answer_of(BANGER_TRY(web_.web_download(request_of(call), sink.get(), progress)));
}

Result<WebResponse> RemoteWeb::web_get(const WebRequest& request, Call& call) {
    const UniqueFd sink(::memfd_create("body", MFD_CLOEXEC));
    if (!sink) return Error::from_errno(errno, "making room for an answer of the web");
    WebAnswer answer =
        BANGER_TRY((Peer(client_, served_as_).call<&WebRole::get>(call_of(request), sink, call)));
    if (::lseek(sink.get(), 0, SEEK_SET) != 0)
        return Error::from_errno(errno, "reading an answer of the web");
    return response_of(std::move(answer), BANGER_TRY(read_all(sink.get(), max_body)));
}

Result<WebResponse> RemoteWeb::web_download(const WebRequest& request, int sink, Call& call) {
    // Borrowed: it stays the caller's.
    UniqueFd lent(sink);
    Result<WebAnswer> answer =
        Peer(client_, served_as_).call<&WebRole::download>(call_of(request), lent, call);
    static_cast<void>(lent.release());
    if (!answer) return std::move(answer).error();
    return response_of(std::move(*answer), {});
}

}  // namespace banger::remote
