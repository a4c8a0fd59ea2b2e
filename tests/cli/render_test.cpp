#include <gmock/gmock.h>

#include "cli/parse.hpp"
#include "cli/render/progress.hpp"
#include "cli/render/table.hpp"
#include "cli/render/text.hpp"
#include "cli/ssh.hpp"
#include "cli/vm_view.hpp"

namespace banger::cli {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

TEST(Printable, LeavesNothingThatCommandsATerminal) {
    EXPECT_EQ(printable("plain ü €"), "plain ü €");
    EXPECT_EQ(printable("\x1b[31m"), "?[31m");
    EXPECT_EQ(printable("a\nb\tc\rd\x7f"), "a?b?c?d?");
    EXPECT_EQ(printable("a\nb", Newlines::kept), "a\nb");
    // C1 controls, as UTF-8 and as bytes; overlong; a surrogate; cut off; beyond Unicode.
    EXPECT_EQ(printable("\xc2\x9b"
                        "31m"),
              "??31m");
    EXPECT_EQ(printable("\x9b"), "?");
    EXPECT_EQ(printable("\xc0\xaf"), "??");
    EXPECT_EQ(printable("\xe0\x80\xaf"), "???");
    EXPECT_EQ(printable("\xed\xa0\x80"), "???");
    EXPECT_EQ(printable("\xe2\x82"), "??");
    EXPECT_EQ(printable("\xf4\x90\x80\x80"), "????");
    // RIGHT-TO-LEFT OVERRIDE.
    EXPECT_EQ(printable("\xe2\x80\xae"
                        "x"),
              "???x");
}

TEST(TerminalFilter, DropsSequencesHoweverTheyAreCut) {
    const std::string text =
        "a\x1b[1;31mb\x1b]0;title\x07"
        "c\x1bP1$r\x1b\\d\x1b(Be\x07\r\nü€\xff"
        "f";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        TerminalFilter filter;
        std::string out = filter(text.substr(0, cut));
        out += filter(text.substr(cut));
        EXPECT_EQ(out, "abcde\nü€f");
    }
    // An unfinished string does not swallow the rest of the log.
    TerminalFilter filter;
    EXPECT_EQ(filter("\x1b]0;never ended\nnext"), "next");
}

TEST(Text, SizesTimesAndCounts) {
    EXPECT_EQ(size_text(0), "0 B");
    EXPECT_EQ(size_text(1023), "1023 B");
    EXPECT_EQ(size_text(1536), "1.5 KiB");
    EXPECT_EQ(size_text(2147483648), "2 GiB");
    EXPECT_EQ(size_text(734003200), "700 MiB");
    EXPECT_EQ(ago_text(-100), "just now");
    EXPECT_EQ(ago_text(42), "42 seconds ago");
    EXPECT_EQ(ago_text(180), "3 minutes ago");
    EXPECT_EQ(ago_text(7200), "2 hours ago");
    EXPECT_EQ(ago_text(172800), "2 days ago");
    EXPECT_EQ(duration_text(40ms), "40 ms");
    EXPECT_EQ(duration_text(1400ms), "1.4 s");
    EXPECT_EQ(duration_text(125s), "2 min 5 s");
    EXPECT_EQ(time_text(1767323045), "2026-01-02 03:04:05 UTC");
    EXPECT_EQ(counted(1, "machine"), "1 machine");
    EXPECT_EQ(counted(2, "machine"), "2 machines");
}

TEST(Text, IsShortenedByCharacters) {
    EXPECT_EQ(shortened("äöü", 3), "äöü");
    EXPECT_EQ(shortened("äöüß", 3), "äö…");
    EXPECT_EQ(shortened("abc", 0), "");
}

TEST(Table, AlignsAndCutsTheLastColumnOnly) {
    Table table({"NAME", "WHAT"});
    table.add({"ü", "something rather long"});
    table.add({"longer", ""});
    EXPECT_EQ(table.text(Style(false), 0), "NAME    WHAT\nü       something rather long\nlonger\n");
    EXPECT_EQ(table.text(Style(false), 20), "NAME    WHAT\nü       something r…\nlonger\n");
    EXPECT_THAT(table.text(Style(true), 0), HasSubstr("\x1b[1mNAME\x1b[0m    "));
}

TEST(ProgressLine, ShowsBarSizeAndSpeed) {
    const Progress half{"downloading", 50 << 20, 100 << 20, Progress::Unit::bytes};
    EXPECT_EQ(progress_line(half, 5s, 0, Style(false), 100),
              "  downloading  ━━━━━━━━━━──────────  50%  50 MiB of 100 MiB  10 MiB/s  5 s");
    // What was there before is not speed.
    EXPECT_THAT(progress_line(half, 5s, 50 << 20, Style(false), 100), Not(HasSubstr("/s")));
    EXPECT_EQ(progress_line({"booting", 0, 0, Progress::Unit::none}, 300ms, 0, Style(false), 80),
              "  booting");
    EXPECT_EQ(progress_line({"layers", 2, 5, Progress::Unit::items}, 0ms, 0, Style(false), 80),
              "  layers  ━━━━━━━━────────────  40%  2 of 5");
    // More done than there is; hostile text; a narrow terminal.
    const std::string line =
        progress_line({std::string(200, 'x') + "\x1b[2J", 300, 100, Progress::Unit::items}, 0ms, 0,
                      Style(false), 80);
    EXPECT_THAT(line, HasSubstr("100%"));
    EXPECT_LT(width_of(line), 80u);
    EXPECT_THAT(line, Not(HasSubstr("\x1b")));
}

TEST(Timings, NameWhatNoStageAccountsFor) {
    EXPECT_EQ(timings_text({{"boot", 1500}, {"ssh", 200}}, 2s, Style(false)),
              "timings:\n"
              "  boot       1500 ms\n"
              "  ssh         200 ms\n"
              "  other       300 ms\n"
              "  total      2000 ms\n");
}

TEST(SshCommand, QuotesPathsForItsOwnParser) {
    SshCall call;
    call.program = "/usr/bin/ssh";
    call.endpoint = {"127.0.0.1", 40022, "root", "0123456789ab", ""};
    call.key = "/home/a b/100%/key";
    call.known_hosts = "/home/a b/100%/known \"hosts\"";
    call.scratch = "/run/a b/100%";
    call.wants_terminal = true;
    const Command command = ssh_command(call);
    const auto& words = command.arguments;
    EXPECT_THAT(words, testing::Contains("/home/a b/100%%/key"));
    EXPECT_THAT(words,
                testing::Contains("UserKnownHostsFile=\"/home/a b/100%%/known \\\"hosts\\\"\""));
    EXPECT_THAT(words, testing::Contains("LocalCommand=echo >'/run/a b/100%%/up'"));
    EXPECT_EQ(words.back(), "127.0.0.1");
    EXPECT_EQ(words[words.size() - 3], "-t");
    EXPECT_FALSE(command.new_session);
}

TEST(Parse, EveryFlagOfEveryCommandIsAccepted) {
    const CommandSpec command = {
        "vm", "x",     {},     "",
        "",   {},      true,   {{"-q,--quiet", "", "", "", {}}, {"--size", "N", "", "", {}}},
        {},   nullptr, nullptr};
    const Result<Arguments> parsed =
        parse_arguments(command, {"-q", "--size=3", "--", "--size", "--"});
    ASSERT_TRUE(parsed) << parsed.error().text();
    EXPECT_TRUE(parsed->has("quiet"));
    EXPECT_EQ(parsed->value("size"), "3");
    EXPECT_THAT(*parsed->guest_command, testing::ElementsAre("--size", "--"));
}

}  // namespace
}  // namespace banger::cli
