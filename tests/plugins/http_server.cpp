#include "tests/plugins/http_server.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

namespace banger {

namespace {

class PlainConnection : public HttpServer::Connection {
public:
    PlainConnection(int fd, int ended) : fd_(fd), ended_(ended) {}
    virtual std::string read() {
        char buffer[4096];
        const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
        return got <= 0 ? "" : std::string(buffer, static_cast<std::size_t>(got));
    }
    bool write(std::string_view bytes) override {
        while (!bytes.empty()) {
            const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0) return false;
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        }
        return true;
    }
    void wait() override {
        pollfd waits[2] = {{fd_, POLLRDHUP, 0}, {ended_, POLLIN, 0}};
        ::poll(waits, 2, -1);
    }

private:
    int fd_;
    int ended_;
};

class TlsConnection final : public PlainConnection {
public:
    TlsConnection(int fd, int ended, SSL_CTX* context)
        : PlainConnection(fd, ended), tls_(SSL_new(context), &SSL_free) {
        SSL_set_fd(tls_.get(), fd);
        is_open_ = SSL_accept(tls_.get()) == 1;
    }
    ~TlsConnection() override {
        if (is_open_) SSL_shutdown(tls_.get());
    }
    std::string read() override {
        char buffer[4096];
        const int got = is_open_ ? SSL_read(tls_.get(), buffer, sizeof buffer) : 0;
        return got <= 0 ? "" : std::string(buffer, static_cast<std::size_t>(got));
    }
    bool write(std::string_view bytes) override {
        return is_open_ && SSL_write(tls_.get(), bytes.data(), static_cast<int>(bytes.size())) > 0;
    }

private:
    std::unique_ptr<SSL, decltype(&SSL_free)> tls_;
    bool is_open_ = false;
};

/// A key and a certificate that it signed itself, for "localhost".
std::shared_ptr<SSL_CTX> make_tls(const std::string& certificate_file) {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                  &EVP_PKEY_free);
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), &X509_free);
    X509* x509 = certificate.get();
    X509_set_version(x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
    X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
    X509_set_pubkey(x509, key.get());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
    X509_set_issuer_name(x509, X509_get_subject_name(x509));
    X509_EXTENSION* names =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:localhost");
    X509_add_ext(x509, names, -1);
    X509_EXTENSION_free(names);
    EXPECT_GT(X509_sign(x509, key.get(), EVP_sha256()), 0);

    const std::unique_ptr<FILE, decltype(&std::fclose)> file(
        std::fopen(certificate_file.c_str(), "we"), &std::fclose);
    EXPECT_EQ(PEM_write_X509(file.get(), x509), 1);
    std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), &SSL_CTX_free);
    EXPECT_EQ(SSL_CTX_use_certificate(context.get(), x509), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey(context.get(), key.get()), 1);
    return context;
}

}  // namespace

HttpServer::HttpServer(Handler handler, std::shared_ptr<ssl_ctx_st> tls)
    : handler_(std::move(handler)),
      tls_(std::move(tls)),
      listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      ended_(::eventfd(0, EFD_CLOEXEC)) {
    std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), generic, size), 0);
    EXPECT_EQ(::listen(listener_.get(), 64), 0);
    EXPECT_EQ(::getsockname(listener_.get(), generic, &size), 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::jthread([this] { serve(); });
}

std::unique_ptr<HttpServer> HttpServer::with_tls(Handler handler,
                                                 const std::string& certificate_file) {
    return std::unique_ptr<HttpServer>(
        new HttpServer(std::move(handler), make_tls(certificate_file)));
}

HttpServer::~HttpServer() {
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(ended_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
    acceptor_.join();
    connections_.clear();
}

void HttpServer::serve() {
    while (true) {
        pollfd waits[2] = {{listener_.get(), POLLIN, 0}, {ended_.get(), POLLIN, 0}};
        ::poll(waits, 2, -1);
        if (waits[1].revents != 0) return;
        UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (fd)
            connections_.emplace_back([this, shared = std::make_shared<UniqueFd>(std::move(fd))] {
                answer(std::move(*shared));
            });
    }
}

void HttpServer::answer(UniqueFd fd) {
    std::unique_ptr<PlainConnection> connection =
        tls_ ? std::make_unique<TlsConnection>(fd.get(), ended_.get(), tls_.get())
             : std::make_unique<PlainConnection>(fd.get(), ended_.get());
    std::string head;
    while (head.find("\r\n\r\n") == head.npos) {
        const std::string more = connection->read();
        if (more.empty()) return;
        head += more;
    }
    {
        const std::lock_guard lock(mutex_);
        heads_.push_back(head);
    }
    handler_(head, *connection);
}

std::string HttpServer::url(const std::string& path, const std::string& host) const {
    return (tls_ ? "https://" : "http://") + host + ":" + std::to_string(port_) + path;
}

std::vector<std::string> HttpServer::heads() const {
    const std::lock_guard lock(mutex_);
    return heads_;
}

std::string http_answer(const std::string& status, const std::string& headers,
                        const std::string& body) {
    return "HTTP/1.1 " + status +
           "\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
           headers + "\r\n" + body;
}

}  // namespace banger
