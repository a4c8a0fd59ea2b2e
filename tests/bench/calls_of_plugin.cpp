#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/base/file.hpp"
#include "core/plugins/registry.hpp"
#include "core/remote/proxies.hpp"
#include "core/remote/server.hpp"

/// What one call of a role costs, by where the role lives: the worked image source of
/// docs/PLUGINS.md asked to resolve a reference (it opens a file and looks at its size), in this
/// process, behind a role server as the root helper has it, and in the plugin host; and the same
/// source in Python, as an executable.
///
///     calls_of_plugin FOLDER CALLS
///
/// FOLDER, which is empty, gets everything. Prints lines "WHERE MEDIAN P99" in microseconds.
namespace banger {
namespace {

using Clock = std::chrono::steady_clock;

class QuietCall final : public Call {
public:
    [[nodiscard]] std::stop_token stop() const override { return {}; }
    void report(const Progress&) override {}
};

[[noreturn]] void fail(const std::string& why) {
    std::fprintf(stderr, "calls_of_plugin: %s\n", why.c_str());
    std::exit(1);
}

void must(const Result<void>& result) {
    if (!result) fail(result.error().text());
}

void measure(const char* where, ImageSource& source, const std::string& reference, int calls) {
    QuietCall call;
    const auto resolve = [&] {
        const Result<Resolution> resolution =
            source.resolve({ArtifactKind::image, reference, "amd64"}, call);
        if (!resolution) fail(std::string(where) + ": " + resolution.error().text());
    };
    for (int i = 0; i < 50; ++i)
        resolve();
    std::vector<double> times;
    for (int i = 0; i < calls; ++i) {
        const Clock::time_point begin = Clock::now();
        resolve();
        times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    }
    std::ranges::sort(times);
    std::printf("%s %.1f %.1f\n", where, times[times.size() / 2], times[times.size() * 99 / 100]);
    std::fflush(stdout);
}

/// Plugin files as a user would lay them out.
void install(const std::string& folder, const std::string& from, const std::string& name,
             mode_t mode) {
    const Result<std::string> bytes = read_file(from, ByteCount::mib(256));
    if (!bytes) fail(bytes.error().text());
    must(ensure_folder(folder, 0755));
    must(write_file_atomic(folder + "/" + name, *bytes, mode));
}

RegistryOptions options(const std::string& folder, const std::string& own) {
    RegistryOptions options;
    options.folders = {BUILT_PLUGINS};
    options.owner = ::geteuid();
    options.choice = {"fake", "none", "fake", "fake", {"image-folder"}};
    options.own_folders = {own + "/s/p", own + "/c/p", own + "/r/p"};
    options.settings["image-folder"] = {{"folder", folder + "/images"}};
    options.plugin_host = PLUGIN_HOST;
    return options;
}

std::unique_ptr<Registry> open(RegistryOptions options) {
    Result<std::unique_ptr<Registry>> registry = Registry::open(std::move(options));
    if (!registry) fail(registry.error().text());
    return std::move(*registry);
}

int run(const std::string& folder, int calls) {
    ::umask(022);
    const std::string plugins = folder + "/plugins";
    install(plugins, SAMPLE_PLUGINS "/image-folder.so", "image-folder.so", 0644);
    install(plugins, SOURCE_FOLDER "/tests/third-party/image-folder/image-folder.toml",
            "image-folder.toml", 0644);
    for (const char* file : {"image-py", "image-py.toml"})
        install(plugins,
                std::string(SOURCE_FOLDER "/tests/third-party/python-image-source/") + file, file,
                0755);
    must(ensure_folder(folder + "/images", 0755));
    must(write_file_atomic(folder + "/images/small.tar", "tar", 0644));

    RegistryOptions here = options(folder, folder + "/1");
    here.folders.push_back(plugins);
    const std::unique_ptr<Registry> in_process = open(std::move(here));
    ImageSource& own = *in_process->image_sources()[0].second;
    measure("in-process", own, "image-folder:small", calls);

    Roles served;
    served.image_source = &own;
    const PluginName name = PluginName::parse("image-folder").value();
    remote::Server server({{name, served, {}, nullptr}}, {}, {});
    const Result<std::shared_ptr<remote::Client>> client = remote::Client::open(
        [&]() -> Result<rpc::PacketChannel> {
            auto ends = BANGER_TRY(rpc::PacketChannel::pair());
            server.add(std::move(ends.first));
            return std::move(ends.second);
        },
        {});
    if (!client) fail(client.error().text());
    const auto proxy = remote::RemotePlugin::open(*client, name.str());
    if (!proxy) fail(proxy.error().text());
    measure("socket", *(*proxy)->roles().image_source, "image-folder:small", calls);

    RegistryOptions apart = options(folder, folder + "/2");
    apart.third_party_folders = {plugins};
    apart.choice.image_sources.emplace_back("image-py");
    apart.settings["image-py"] = {{"folder", folder + "/images"}};
    const std::unique_ptr<Registry> hosted = open(std::move(apart));
    measure("plugin-host", *hosted->image_sources()[0].second, "image-folder:small", calls);
    measure("python", *hosted->image_sources()[1].second, "py:small", calls);
    return 0;
}

}  // namespace
}  // namespace banger

int main(int count, char** words) {
    const int calls = count == 3 ? std::atoi(words[2]) : 0;
    if (calls <= 0) {
        std::fprintf(stderr, "usage: calls_of_plugin FOLDER CALLS\n");
        return 2;
    }
    return banger::run(words[1], calls);
}
