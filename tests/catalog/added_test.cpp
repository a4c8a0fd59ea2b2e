#include "core/catalog/added.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <map>

#include "plugins/catalog/source.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/catalog/fake_host.hpp"

namespace banger::catalog {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string url = "https://images.example/team/catalog.yaml";

/// A web of one function, and a clock.
class AddedTest : public testing::Test {
protected:
    AddedTest() : pair_(KeyPair::make().value()), other_(KeyPair::make().value()) {
        publish(text(1), pair_);
    }
    static std::string text(int serial, const std::string& more = {},
                            const std::string& name = "base") {
        return "version: 1\nserial: " + std::to_string(serial) + "\n" + more +
               "images:\n  - name: " + name +
               "\n    distro: d\n    arch: amd64\n    description: serial " +
               std::to_string(serial) +
               "\n    bundle:\n      url: base.tar.zst\n      sha256: " + std::string(64, 'a') +
               "\n      size: 10\n";
    }
    void publish(const std::string& text, const KeyPair& pair) {
        web_[url] = text;
        web_[url + ".sig"] = sign(text, pair.private_pem)->text();
    }
    AddedCatalogs catalogs() {
        return AddedCatalogs(
            folder_ / "added",
            [this](const std::string& from, ByteCount limit, Call&) -> Result<std::string> {
                const auto found = web_.find(from);
                if (found == web_.end()) return Error(Errc::not_found, "404 for " + from);
                if (found->second.size() > limit.count()) return Error(Errc::corrupt, "too large");
                return found->second;
            },
            [this] { return now_; });
    }
    Result<AddedCatalogs::Added> add(std::optional<std::string> key) {
        return catalogs().add({url, "team", std::move(key)}, call_);
    }
    Result<AddedCatalogs::Updated> update() {
        return catalogs().update(ArtifactName::parse("team").value(), call_);
    }
    void expect_update_refused(Errc code, const std::string& why) {
        const std::vector<AddedCatalog> before = catalogs().list();
        const Result<AddedCatalogs::Updated> updated = update();
        ASSERT_FALSE(updated) << why;
        EXPECT_EQ(updated.error().code, code) << updated.error().text();
        EXPECT_THAT(updated.error().message, HasSubstr(why));
        EXPECT_FALSE(updated.error().remedy.empty()) << why;
        EXPECT_EQ(catalogs().list(), before) << "the old one stays";
    }

    TempFolder folder_;
    KeyPair pair_;
    KeyPair other_;
    std::map<std::string, std::string> web_;
    std::chrono::sys_seconds now_ = std::chrono::sys_days(std::chrono::year(2027) / 1 / 15);
    FakeCall call_;
};

TEST_F(AddedTest, PlacesAreUrlsOrPaths) {
    EXPECT_EQ(parse_place("https://a.example/x/catalog.yaml")->base, "https://a.example/x/");
    EXPECT_EQ(parse_place("https://a.example/x/")->index, "https://a.example/x/catalog.yaml");
    EXPECT_EQ(parse_place("https://a.example")->index, "https://a.example/catalog.yaml");
    EXPECT_EQ(parse_place("http://127.0.0.1:8080/c.yaml")->base, "http://127.0.0.1:8080/");
    EXPECT_EQ(parse_place(folder_.path())->index, folder_ / "catalog.yaml");
    EXPECT_EQ(parse_place(folder_ / "mine.yaml")->base, folder_.path() + "/");
    EXPECT_TRUE(parse_place(folder_.path())->is_local);
    for (const char* place :
         {"", "catalog.yaml", "./x", "http://a.example/c.yaml", "ftp://a/b",
          "https://a.example/c.yaml?x=1", "https://a.example/c.yaml#x",
          "https://a.example/../c.yaml", "file:///etc/c.yaml", "https://a b/c", "https://a\nb/"})
        EXPECT_EQ(parse_place(place).error().code, Errc::invalid_argument) << place;
}

TEST_F(AddedTest, TheKeyIsAskedAboutFirst) {
    const Result<AddedCatalogs::Added> asked = add({});
    ASSERT_TRUE(asked) << asked.error().text();
    EXPECT_FALSE(asked->catalog);
    EXPECT_EQ(asked->unconfirmed, pair_.public_key);
    EXPECT_THAT(catalogs().list(), IsEmpty());

    const Result<AddedCatalogs::Added> added = add(pair_.public_key.text());
    ASSERT_TRUE(added) << added.error().text();
    ASSERT_TRUE(added->catalog);
    EXPECT_EQ(added->catalog->serial, 1u);
    EXPECT_EQ(added->catalog->text, text(1));
    EXPECT_THAT(catalogs().list(), ElementsAre(*added->catalog)) << "also for a new instance";
    EXPECT_EQ(add(pair_.public_key.text()).error().code, Errc::already_exists);
    EXPECT_EQ(catalogs().names_of_offers(ArtifactKind::image).begin()->second, "team");
    EXPECT_THAT(catalogs().names_of_offers(ArtifactKind::kernel), IsEmpty());
}

TEST_F(AddedTest, TheKeyMayBeAPemFile) { EXPECT_TRUE(add(pair_.public_pem)); }

TEST_F(AddedTest, NamesComeFromThePlace) {
    EXPECT_EQ(catalogs().add({url, {}, pair_.public_pem}, call_)->catalog->name.str(),
              "images.example");
    ASSERT_TRUE(ensure_folder(folder_ / "Team-Stick", 0700));
    std::ofstream(folder_ / "Team-Stick/catalog.yaml") << text(1);
    EXPECT_EQ(catalogs().add({folder_ / "Team-Stick", {}, {}}, call_)->catalog->name.str(),
              "team-stick");
}

TEST_F(AddedTest, WhatIsNotRightIsNotAdded) {
    EXPECT_EQ(add(other_.public_pem).error().code, Errc::permission_denied);
    EXPECT_EQ(add("ed25519:nonsense").error().code, Errc::invalid_argument);
    EXPECT_EQ(catalogs().add({url, "../x", {}}, call_).error().code, Errc::invalid_argument);
    EXPECT_EQ(catalogs().add({"https://gone.example/", "x", {}}, call_).error().code,
              Errc::not_found);
    web_[url] += "\n";
    EXPECT_THAT(add(pair_.public_pem).error().message, HasSubstr("does not fit its signature"));
    web_[url] = text(1);
    web_[url + ".sig"] = "nonsense";
    EXPECT_EQ(add(pair_.public_pem).error().code, Errc::corrupt);
    web_.erase(url + ".sig");
    EXPECT_THAT(add(pair_.public_pem).error().message, HasSubstr("is not signed"));
    EXPECT_THAT(add({}).error().message, HasSubstr("is not signed"));
    publish("version: 1\nimages: []\n", pair_);
    EXPECT_THAT(add(pair_.public_pem).error().message, HasSubstr("has no serial"));
    publish(text(1, "expires: 2027-01-14\n"), pair_);
    EXPECT_THAT(add(pair_.public_pem).error().message, HasSubstr("until 2027-01-14"));
    publish(text(1) + "nonsense: 1\n", pair_);
    EXPECT_THAT(add(pair_.public_pem).error().message, HasSubstr("unknown key"));
    publish(text(1) + "#" + std::string(2 << 20, 'x'), pair_);
    EXPECT_EQ(add(pair_.public_pem).error().code, Errc::corrupt);
    std::string inside = text(1);
    inside.replace(inside.find("base.tar.zst"), 12, "http://127.0.0.1:631/admin");
    publish(inside, pair_);
    EXPECT_THAT(add(pair_.public_pem).error().message, HasSubstr("of this host"));
    EXPECT_THAT(catalogs().list(), IsEmpty());
}

TEST_F(AddedTest, WhatIsKeptIsWhatWasSigned) {
    // Found by fuzz_signed_catalog: YAML does not mind in a comment, and JSON replaces it.
    publish(text(1, "# \xba\n"), pair_);
    const Result<AddedCatalogs::Added> added = add(pair_.public_key.text());
    ASSERT_FALSE(added);
    EXPECT_THAT(added.error().message, HasSubstr("UTF-8"));
    EXPECT_FALSE(added.error().remedy.empty());
    EXPECT_THAT(catalogs().list(), IsEmpty());
    publish(text(1, "# \xc2\xba and \xe2\x82\xac\n"), pair_);
    ASSERT_TRUE(add(pair_.public_key.text()));
    EXPECT_EQ(catalogs().list().at(0).text, web_[url]);
    publish(text(2, "# \xff\n"), pair_);
    expect_update_refused(Errc::invalid_argument, "UTF-8");
}

TEST_F(AddedTest, AnUpdateTakesWhatIsNewer) {
    ASSERT_TRUE(add(pair_.public_pem));
    EXPECT_FALSE(update()->has_changed);
    publish(text(5, "expires: 2027-01-15\n"), pair_);
    const Result<AddedCatalogs::Updated> updated = update();
    ASSERT_TRUE(updated) << updated.error().text();
    EXPECT_TRUE(updated->has_changed);
    EXPECT_EQ(updated->catalog.serial, 5u);
    EXPECT_EQ(catalogs().list()[0].text, text(5, "expires: 2027-01-15\n"));
}

TEST_F(AddedTest, AnUpdateTakesNothingElse) {
    publish(text(5), pair_);
    ASSERT_TRUE(add(pair_.public_pem));
    publish(text(4), pair_);
    expect_update_refused(Errc::permission_denied, "is older (serial 4)");
    publish(text(5, {}, "other"), pair_);
    expect_update_refused(Errc::permission_denied, "has changed, but not its serial");
    publish(text(6), other_);
    expect_update_refused(Errc::permission_denied, "signed by another key");
    publish(text(6), pair_);
    web_.erase(url + ".sig");
    expect_update_refused(Errc::permission_denied, "was signed and is not any more");
    publish(text(6), pair_);
    web_[url + ".sig"] = sign(text(7), pair_.private_pem)->text();
    expect_update_refused(Errc::corrupt, "does not fit its signature");
    // Signed by the pinned key, but said to be by another, and the other way round.
    std::string swapped = sign(text(6), other_.private_pem)->text();
    swapped.replace(5, pair_.public_key.text().size(), pair_.public_key.text());
    web_[url + ".sig"] = swapped;
    expect_update_refused(Errc::corrupt, "does not fit its signature");
    publish(text(6, "expires: 2027-01-14\n"), pair_);
    expect_update_refused(Errc::wrong_state, "until 2027-01-14");
    publish("version: 2\n", pair_);
    expect_update_refused(Errc::invalid_argument, "version");
    web_.clear();
    expect_update_refused(Errc::not_found, "404");
    publish(text(6), pair_);
    EXPECT_TRUE(update());
}

TEST_F(AddedTest, RemovingIsFinal) {
    ASSERT_TRUE(add(pair_.public_pem));
    EXPECT_TRUE(catalogs().remove("team"));
    EXPECT_EQ(catalogs().remove("team").error().code, Errc::not_found);
    EXPECT_EQ(update().error().code, Errc::not_found);
    EXPECT_THAT(catalogs().list(), IsEmpty());
    EXPECT_TRUE(add(pair_.public_pem));
}

TEST_F(AddedTest, ADamagedRecordIsToldAndCanBeRemoved) {
    ASSERT_TRUE(add(pair_.public_pem));
    std::ofstream(folder_ / "added/team.json") << "{";
    std::ofstream(folder_ / "added/other.json") << R"({"name":"team"})";
    std::vector<Error> told;
    EXPECT_THAT(read_added(folder_ / "added", [&](const Error& error) { told.push_back(error); }),
                IsEmpty());
    ASSERT_EQ(told.size(), 2u);
    EXPECT_THAT(told[1].remedy, HasSubstr("banger catalog remove team"));
    EXPECT_TRUE(catalogs().remove("team"));
}

// ---- what the plugin makes of it ---------------------------------------------------------------

TEST_F(AddedTest, ThePluginFindsWhatWasAdded) {
    ASSERT_TRUE(add(pair_.public_pem));
    FakeHost host;
    host.server = [](const HttpRequest&) { return std::pair(200, std::string("0123456789")); };
    CatalogSource source(host, {}, folder_ / "added");
    const Result<Resolution> resolution =
        source.resolve({ArtifactKind::image, "base", "amd64"}, call_);
    ASSERT_TRUE(resolution) << resolution.error().text();
    const ArtifactManifest& manifest = std::get<ArtifactManifest>(*resolution);
    EXPECT_EQ(manifest.parts[0].locator, "https://images.example/team/base.tar.zst");
    EXPECT_THAT(manifest.provenance, HasSubstr("catalog team, signed by ed25519:"));
    EXPECT_EQ(source.available(call_)->size(), 4u);
}

TEST_F(AddedTest, WhatIsThereAlreadyKeepsItsMeaning) {
    publish(text(1, {}, "debian-bookworm"), pair_);
    ASSERT_TRUE(add(pair_.public_pem));
    FakeHost host;
    CatalogSource source(host, {}, folder_ / "added");
    const Result<Resolution> resolution =
        source.resolve({ArtifactKind::image, "debian-bookworm", "amd64"}, call_);
    ASSERT_TRUE(resolution);
    EXPECT_TRUE(std::holds_alternative<Redirect>(*resolution)) << "the built-in one";
}

TEST_F(AddedTest, AnExpiredOneIsNotUsed) {
    publish(text(1, "expires: 2027-01-16\n"), pair_);
    ASSERT_TRUE(add(pair_.public_pem));
    const auto day = [](unsigned number) {
        return std::chrono::sys_seconds(
            std::chrono::sys_days(std::chrono::year(2027) / 1 / number));
    };
    const Catalogs in_time = load_catalogs({}, folder_ / "added", day(16) + std::chrono::hours(23));
    EXPECT_NE(in_time.find(ArtifactKind::image, "base", "amd64"), nullptr);
    const Catalogs late = load_catalogs({}, folder_ / "added", day(17));
    EXPECT_EQ(late.find(ArtifactKind::image, "base", "amd64"), nullptr);
    const BrokenCatalog* broken = late.find_broken(ArtifactKind::image, "base");
    ASSERT_NE(broken, nullptr);
    EXPECT_THAT(broken->error.remedy, HasSubstr("banger catalog update"));
    EXPECT_EQ(late.find_broken(ArtifactKind::image, "alpine"), nullptr)
        << "it is known that this one is not in it";
}

/// kill -9 somewhere in an update: the old one or the new, and never anything else.
TEST_F(AddedTest, DyingInAnUpdateLeavesOneOfTheTwo) {
    ASSERT_TRUE(add(pair_.public_pem));
    int serial = 1;
    for (int round = 1; round <= 20; ++round) {
        int ends[2];
        ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            for (int next = serial + 1;; ++next) {
                publish(text(next), pair_);
                if (!update() || ::write(ends[1], "x", 1) != 1) ::_exit(1);
            }
        }
        const UniqueFd done(ends[0]);
        ::close(ends[1]);
        char byte = 0;
        for (int updates = 0; updates < round; ++updates)
            ASSERT_EQ(::read(done.get(), &byte, 1), 1);
        ::kill(child, SIGKILL);  // in the middle of the next one
        ::waitpid(child, nullptr, 0);
        std::vector<Error> told;
        const std::vector<AddedCatalog> list =
            read_added(folder_ / "added", [&](const Error& error) { told.push_back(error); });
        ASSERT_THAT(told, IsEmpty());
        ASSERT_EQ(list.size(), 1u);
        EXPECT_GE(list[0].serial, static_cast<std::uint64_t>(serial + round));
        serial = static_cast<int>(list[0].serial);
        EXPECT_EQ(list[0].text, text(serial));
    }
    publish(text(serial + 1), pair_);
    EXPECT_TRUE(update());
}

}  // namespace
}  // namespace banger::catalog
