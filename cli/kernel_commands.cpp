#include "cli/artifact_commands.hpp"
#include "cli/commands.hpp"
#include "cli/render/table.hpp"
#include "cli/render/text.hpp"

namespace banger::cli {

namespace {

using protocol::Kernel;

Result<int> list(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    Terminal& terminal = context.terminal;
    if (arguments.has("available")) {
        const protocol::AvailableReply reply =
            BANGER_TRY(session.daemon.call<protocol::AvailableReply>("io.banger.Kernel.Available",
                                                                     protocol::NoParameters{}));
        print_available(reply.available, arguments, terminal, "kernel");
        return 0;
    }
    const protocol::ListKernelsReply reply =
        BANGER_TRY(session.daemon.call<protocol::ListKernelsReply>("io.banger.Kernel.List",
                                                                   protocol::NoParameters{}));
    if (wants_json(arguments)) {
        terminal.out(json_text(reply.kernels));
    } else if (arguments.has("quiet")) {
        for (const Kernel& kernel : reply.kernels)
            terminal.out(kernel.id + "\n");
    } else if (reply.kernels.empty()) {
        terminal.note(
            "There are no kernels here yet; `banger vm run` fetches what it needs.\n"
            "See what can be had: banger kernel list --available\n");
    } else {
        Table table({"NAME", "VERSION", "SIZE", "CREATED", "ID"});
        for (const Kernel& kernel : reply.kernels)
            table.add({{kernel.name, Style::Colour::bold},
                       kernel.version,
                       size_text(kernel.size),
                       ago_text(now_seconds() - kernel.created_at),
                       {kernel.id, Style::Colour::dim}});
        terminal.out(table.text(terminal.out_style(), terminal.out_width()));
    }
    return 0;
}

Result<int> show(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    const protocol::ShowKernelReply reply =
        BANGER_TRY(session.daemon.call<protocol::ShowKernelReply>(
            "io.banger.Kernel.Show", protocol::NamedArtifact{arguments.words[0]}));
    const Kernel& kernel = reply.kernel;
    if (arguments.has("quiet")) {
        context.terminal.out(kernel.id + "\n");
        return 0;
    }
    if (wants_json(arguments)) {
        context.terminal.out(json_text(reply));
        return 0;
    }
    Sheet sheet;
    sheet.add("name", {kernel.name, Style::Colour::bold});
    sheet.add("id", kernel.id);
    sheet.add("version", kernel.version);
    sheet.add("reference", kernel.reference);
    sheet.add("size", size_text(kernel.size));
    sheet.add("made from", kernel.provenance);
    sheet.add("created", time_text(kernel.created_at) + " (" +
                             ago_text(now_seconds() - kernel.created_at) + ")");
    for (const std::string& machine : reply.machines)
        sheet.add("used by", machine);
    context.terminal.out(sheet.text(context.terminal.out_style()));
    return 0;
}

template <class Request>
Result<int> make(Context& context, const Arguments& arguments, const std::string& method,
                 const Request& request, std::string_view cancelled) {
    Interrupts interrupts;
    Session session = BANGER_TRY(open_session(context));
    const Result<protocol::PullKernelReply> reply = make_artifact<protocol::PullKernelReply>(
        session, context, arguments, method, request, interrupts);
    if (!reply) return report_failure(reply.error(), context, interrupts, cancelled, exit_failed);
    if (!reply->kernel) return Error(Errc::corrupt, "bangerd made a kernel, but did not say which");
    context.terminal.out((arguments.has("quiet") ? reply->kernel->id : reply->kernel->name) + "\n");
    return 0;
}

Result<int> pull(const Arguments& arguments, Context& context) {
    return make(context, arguments, "io.banger.Kernel.Pull",
                protocol::PullArtifact{arguments.words[0], arguments.value("name"),
                                       arguments.has("refresh")},
                pull_cancelled);
}

Result<int> import(const Arguments& arguments, Context& context) {
    const std::optional<std::string> from = arguments.value("from");
    if (!from)
        return usage_error(
            context, Error(Errc::invalid_argument, "--from is missing",
                           "Say where it is, as in: banger kernel import " + arguments.words[0] +
                               " --from linux-image-VERSION.deb"));
    return make(context, arguments, "io.banger.Kernel.Import",
                protocol::ImportKernel{arguments.words[0], absolute_path(*from)},
                "cancelled; nothing was imported");
}

Result<int> remove(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    return for_each(arguments.words, session, context,
                    [](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
                        const protocol::DeleteKernelReply done =
                            BANGER_TRY(daemon.call<protocol::DeleteKernelReply>(
                                "io.banger.Kernel.Delete", protocol::NamedArtifact{name}));
                        return "deleted " + done.kernel.name;
                    });
}

}  // namespace

void add_kernel_commands(CommandTable& table) {
    add_artifact_commands(
        table,
        {"kernel", "KERNEL", "debian-cloud",
         "A kernel is what a machine boots with, its modules included. An image names the one it\n"
         "wants, and `banger vm run` fetches it; here you see and tend them.",
         "Lists the kernels on this host.",
         "REFERENCE is a name of `banger kernel list --available`. One that is here already is "
         "left\n"
         "as it is.",
         list, show, pull, remove});
    table.commands.push_back(
        {"kernel",
         "import",
         {},
         "make a kernel of files of yours",
         "PATH is a folder or a tar that holds boot/vmlinuz-VERSION and lib/modules/VERSION, as\n"
         "`make modules_install` makes it, or a Debian kernel package (.deb). What is needed is\n"
         "copied. An image boots it after `banger image set IMAGE --kernel NAME`.",
         {"NAME", 1, 1},
         false,
         {{"--from", "PATH", "where it is", "", {}}, quiet_option("print the id alone")},
         {{"banger kernel import mine --from ./tree", "one that you built"},
          {"banger kernel import deb --from linux-image-amd64.deb", "one of a package"}},
         import,
         nullptr});
}

}  // namespace banger::cli
