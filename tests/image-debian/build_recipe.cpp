#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "core/base/file.hpp"
#include "plugins/image-debian/source.hpp"
#include "tests/catalog/fake_host.hpp"

/// For whoever works on the recipes: `build_recipe image|kernel REFERENCE CACHE_FOLDER > TAR` does
/// what a pull does, without the rest of banger. Needs mmdebstrap and a mirror; no test.
int main(int argc, char** argv) {
    using namespace banger;
    const std::optional<ArtifactKind> kind =
        argc == 4 ? parse_artifact_kind(argv[1]) : std::nullopt;
    if (!kind) {
        std::fputs("usage: build_recipe image|kernel REFERENCE CACHE_FOLDER > TAR\n", stderr);
        return 2;
    }
    FakeHost host;
    host.folder = argv[3];
    image_debian::DebianSource source(host, image_debian::Options{});
    FakeCall call;
    static FakeCall* const stopped_call = &call;
    std::signal(SIGINT, [](int) { stopped_call->source.request_stop(); });
    call.on_report = [](const Progress& progress) {
        std::fprintf(stderr, "%s %llu/%llu\n", progress.stage.c_str(),
                     static_cast<unsigned long long>(progress.done),
                     static_cast<unsigned long long>(progress.total));
    };
    Result<Resolution> resolution = source.resolve({*kind, argv[2], "amd64"}, call);
    Result<void> fetched;
    if (resolution)
        fetched = source.fetch(std::get<ArtifactManifest>(*resolution), 0, 0,
                               UniqueFd(::dup(STDOUT_FILENO)), call);
    else
        fetched = resolution.error();
    for (const std::string& line : host.logged)
        std::fprintf(stderr, "log: %s\n", line.c_str());
    if (fetched) return 0;
    std::fprintf(stderr, "%s: %s\n", std::string(to_string(fetched.error().code)).c_str(),
                 fetched.error().text().c_str());
    return 1;
}
