#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "core/store/sqlite.hpp"
#include "core/store/store.hpp"

namespace banger {

/// What the parts of the store share. Internal to core/store.
class Store::Database {
public:
    Database(std::unique_ptr<sqlite::Connection> opened, std::string path, StoreOptions options)
        : connection_(std::move(opened)), path_(std::move(path)), options_(std::move(options)) {}

    [[nodiscard]] UnixTime now() const {
        if (options_.clock) return options_.clock();
        return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    }
    [[nodiscard]] std::chrono::seconds quarantine() const { return options_.quarantine; }

    /// Runs `body(connection)` in one transaction and commits when it succeeded. Names the file in
    /// an error that is about the file.
    template <class Body>
    auto transact(sqlite::Transaction::Kind kind, Body body)
        -> decltype(body(std::declval<sqlite::Connection&>())) {
        using Answer = decltype(body(std::declval<sqlite::Connection&>()));
        const std::lock_guard lock(mutex_);
        Answer answer = in_transaction<Answer>(kind, body);
        if (!answer && is_about_the_file(answer.error().code))
            return std::move(answer).context("using the database " + path_);
        return answer;
    }

private:
    template <class Answer, class Body>
    Answer in_transaction(sqlite::Transaction::Kind kind, Body& body) {
        sqlite::Transaction transaction =
            BANGER_TRY(sqlite::Transaction::begin(*connection_, kind));
        Answer answer = body(*connection_);
        if (answer) BANGER_TRY(transaction.commit());
        return answer;
    }
    static bool is_about_the_file(Errc code) {
        return code == Errc::corrupt || code == Errc::permission_denied || code == Errc::internal;
    }

    std::mutex mutex_;
    std::unique_ptr<sqlite::Connection> connection_;
    std::string path_;
    StoreOptions options_;
};

}  // namespace banger
