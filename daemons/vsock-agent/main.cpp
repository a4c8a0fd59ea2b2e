#include <unistd.h>

#include <cstdio>

#include "daemons/vsock-agent/init.hpp"

int main(int argc, char** argv) {
    if (getpid() == 1 && argc > 0) banger::agent::run_init(argv[0]);
    std::puts("banger-vsock-agent " BANGER_AGENT_VERSION
              ": the init of a banger machine; it runs as /init of an initramfs only");
    return 2;
}
