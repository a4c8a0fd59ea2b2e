// A bangerd to be started on demand. What it does stands in BANGER_STUB_FOLDER/plan, a word; it
// lives until everybody has closed BANGER_STUB_FOLDER/lifeline.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

#include "core/base/file.hpp"
#include "fake_bangerd.hpp"

int main(int count, char** words) {
    using banger::cli::FakeBangerd;
    if (count != 4 || std::string(words[1]) != "--user" || std::string(words[2]) != "--ready-fd")
        return 64;
    const int ready = std::atoi(words[3]);
    const char* environment = std::getenv("BANGER_STUB_FOLDER");
    const std::string folder = environment ? environment : "/nonexistent";
    const std::string plan =
        banger::read_file(folder + "/plan", banger::ByteCount::kib(1)).value_or("serve");

    const banger::UniqueFd starts(
        ::open((folder + "/starts").c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
    const bool is_first = ::lseek(starts.get(), 0, SEEK_END) == 0;
    if (!banger::write_all(starts.get(), "started\n")) return 65;
    const banger::UniqueFd lifeline(::open((folder + "/lifeline").c_str(), O_RDONLY | O_CLOEXEC));

    if (plan == "refuse") {
        static_cast<void>(banger::write_all(ready, "the state folder is locked\n"));
        return 1;
    }
    if (plan == "crash") {
        std::cerr << "old line\nfatal: the disk is full\n";
        return 1;
    }
    // Under another name until it has all that it serves: nobody is to find it half ready.
    const std::string socket = std::string(std::getenv("XDG_RUNTIME_DIR")) + "/banger/bangerd.sock";
    FakeBangerd daemon(socket + ".new");
    daemon.add(banger::cli::sample_vm("sandbox"));
    if (plan == "old" && is_first) daemon.set_version("0.0.1", "0000000");
    daemon.on_call([&](const std::string& call) {
        if (call == "Exit" ||
            (call == "List" && (plan == "die" || (plan == "die-once" && is_first))))
            ::_exit(0);
    });
    if (::rename((socket + ".new").c_str(), socket.c_str()) != 0) return 66;
    // What else was inherited would be a leak into a process that lives long.
    if (::fcntl(3, F_GETFD) >= 0 && ready != 3 && starts.get() != 3 && lifeline.get() != 3)
        std::cerr << "descriptor 3 is open\n";
    static_cast<void>(banger::write_all(ready, "ready\n"));
    ::close(ready);
    char byte = 0;
    while (::read(lifeline.get(), &byte, 1) > 0) {
    }
    ::_exit(0);
}
