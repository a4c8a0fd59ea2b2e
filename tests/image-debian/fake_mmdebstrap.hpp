#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "core/base/file.hpp"
#include "tests/base/temp_folder.hpp"

namespace banger::image_debian {

/// A shell script in the place of mmdebstrap, in a folder of the test's own. It finds in $out where
/// packages go and in $archives where those of the unfinished root lie, and leaves what it was
/// given in `arguments`.
class FakeMmdebstrap {
public:
    FakeMmdebstrap() {
        EXPECT_EQ(::mkdir(work_folder().c_str(), 0777), 0);
        EXPECT_EQ(::mkdir(cache_folder().c_str(), 0700), 0);
    }
    void does(const std::string& script) {
        const std::string text =
            "#!/bin/sh\n"
            "test \"$1\" = --unshare-helper && exit 0\n"
            "here=${0%/*}\n"
            "printf '%s\\n' \"$@\" > \"$here/arguments\"\n"
            "for a; do case $a in *'sync-out '*) out=${a##* };; esac; done\n"
            "archives=$TMPDIR/mmdebstrap.x/var/cache/apt/archives\n"
            "mkdir -p \"$archives\"\n" +
            script + "\n";
        EXPECT_TRUE(write_file_atomic(program(), text, 0755));
    }
    [[nodiscard]] std::string program() const { return folder_ / "mmdebstrap"; }
    [[nodiscard]] std::string work_folder() const { return folder_ / "work"; }
    [[nodiscard]] std::string cache_folder() const { return folder_ / "cache"; }
    [[nodiscard]] std::string file(const std::string& name) const { return folder_ / name; }
    [[nodiscard]] std::string arguments() const {
        return read_file(file("arguments"), ByteCount::mib(1)).value_or("");
    }

private:
    TempFolder folder_;
};

}  // namespace banger::image_debian
