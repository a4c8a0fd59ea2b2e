#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "tests/image-oci/made_image.hpp"
#include "tests/plugins/http_server.hpp"

namespace banger::image_oci {

/// A registry that serves what it is given, and lies where a test says so. Answers are whole bytes
/// of HTTP, by path ("/v2/x/manifests/1"); `special` is asked before them.
class ScriptedRegistry {
public:
    using Connection = HttpServer::Connection;
    /// True when it has answered itself.
    using Special =
        std::function<bool(const std::string& path, const std::string& head, Connection&)>;

    ScriptedRegistry() : server_(std::make_unique<HttpServer>(handler())) {}
    /// With TLS, for "localhost".
    explicit ScriptedRegistry(const std::string& certificate_file)
        : server_(HttpServer::with_tls(handler(), certificate_file)) {}

    void set(const std::string& path, const std::string& answer) {
        const std::lock_guard lock(mutex_);
        answers_[path] = answer;
    }
    void set(const std::string& path, const std::string& type, const std::string& body) {
        set(path, http_answer("200 OK", "Content-Type: " + type + "\r\n", body));
    }
    void set_special(Special special) {
        const std::lock_guard lock(mutex_);
        special_ = std::move(special);
    }
    /// Everything of the image, as "x:1" and by digest.
    void serve(const MadeImage& made, const std::string& type = oci_manifest) {
        set("/v2/x/manifests/1", type, made.manifest);
        set("/v2/x/manifests/" + made.digest(), type, made.manifest);
        for (const std::string& bytes : made.layers)
            set(blob(bytes), "application/octet-stream", bytes);
        set(blob(made.config), "application/octet-stream", made.config);
    }
    static std::string blob(const std::string& bytes) {
        return "/v2/x/blobs/" + digest_of(bytes).str();
    }
    [[nodiscard]] std::string host(const std::string& name = "127.0.0.1") const {
        const std::string url = server_->url("", name);
        return url.substr(url.find("://") + 3);
    }
    [[nodiscard]] std::string url(const std::string& path) const { return server_->url(path); }
    /// Heads of the requests for that path.
    [[nodiscard]] std::vector<std::string> asked(const std::string& path) const {
        std::vector<std::string> found;
        for (const std::string& head : server_->heads())
            if (path_of(head) == path) found.push_back(head);
        return found;
    }
    [[nodiscard]] std::string everything_asked() const {
        std::string all;
        for (const std::string& head : server_->heads())
            all += head;
        return all;
    }

private:
    static std::string path_of(const std::string& head) {
        const std::size_t begin = head.find(' ') + 1;
        return head.substr(begin, head.find_first_of(" ?", begin) - begin);
    }
    HttpServer::Handler handler() {
        return [this](const std::string& head, Connection& connection) {
            const std::string path = path_of(head);
            Special special;
            std::string answer = http_answer("404 Not Found", "", "");
            {
                const std::lock_guard lock(mutex_);
                special = special_;
                if (path == "/v2/") answer = http_answer("200 OK", "", "{}");
                if (const auto found = answers_.find(path); found != answers_.end())
                    answer = found->second;
            }
            if (special && special(path, head, connection)) return;
            connection.write(answer);
        };
    }
    std::mutex mutex_;
    std::map<std::string, std::string> answers_;
    Special special_;
    std::unique_ptr<HttpServer> server_;
};

}  // namespace banger::image_oci
