#include "cli/artifact_commands.hpp"
#include "cli/commands.hpp"
#include "cli/render/table.hpp"
#include "cli/render/text.hpp"

namespace banger::cli {

namespace {

using protocol::Image;

Result<int> list(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    Terminal& terminal = context.terminal;
    if (arguments.has("available")) {
        const protocol::AvailableReply reply =
            BANGER_TRY(session.daemon.call<protocol::AvailableReply>("io.banger.Image.Available",
                                                                     protocol::NoParameters{}));
        print_available(reply.available, arguments, terminal, "image");
        return 0;
    }
    const protocol::ListImagesReply reply =
        BANGER_TRY(session.daemon.call<protocol::ListImagesReply>("io.banger.Image.List",
                                                                  protocol::NoParameters{}));
    if (wants_json(arguments)) {
        terminal.out(json_text(reply.images));
    } else if (arguments.has("quiet")) {
        for (const Image& image : reply.images)
            terminal.out(image.id + "\n");
    } else if (reply.images.empty()) {
        terminal.note(
            "There are no images here yet; `banger vm run` fetches what it needs.\n"
            "See what can be had: banger image list --available\n");
    } else {
        Table table({"NAME", "SOURCE", "SIZE", "ON DISK", "KERNEL", "CREATED", "ID"});
        for (const Image& image : reply.images)
            table.add({{image.name, Style::Colour::bold},
                       image.reference,
                       size_text(image.size),
                       size_text(image.allocated),
                       image.kernel,
                       ago_text(now_seconds() - image.created_at),
                       {image.id, Style::Colour::dim}});
        terminal.out(table.text(terminal.out_style(), terminal.out_width()));
    }
    return 0;
}

/// As a shell would have it.
std::string words_text(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words)
        text += (text.empty() ? "" : " ") +
                (word.empty() || word.find_first_of(" \t\n'\"$\\") != word.npos ? "'" + word + "'"
                                                                                : word);
    return text;
}

void add_run(Sheet& sheet, const protocol::Run& run) {
    if (!run.entrypoint.empty()) sheet.add("entrypoint", words_text(run.entrypoint));
    if (!run.command.empty()) sheet.add("command", words_text(run.command));
    if (!run.user.empty()) sheet.add("user", run.user);
    if (!run.working_folder.empty()) sheet.add("folder", run.working_folder);
    for (const std::string& variable : run.environment)
        sheet.add("environment", variable);
}

Result<int> show(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    const protocol::ShowImageReply reply = BANGER_TRY(session.daemon.call<protocol::ShowImageReply>(
        "io.banger.Image.Show", protocol::NamedArtifact{arguments.words[0]}));
    const Image& image = reply.image;
    if (arguments.has("quiet")) {
        context.terminal.out(image.id + "\n");
        return 0;
    }
    const protocol::Details details =
        BANGER_TRY(session.daemon.call<protocol::DetailsReply>("io.banger.Image.Details",
                                                               protocol::NamedArtifact{image.id}))
            .details;
    if (wants_json(arguments)) {
        context.terminal.out(json_text(protocol::ShownImage{image, reply.machines, details}));
        return 0;
    }
    Sheet sheet;
    sheet.add("name", {image.name, Style::Colour::bold});
    sheet.add("id", image.id);
    sheet.add("reference", image.reference);
    sheet.add("description", image.description);
    sheet.add("distro", image.distro);
    sheet.add("architecture", image.architecture);
    sheet.add("kernel", image.kernel);
    sheet.add("size", size_text(image.size) + ", " + size_text(image.allocated) + " on disk");
    if (!details.file.empty())
        sheet.add("file", details.file + " (yours; banger never removes it)");
    if (!details.problem.empty()) sheet.add("problem", {details.problem, Style::Colour::red});
    sheet.add("made from", image.provenance);
    for (const protocol::Part& part : details.parts)
        sheet.add(details.parts.size() == 1 ? "digest" : "layer",
                  part.digest + (part.size ? ", " + size_text(*part.size) : ""));
    add_run(sheet, details.run);
    sheet.add("created", time_text(image.created_at) + " (" +
                             ago_text(now_seconds() - image.created_at) + ")");
    for (const std::string& machine : reply.machines)
        sheet.add("used by", machine);
    context.terminal.out(sheet.text(context.terminal.out_style()));
    return 0;
}

template <class Request>
Result<int> make(Session& session, Context& context, const Arguments& arguments,
                 const std::string& method, const Request& request, std::string_view cancelled,
                 Interrupts& interrupts) {
    const Result<protocol::PullImageReply> reply = make_artifact<protocol::PullImageReply>(
        session, context, arguments, method, request, interrupts);
    if (!reply) return report_failure(reply.error(), context, interrupts, cancelled, exit_failed);
    if (!reply->image) return Error(Errc::corrupt, "bangerd made an image, but did not say which");
    context.terminal.out((arguments.has("quiet") ? reply->image->id : reply->image->name) + "\n");
    return 0;
}

Result<int> pull(const Arguments& arguments, Context& context) {
    protocol::PullImage request;
    request.reference = BANGER_TRY(absolute_reference(arguments.words[0]));
    request.name = arguments.value("name");
    request.refresh = arguments.has("refresh");
    if (const std::optional<std::string> size = arguments.value("size")) {
        Result<ByteCount> parsed = ByteCount::parse(*size);
        if (!parsed) return usage_error(context, parsed.error().context("reading --size"));
        request.size = parsed->count();
    }
    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    return make(session, context, arguments, "io.banger.Image.Pull", request, pull_cancelled,
                interrupts);
}

Result<int> register_file(const Arguments& arguments, Context& context) {
    const std::optional<std::string> file = arguments.value("rootfs");
    const std::optional<std::string> kernel = arguments.value("kernel");
    if (!file)
        return usage_error(context, Error(Errc::invalid_argument, "--rootfs is missing",
                                          "Say which file, as in: banger image register " +
                                              arguments.words[0] + " --rootfs root.ext4"));
    if (kernel && arguments.value("kernel-ref"))
        return usage_error(
            context, Error(Errc::invalid_argument, "--kernel and --kernel-ref exclude each other",
                           "Give one of them."));
    if (!kernel && (arguments.value("initrd") || arguments.value("modules")))
        return usage_error(context,
                           Error(Errc::invalid_argument, "--initrd and --modules go with --kernel",
                                 "Give --kernel too."));
    protocol::RegisterImage request;
    request.name = arguments.words[0];
    request.root_file_system = absolute_path(*file);
    request.kernel_reference = arguments.value("kernel-ref").value_or("");
    const auto path = [&](const char* option) {
        const std::optional<std::string> value = arguments.value(option);
        return value ? absolute_path(*value) : std::string();
    };
    if (kernel)
        request.kernel = protocol::KernelFiles{path("kernel"), path("initrd"), path("modules")};
    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    return make(session, context, arguments, "io.banger.Image.Register", request,
                "cancelled; nothing was registered", interrupts);
}

Result<int> promote(const Arguments& arguments, Context& context) {
    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    return make(session, context, arguments, "io.banger.Image.Promote",
                protocol::NamedArtifact{arguments.words[0]},
                "cancelled; the image still is your own file", interrupts);
}

Result<int> set(const Arguments& arguments, Context& context) {
    const std::optional<std::string> kernel = arguments.value("kernel");
    if (!kernel)
        return usage_error(context, Error(Errc::invalid_argument, "nothing to change",
                                          "Say what, as in: banger image set " +
                                              arguments.words[0] + " --kernel debian-cloud"));
    Session session = BANGER_TRY(open_session(context));
    return for_each(
        arguments.words, session, context,
        [&](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
            const protocol::SetImageKernelReply done =
                BANGER_TRY(daemon.call<protocol::SetImageKernelReply>(
                    "io.banger.Image.SetKernel", protocol::SetImageKernel{name, *kernel}));
            return done.image.name + ": new machines boot " + done.image.kernel;
        });
}

Result<int> prune_cache(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    const bool is_dry = arguments.has("dry-run");
    const protocol::PruneCacheReply done =
        BANGER_TRY(session.daemon.call<protocol::PruneCacheReply>(
            "io.banger.Image.PruneCache", protocol::PruneCache{arguments.has("all"), is_dry}));
    Terminal& terminal = context.terminal;
    if (wants_json(arguments)) {
        terminal.out(json_text(done));
        return 0;
    }
    for (const protocol::Blob& blob : done.blobs)
        terminal.out(blob.digest +
                     (arguments.has("quiet") ? std::string()
                                             : "  " + size_text(blob.size) +
                                                   (blob.is_complete ? "" : "  cut-off pull")) +
                     "\n");
    if (!arguments.has("quiet"))
        terminal.note((is_dry ? "would free " : "freed ") + size_text(done.freed) + "\n");
    return 0;
}

Result<int> remove(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    return for_each(arguments.words, session, context,
                    [](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
                        const protocol::DeleteImageReply done =
                            BANGER_TRY(daemon.call<protocol::DeleteImageReply>(
                                "io.banger.Image.Delete", protocol::NamedArtifact{name}));
                        return "deleted " + done.image.name;
                    });
}

}  // namespace

void add_image_commands(CommandTable& table) {
    add_df_command(table);
    add_artifact_commands(
        table,
        {"image",
         "IMAGE",
         "debian-bookworm",
         "An image is a root file system. `banger vm run` fetches the one it needs; here you see\n"
         "and tend them.",
         "Lists the images on this host.",
         "REFERENCE is a name of `banger image list --available`. The image sources are asked in\n"
         "order; the first that knows it provides it. One that is here already is left as it is.",
         list,
         show,
         pull,
         remove,
         {{"--size", "SIZE", "of its root file system", "its content with room to grow", {}}}});
    table.commands.push_back(
        {"image",
         "register",
         {},
         "use a file of yours as an image, where it is",
         "FILE is a raw ext4 file system. It is not copied and never removed: leave it as it is\n"
         "while machines use the image, or copy it in with `banger image promote`.\n\n"
         "Without a kernel, machines boot the default one. --kernel takes a bzImage or vmlinux;\n"
         "what it needs as modules comes with --modules, and is copied. --initrd is unpacked\n"
         "before what banger brings, whose /init runs.",
         {"NAME", 1, 1},
         false,
         {{"--rootfs", "FILE", "the file system", "", {}},
          {"--kernel-ref", "KERNEL", "a kernel of `banger kernel list`", "the default kernel", {}},
          {"--kernel", "FILE", "a kernel of yours", "", {}},
          {"--initrd", "FILE", "files for the initramfs of --kernel", "", {}},
          {"--modules", "FOLDER", "lib/modules/VERSION of --kernel", "", {}},
          quiet_option("print the id alone")},
         {{"banger image register mine --rootfs root.ext4", "with the default kernel"},
          {"banger image register mine --rootfs root.ext4 --kernel bzImage --modules "
           "lib/modules/6.12.0",
           "with your own"}},
         register_file,
         nullptr});
    table.commands.push_back(
        {"image",
         "promote",
         {},
         "copy a registered image into the store",
         "Afterwards your file is not needed any more. Refused while a machine\n"
         "stands on it.",
         {"IMAGE", 1, 1},
         false,
         {quiet_option("print the id alone")},
         {{"banger image promote mine", "make it banger's own"}},
         promote,
         nullptr});
    table.commands.push_back(
        {"image",
         "set",
         {},
         "change what machines of an image boot",
         "Machines that exist keep the kernel they were made with.",
         {"IMAGE...", 1, Words::many},
         false,
         {{"--kernel", "KERNEL", "of `banger kernel list`, with --available or without", "", {}}},
         {{"banger image set debian-bookworm --kernel debian-cloud", "for new machines"}},
         set,
         nullptr});
    table.groups.push_back(
        {"image cache",
         "the layers that pulls have fetched",
         "Images that share layers fetch them once; a pull that was cut off goes on from what is\n"
         "here. `banger system df` shows what it takes.",
         {{"banger image cache prune --dry-run", "what is not needed?"},
          {"banger image cache prune", "remove that"}}});
    table.commands.push_back(
        {"image cache",
         "prune",
         {},
         "remove layers that no image needs",
         "Also what is left of pulls that were cut off. With --all every layer: images stay, and\n"
         "the next pull fetches all of its layers.",
         {},
         false,
         {{"--all", "", "also layers that images were made from", "", {}},
          {"--dry-run", "", "tell, and remove nothing", "", {}},
          format_option(),
          quiet_option("print digests alone")},
         {{"banger image cache prune --dry-run", "what would go?"},
          {"banger image cache prune --all", "as much room as possible"}},
         prune_cache,
         nullptr});
}

}  // namespace banger::cli
