#include "core/base/exec_frames.hpp"

#include <gtest/gtest.h>

namespace banger {
namespace {

TEST(ExecFrames, ComeBackWhateverTheyAreCutInto) {
    const std::string stream = framed_exec(ExecKind::output, std::string("a\0b", 3)) +
                               framed_exec(ExecKind::exit, "\x2a") +
                               framed_exec(ExecKind::input_end);
    for (std::size_t piece = 1; piece < stream.size(); ++piece) {
        ExecFrameReader reader;
        std::vector<ExecFrame> frames;
        for (std::size_t at = 0; at < stream.size(); at += piece) {
            reader.append(std::string_view(stream).substr(at, piece));
            while (const std::optional<ExecFrame> frame = reader.next().value())
                frames.push_back(*frame);
        }
        ASSERT_EQ(frames.size(), 3U) << piece;
        EXPECT_EQ(frames[0], (ExecFrame{ExecKind::output, std::string("a\0b", 3)}));
        EXPECT_EQ(frames[1], (ExecFrame{ExecKind::exit, "\x2a"}));
        EXPECT_EQ(frames[2], (ExecFrame{ExecKind::input_end, ""}));
    }
}

TEST(ExecFrames, WhatIsNoneIsCorrupt) {
    const auto refused = [](std::string_view bytes) {
        ExecFrameReader reader;
        reader.append(bytes);
        const Result<std::optional<ExecFrame>> frame = reader.next();
        return !frame && frame.error().code == Errc::corrupt;
    };
    EXPECT_TRUE(refused({"\1\0\0\x80\1", 5})) << "too long, which shows before it is there";
    EXPECT_TRUE(refused({"\x63\0\0\0\0", 5})) << "unknown kind";
    EXPECT_TRUE(refused({"\3\0\0\0\0", 5})) << "a signal without a number";
    EXPECT_TRUE(refused({"\4\0\0\0\1a", 6})) << "a window of one byte";
    EXPECT_TRUE(refused({"\2\0\0\0\1a", 6})) << "an end with data";
}

TEST(ExecFrames, NumbersAndErrorsGoThrough) {
    EXPECT_EQ(window_of({ExecKind::window, window_data({50, 300})}), (TerminalSize{50, 300}));
    EXPECT_EQ(credit_of({ExecKind::credit, credit_data(0x80000001)}), 0x80000001);
    const Error error(Errc::busy, "no room", "Wait.");
    EXPECT_EQ(failure_of({ExecKind::failed, failure_data(error)}), error);
    EXPECT_EQ(failure_of({ExecKind::failed, "nonsense"}), Error(Errc::internal, "", ""));
    EXPECT_LE(
        failure_data({Errc::busy, std::string(100'000, 'x'), std::string(100'000, 'y')}).size(),
        max_exec_data);
}

}  // namespace
}  // namespace banger
