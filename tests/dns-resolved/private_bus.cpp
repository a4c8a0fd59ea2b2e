#include "tests/dns-resolved/private_bus.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/file.hpp"

namespace banger {

bool PrivateBus::is_possible() { return find_program("dbus-daemon").has_value(); }

void PrivateBus::start() {
    const std::string config = folder_ + "/bus.conf";
    ASSERT_TRUE(write_file_atomic(
        config,
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" "
        "\"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
        "<busconfig><type>system</type><listen>" +
            address() +
            "</listen><auth>EXTERNAL</auth><policy context=\"default\"><allow user=\"*\"/>"
            "<allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/>"
            "</policy></busconfig>\n",
        0644));
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd says(ends[0]);
    UniqueFd ready(ends[1]);
    Command command;
    command.program = *find_program("dbus-daemon");
    command.arguments = {"--config-file=" + config, "--nofork", "--nopidfile", "--nosyslog",
                         "--print-address=" + std::to_string(ready.get())};
    command.inherited = {ready.get()};
    Result<Child> child = spawn(command);
    ASSERT_TRUE(child) << child.error().text();
    daemon_.emplace(std::move(*child));
    ready.reset();
    char byte = 0;
    ASSERT_EQ(::read(says.get(), &byte, 1), 1) << "dbus-daemon ended";
}

void PrivateBus::stop() {
    daemon_.reset();
    (void)remove_file(folder_ + "/bus");
}

}  // namespace banger
