#include "plugins/image-debian/build_command.hpp"

#include <algorithm>
#include <cctype>

namespace banger::image_debian {

namespace {

constexpr const char* archives = "/var/cache/apt/archives";

/// Only what needs no quoting in sh, sed and apt's list of sources.
bool is_mirror(std::string_view url) {
    constexpr std::string_view schemes[] = {"https://", "http://", "file:///", "copy:///"};
    return std::ranges::any_of(
               schemes,
               [&](std::string_view s) { return url.starts_with(s) && url.size() > s.size(); }) &&
           url.size() <= 512 && std::ranges::all_of(url, [](unsigned char c) {
               return std::isalnum(c) ||
                      std::string_view(".:/_~%+-[]").find(static_cast<char>(c)) !=
                          std::string_view::npos;
           });
}

std::string text_setting(const Settings& settings, std::string_view key, std::string fallback) {
    const auto found = settings.find(key);
    if (found == settings.end()) return fallback;
    const std::string* text = std::get_if<std::string>(&found->second);
    return text ? *text : fallback;
}

Result<std::string> read_mirror(const Settings& settings, std::string_view key) {
    std::string mirror = text_setting(settings, key, "");
    if (mirror.empty() || is_mirror(mirror)) return mirror;
    return Error(Errc::invalid_argument,
                 "plugin.image-debian." + std::string(key) + " is not a mirror's URL",
                 "Write it like https://mirror.example/debian.");
}

/// Puts `mirror` in the place of the URL in those lines of apt's list whose suite fits.
std::string mirror_hook(const std::string& mirror, const std::string& suites) {
    return "sed -i -E 's#^(deb( \\[[^]]*\\])?) [^ ]+ (" + suites + ") #\\1 " + mirror +
           " \\3 #' \"$1/etc/apt/sources.list\"";
}

void add_mirrors(std::vector<std::string>& arguments, const Recipe& recipe,
                 const Options& options) {
    const std::string release(recipe.release);
    if (!options.mirror.empty())
        arguments.push_back("--setup-hook=" +
                            mirror_hook(options.mirror, release + "|" + release + "-updates"));
    if (!options.security_mirror.empty())
        arguments.push_back("--setup-hook=" +
                            mirror_hook(options.security_mirror, release + "-security"));
}

void add_image(std::vector<std::string>& arguments, const Recipe& recipe) {
    arguments.insert(arguments.end(),
                     {"--variant=minbase",
                      // Lays /usr out as it is to be, in place of converting it afterwards.
                      "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
                      // Nothing is lost when a build dies: it is built again. Taken out at the end.
                      "--dpkgopt=force-unsafe-io", "--aptopt=Acquire::Retries \"3\"",
                      // man finds a page without its index, which takes long to build.
                      "--essential-hook=echo man-db man-db/auto-update boolean false | "
                      "chroot \"$1\" debconf-set-selections"});
    for (const std::string_view path : recipe.excluded_paths)
        arguments.push_back("--dpkgopt=path-exclude=" + std::string(path));
    std::string include;
    for (const std::string_view package : recipe.packages)
        include += (include.empty() ? "" : ",") + std::string(package);
    arguments.push_back("--include=" + include);
}

}  // namespace

Result<Options> read_options(const Settings& settings) {
    Options options;
    options.mmdebstrap = text_setting(settings, "mmdebstrap", options.mmdebstrap);
    options.work_folder = text_setting(settings, "work_folder", options.work_folder);
    options.mirror = BANGER_TRY(read_mirror(settings, "mirror"));
    options.security_mirror = BANGER_TRY(read_mirror(settings, "security_mirror"));
    if (!options.work_folder.starts_with('/'))
        return Error(Errc::invalid_argument,
                     "plugin.image-debian.work_folder is not an absolute path",
                     "Write the whole path, like /var/tmp.");
    return options;
}

Command build_command(const Recipe& recipe, const std::string& program, const Options& options,
                      const BuildFolders& folders) {
    const bool is_image = recipe.kind == ArtifactKind::image;
    // A tree that is only extracted runs the hooks of that name, and no later ones.
    const std::string last_hook = is_image ? "--customize-hook=" : "--extract-hook=";
    Command command;
    command.program = program;
    std::vector<std::string>& arguments = command.arguments;
    arguments = {"--verbose", "--mode=unshare", "--format=tar",
                 // Device nodes are the guest kernel's to make.
                 "--skip=output/dev"};
    // First: the next hook reads the lists already.
    add_mirrors(arguments, recipe, options);
    if (is_image)
        add_image(arguments, recipe);
    else
        arguments.insert(arguments.end(),
                         {"--variant=extract", "--skip=cleanup", "--skip=chroot/mount"});
    arguments.push_back(std::string("--setup-hook=mkdir -p \"$1") + archives + "\"");
    if (!folders.packages_in.empty())
        arguments.push_back("--setup-hook=sync-in " + shell_quote(folders.packages_in) + " " +
                            archives);
    if (!recipe.fetch_script.empty())
        arguments.push_back(last_hook + std::string(recipe.fetch_script));
    if (!folders.packages_out.empty()) {
        arguments.push_back("--skip=essential/unlink");
        // Packages of versions that the archive no longer has.
        if (is_image)
            arguments.push_back(last_hook +
                                "APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get autoclean");
        arguments.push_back(last_hook + "sync-out " + archives + " " +
                            shell_quote(folders.packages_out));
    }
    for (const std::string_view script : recipe.scripts)
        arguments.push_back(last_hook + std::string(script));
    arguments.insert(arguments.end(), {std::string(recipe.release), "-"});

    command.environment = minimal_environment();
    command.environment["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command.environment["LC_ALL"] = "C.UTF-8";
    command.environment["TMPDIR"] = folders.temporary;
    if (!is_image) command.environment["BANGER_KERNEL"] = std::string(recipe.packages.front());
    command.new_session = true;
    return command;
}

}  // namespace banger::image_debian
