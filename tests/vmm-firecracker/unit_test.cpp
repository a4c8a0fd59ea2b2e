#include "plugins/vmm-firecracker/unit.hpp"

#include <gmock/gmock.h>

#include "tests/support/golden.hpp"

namespace banger::firecracker {
namespace {

struct Text {
    std::string operator()(const std::string& text) const { return text; }
    std::string operator()(bool truth) const { return truth ? "yes" : "no"; }
    std::string operator()(std::uint64_t number) const { return std::to_string(number); }
    std::string operator()(Descriptor descriptor) const {
        return "descriptor " + std::to_string(descriptor.fd);
    }
    std::string operator()(const Words& words) const {
        std::string text;
        for (const std::string& word : words)
            text += (text.empty() ? "" : " ") + word;
        return text;
    }
    std::string operator()(const Pairs& pairs) const {
        std::string text;
        for (const auto& [first, second] : pairs)
            text += (text.empty() ? "" : ", ") + first + " " + second;
        return text;
    }
    std::string operator()(const Binds& binds) const { return (*this)(binds.places); }
    std::string operator()(const Executable& program) const {
        return program.path + ": " + (*this)(program.arguments);
    }
};

Launch launch() {
    const VmId vm = VmId::parse("0123456789ab").value();
    return {.vm = vm,
            .name = VmName::parse("sandbox").value(),
            .programs = {{"/usr/local/bin/firecracker", {1, 12}}, {}, {}},
            .jail_base = "/var/lib/banger-root/vmm-firecracker/jail",
            .jail_root = "/var/lib/banger-root/vmm-firecracker/jail/firecracker/0123456789ab/root",
            .uid = 1883373568,
            .memory = ByteCount::mib(2048),
            .vcpus = 2,
            .disks = {{253, 3}, {7, 1}},
            .console = 5,
            .complaints = 6};
}

std::string text_of(const Launch& launch) {
    std::string text = unit_name(launch.vm) + "\n";
    for (const Property& property : unit_properties(launch, {"/usr/sbin/chroot", 104}))
        text += property.name + " = " + std::visit(Text{}, property.value) + "\n";
    return text;
}

TEST(FirecrackerUnit, WithoutJailerIsThis) { expect_golden("unit.txt", text_of(launch())); }

TEST(FirecrackerUnit, WithJailerIsThis) {
    Launch jailed = launch();
    jailed.programs.jailer = Program{"/usr/local/bin/jailer", {1, 12}};
    expect_golden("unit_with_jailer.txt", text_of(jailed));
}

}  // namespace
}  // namespace banger::firecracker
