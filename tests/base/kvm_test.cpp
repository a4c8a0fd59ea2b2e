#include "core/base/kvm.hpp"

#include <gtest/gtest.h>

namespace banger {
namespace {

TEST(Acceleration, TheFlagIsAWordOfTheFlagsLine) {
    EXPECT_TRUE(has_virtualisation_flag("processor\t: 0\nflags\t\t: fpu vmx sse\nbugs\t: x\n"));
    EXPECT_TRUE(has_virtualisation_flag("processor\t: 0\nflags\t\t: fpu svm\n"));
    EXPECT_TRUE(has_virtualisation_flag("x\nflags\t\t: fpu svm"));
    EXPECT_FALSE(has_virtualisation_flag("processor\t: 0\nflags\t\t: fpu vmxoff svm_lock\n"));
    EXPECT_FALSE(
        has_virtualisation_flag("processor\t: 0\nflags\t\t: fpu\nvmx flags\t: vnmi vmx \n"));
    EXPECT_FALSE(has_virtualisation_flag(""));
}

TEST(Acceleration, EachReasonHasItsRemedy) {
    const char* const capable = "processor\t: 0\nflags\t\t: svm\n";
    for (const Acceleration& none :
         {probe_kvm("", "/dev/kvm"), probe_kvm(capable, "/nonexistent/kvm"),
          probe_kvm(capable, "/dev/null")}) {
        EXPECT_FALSE(none.is_usable);
        EXPECT_FALSE(none.reason.empty());
        EXPECT_FALSE(none.remedy.empty());
    }
}

}  // namespace
}  // namespace banger
