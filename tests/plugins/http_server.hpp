#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "banger/unique_fd.hpp"

struct ssl_ctx_st;

namespace banger {

/// A web server of one test's own on a free loopback port. The handler gets the request's head and
/// writes the answer, byte for byte, so that it can be a wrong one.
class HttpServer {
public:
    class Connection {
    public:
        virtual ~Connection() = default;
        /// False when the client has gone.
        virtual bool write(std::string_view bytes) = 0;
        /// Returns when the client has gone or the server is destroyed.
        virtual void wait() = 0;
    };
    using Handler = std::function<void(const std::string& head, Connection& connection)>;

    explicit HttpServer(Handler handler) : HttpServer(std::move(handler), nullptr) {}
    /// With TLS, for the name "localhost"; `certificate_file` is where its certificate is put.
    static std::unique_ptr<HttpServer> with_tls(Handler handler,
                                                const std::string& certificate_file);
    ~HttpServer();
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    [[nodiscard]] std::string url(const std::string& path = "/",
                                  const std::string& host = "127.0.0.1") const;
    [[nodiscard]] std::vector<std::string> heads() const;  ///< of every request so far

private:
    HttpServer(Handler handler, std::shared_ptr<ssl_ctx_st> tls);
    void serve();
    void answer(UniqueFd fd);

    Handler handler_;
    std::shared_ptr<ssl_ctx_st> tls_;
    UniqueFd listener_;
    UniqueFd ended_;  ///< readable when the server is destroyed
    unsigned port_ = 0;
    mutable std::mutex mutex_;
    std::vector<std::string> heads_;
    std::vector<std::jthread> connections_;
    std::jthread acceptor_;
};

/// A whole answer.
std::string http_answer(const std::string& status, const std::string& headers,
                        const std::string& body);

}  // namespace banger
