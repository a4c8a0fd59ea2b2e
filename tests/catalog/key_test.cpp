#include "core/catalog/key.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::catalog {
namespace {

// RFC 8032, 7.1, TEST 2: one byte, 0x72. The key in PKCS #8 by hand.
constexpr const char* rfc_private =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n"
    "-----END PRIVATE KEY-----\n";

TEST(Key, SignsAndTells) {
    const KeyPair pair = KeyPair::make().value();
    const Signature signature = sign("catalog", pair.private_pem).value();
    EXPECT_EQ(signature.key, pair.public_key);
    EXPECT_TRUE(signature.fits("catalog"));
    for (const char* other : {"", "catalo", "catalog ", "Catalog"})
        EXPECT_FALSE(signature.fits(other)) << other;
    EXPECT_EQ(PublicKey::parse(pair.public_pem).value(), pair.public_key);
    EXPECT_EQ(PublicKey::parse(pair.public_key.text() + "\n").value(), pair.public_key);
    EXPECT_NE(KeyPair::make()->public_key, pair.public_key);
    const Signature again = Signature::parse(signature.text()).value();
    EXPECT_EQ(again.text(), signature.text());
    EXPECT_TRUE(again.fits("catalog"));
}

TEST(Key, IsEd25519AsTheRfcHasIt) {
    const Signature signature = sign("\x72", rfc_private).value();
    EXPECT_EQ(signature.key.text(), "ed25519:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=");
    EXPECT_EQ(signature.base64,
              "kqAJqfDUyrhyDoILX2QlQKKye1QWUD+Ps3YiI+vbadoIWsHkPhWZbkWPNhPQ"
              "8R2MOHsurrQwKu6wDSkWErsMAA==");
}

TEST(Key, OpensslReadsAndChecksIt) {
    if (!find_program("openssl")) GTEST_SKIP() << "needs openssl";
    const TempFolder folder;
    const KeyPair pair = KeyPair::make().value();
    const Signature signature = sign("catalog", pair.private_pem).value();
    std::ofstream(folder / "pub.pem") << pair.public_pem;
    std::ofstream(folder / "key.pem") << pair.private_pem;
    std::ofstream(folder / "text") << "catalog";
    std::ofstream(folder / "base64") << signature.base64 << "\n";
    const auto openssl = [&](std::vector<std::string> arguments) {
        Command command;
        command.program = find_program("openssl").value();
        command.arguments = std::move(arguments);
        const Result<CommandOutput> done =
            run_command(command, std::chrono::seconds(60), ByteCount::mib(1), {});
        return done && done->status.is_success();
    };
    EXPECT_TRUE(openssl({"base64", "-d", "-A", "-in", folder / "base64", "-out", folder / "raw"}));
    EXPECT_TRUE(openssl({"pkeyutl", "-verify", "-pubin", "-inkey", folder / "pub.pem", "-rawin",
                         "-in", folder / "text", "-sigfile", folder / "raw"}));
    EXPECT_TRUE(openssl({"pkey", "-in", folder / "key.pem", "-noout"}));
    EXPECT_TRUE(openssl({"genpkey", "-algorithm", "ed25519", "-out", folder / "theirs.pem"}));
    EXPECT_TRUE(sign("x", read_file(folder / "theirs.pem", ByteCount::kib(4)).value()));
    EXPECT_TRUE(openssl({"genpkey", "-algorithm", "ed448", "-out", folder / "other.pem"}));
    EXPECT_EQ(sign("x", read_file(folder / "other.pem", ByteCount::kib(4)).value()).error().code,
              Errc::invalid_argument);
}

TEST(Key, RefusesWhatIsNoKey) {
    const KeyPair pair = KeyPair::make().value();
    const std::string right = pair.public_key.text();
    for (const std::string& text :
         {std::string(), std::string("ed25519:"), right.substr(8), right + "=", right + "A",
          right.substr(0, right.size() - 1), "ED25519:" + right.substr(8), right + " x",
          "ed25519:" + std::string(44, '*'), "ed25519:" + std::string(43, 'A') + "B",
          pair.private_pem,
          std::string("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC "
                      "KEY-----\n"),
          std::string(1 << 20, 'x')}) {
        const Result<PublicKey> key = PublicKey::parse(text);
        ASSERT_FALSE(key) << text;
        EXPECT_EQ(key.error().code, Errc::invalid_argument);
    }
    EXPECT_FALSE(sign("x", pair.public_pem));
    EXPECT_FALSE(sign("x", ""));
}

TEST(Key, RefusesWhatIsNoSignature) {
    const Signature signature = sign("x", KeyPair::make()->private_pem).value();
    const std::string right = signature.text();
    ASSERT_TRUE(Signature::parse(right));
    for (std::size_t size = 0; size < right.size(); ++size)
        EXPECT_FALSE(Signature::parse(right.substr(0, size))) << size;
    EXPECT_FALSE(Signature::parse(right + "x"));
    EXPECT_FALSE(Signature::parse(right + right));
    EXPECT_FALSE(Signature::parse("\n" + right));
    EXPECT_FALSE(Signature::parse(std::string(1 << 20, 'k')));
    // Another byte anywhere: another key or signature, or none.
    for (std::size_t at = 0; at < right.size(); ++at) {
        std::string wrong = right;
        wrong[at] = wrong[at] == 'A' ? 'B' : 'A';
        const Result<Signature> parsed = Signature::parse(wrong);
        if (parsed) {
            EXPECT_FALSE(parsed->fits("x")) << at;
        }
    }
}

}  // namespace
}  // namespace banger::catalog
