// The blocks of the documentation that are marked `sh guest`, run as they stand against a real
// guest. Four things are not as for a user: the image is the slim one, made by the boot tests;
// `make`, which it has not, is a script that changes a file; `vm forward`, which goes on until
// Ctrl-C, gets one after some seconds; and `./dev run`, which would build, is `banger`.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>

#include "core/base/file.hpp"
#include "tests/boot/guest_command.hpp"
#include "tests/docs/blocks.hpp"

namespace banger::boot {
namespace {

using namespace std::chrono_literals;

constexpr const char* wrapper = R"(#!/bin/sh
case "$1 $2" in
"vm run")
    shift 2
    exec BIN/banger vm run --image IMAGE "$@" ;;
"vm forward")
    timeout --signal=INT 4 BIN/banger "$@"
    [ $? = 124 ] ;;  # it went on until then
*)
    exec BIN/banger "$@" ;;
esac
)";

class DocsBoot : public ::testing::Test {
protected:
    void SetUp() override {
        const std::string reason = reason_to_skip();
        const char* required = std::getenv("BANGER_REQUIRE");
        if (!reason.empty() && required && std::string(required).find("boot") != std::string::npos)
            FAIL() << reason;
        if (!reason.empty()) GTEST_SKIP() << reason;
        delete_what_is_left(banger_command);
        home_ = banger_command({}).environment["HOME"];
        ASSERT_TRUE(remove_tree(home_ + "/src"));
        ASSERT_TRUE(remove_tree(home_ + "/bin"));
        for (const char* folder : {"/bin", "/src", "/src/project"})
            ASSERT_TRUE(ensure_folder(home_ + folder, 0700));
        std::string script = wrapper;
        const auto fill = [&](const std::string& name, const std::string& value) {
            for (std::size_t at = 0; (at = script.find(name, at)) != script.npos;)
                script.replace(at, name.size(), value);
        };
        fill("BIN", BANGER_BIN);
        fill("IMAGE", slim_image());
        ASSERT_TRUE(write_file_atomic(home_ + "/bin/banger", script, 0700));
        bash(
            "git init -q -b main . && git config user.name me && git config user.email "
            "me@example.com && "
            "echo one >file && git add . && git commit -qm one");
    }
    void TearDown() override {
        if (home_.empty()) return;
        run_banger({"vm", "delete", "--force", "sandbox"});
        EXPECT_TRUE(remove_tree(home_ + "/src"));
        EXPECT_TRUE(remove_tree(home_ + "/bin"));
    }

    void bash(const std::string& line) {
        Command command = banger_command({});
        command.program = "/bin/bash";
        command.arguments = {"-c", "set -o pipefail; cd ~/src/project && " + line};
        command.environment["PATH"] = home_ + "/bin:/usr/bin:/bin";
        const Result<CommandOutput> output = run_command(command, 240s, ByteCount::mib(4), {});
        EXPECT_TRUE(output && output->status.is_success())
            << line << "\n"
            << (output ? output->standard_output + output->standard_error : output.error().text());
    }
    void run_blocks_of(const std::string& document, const std::string& before = "true") {
        for (const docs::Block& block : docs::blocks_of(BANGER_SOURCE, document)) {
            if (block.kind != "sh guest") continue;
            SCOPED_TRACE(block.place);
            if (ran_ > 0) bash(before);
            for (const std::string& line : block.lines) {
                bash(line);
                ++ran_;
                if (line.starts_with("banger vm run "))
                    bash(R"(banger vm exec sandbox -- sh -c ')"
                         R"(printf "#!/bin/sh\necho fixed >>file\n" >/usr/local/bin/make; )"
                         R"(chmod +x /usr/local/bin/make; mkdir -p ~/build ~/data; )"
                         R"(echo built >~/build/out; echo kept >~/data/kept')");
            }
        }
    }

    std::string home_;
    int ran_ = 0;
};

TEST_F(DocsBoot, WhatTheDocumentsShowWorks) {
    // Each block of workspaces.md begins with a workspace as it was copied.
    run_blocks_of("docs/workspaces.md",
                  "git checkout -q -f main && banger vm workspace prepare sandbox . --force -q");
    bash("banger vm start sandbox");
    run_blocks_of("docs/advanced.md");
    run_blocks_of("docs/troubleshooting.md");
    ASSERT_TRUE(write_file_atomic(home_ + "/src/project/dev",
                                  "#!/bin/sh\nshift\nexec banger \"$@\"\n", 0700));
    run_blocks_of("README.md");
    EXPECT_GE(ran_, 17);
    bash("grep -q built out/out && test -d logs");
}

}  // namespace
}  // namespace banger::boot
