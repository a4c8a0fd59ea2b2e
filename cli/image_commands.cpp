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
        Table table({"NAME", "DISTRO", "ARCH", "SIZE", "ON DISK", "KERNEL", "CREATED", "ID"});
        for (const Image& image : reply.images)
            table.add({{image.name, Style::Colour::bold},
                       image.distro,
                       image.architecture,
                       size_text(image.size),
                       size_text(image.allocated),
                       image.kernel,
                       ago_text(now_seconds() - image.created_at),
                       {image.id, Style::Colour::dim}});
        terminal.out(table.text(terminal.out_style(), terminal.out_width()));
    }
    return 0;
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
    if (wants_json(arguments)) {
        context.terminal.out(json_text(reply));
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
    sheet.add("made from", image.provenance);
    sheet.add("created", time_text(image.created_at) + " (" +
                             ago_text(now_seconds() - image.created_at) + ")");
    for (const std::string& machine : reply.machines)
        sheet.add("used by", machine);
    context.terminal.out(sheet.text(context.terminal.out_style()));
    return 0;
}

Result<int> pull(const Arguments& arguments, Context& context) {
    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    const Result<protocol::PullImageReply> reply = pull_artifact<protocol::PullImageReply>(
        session, context, arguments, "io.banger.Image.Pull", interrupts);
    if (!reply)
        return report_failure(reply.error(), context, interrupts, pull_cancelled, exit_failed);
    if (!reply->image)
        return Error(Errc::corrupt, "bangerd fetched an image, but did not say which");
    context.terminal.out((arguments.has("quiet") ? reply->image->id : reply->image->name) + "\n");
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
    add_artifact_commands(
        table,
        {"image", "IMAGE", "debian-bookworm",
         "An image is a root file system. `banger vm run` fetches the one it needs; here you see\n"
         "and tend them.",
         "Lists the images on this host.",
         "REFERENCE is a name of `banger image list --available`. The image sources are asked in\n"
         "order; the first that knows it provides it. One that is here already is left as it is.",
         list, show, pull, remove});
}

}  // namespace banger::cli
