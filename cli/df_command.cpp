#include "cli/artifact_commands.hpp"
#include "cli/render/table.hpp"
#include "cli/render/text.hpp"

namespace banger::cli {

namespace {

using protocol::DiskItem;
using protocol::DiskKind;

std::string heading_of(const std::string& kind) {
    return kind == "blob" ? "cached layers" : kind + "s";
}

std::string share_text(std::uint64_t part, std::uint64_t whole) {
    if (whole == 0) return size_text(part);
    return size_text(part) + " (" + std::to_string(part * 100 / whole) + "%)";
}

void print_kinds(const std::vector<DiskKind>& kinds, Terminal& terminal) {
    Table table({"TYPE", "COUNT", "SIZE", "SHARED", "OWN", "RECLAIMABLE"});
    for (const DiskKind& kind : kinds)
        table.add({{heading_of(kind.kind), Style::Colour::bold},
                   std::to_string(kind.count),
                   size_text(kind.size),
                   size_text(kind.shared),
                   size_text(kind.own),
                   share_text(kind.reclaimable, kind.size)});
    terminal.out(table.text(terminal.out_style(), terminal.out_width()));
}

void print_items(const std::vector<DiskItem>& items, Terminal& terminal) {
    Table table({"TYPE", "NAME", "SIZE", "RECLAIMABLE", "USED BY"});
    for (const DiskItem& item : items) {
        std::string users;
        for (const std::string& user : item.users)
            users += (users.empty() ? "" : " ") + user;
        table.add({item.kind == "blob" ? "layer" : item.kind,
                   {item.name, Style::Colour::bold},
                   size_text(item.size),
                   item.is_reclaimable ? "yes" : "no",
                   users.empty() ? "-" : users});
    }
    terminal.out(table.text(terminal.out_style(), terminal.out_width()));
}

Result<int> df(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    const protocol::DiskUsageReply reply = BANGER_TRY(session.daemon.call<protocol::DiskUsageReply>(
        "io.banger.System.DiskUsage", protocol::NoParameters{}));
    Terminal& terminal = context.terminal;
    if (wants_json(arguments)) {
        terminal.out(json_text(reply));
        return 0;
    }
    if (arguments.has("verbose"))
        print_items(reply.items, terminal);
    else
        print_kinds(reply.kinds, terminal);
    return 0;
}

}  // namespace

void add_df_command(CommandTable& table) {
    table.commands.push_back(
        {"system",
         "df",
         {},
         "show what banger uses of the disk",
         "Each byte is counted once. SHARED is what others stand on: images and kernels that\n"
         "machines use, layers of several images. OWN is the rest. RECLAIMABLE can go without\n"
         "anything that is in use: `banger image delete`, `banger kernel delete`, `banger image\n"
         "cache prune`, `banger vm prune`. Files that you registered are yours and not counted.",
         {},
         false,
         {{"-v,--verbose", "", "everything by itself", "", {}}, format_option()},
         {{"banger system df", "what takes the room?"}, {"banger system df -v", "which of them?"}},
         df,
         nullptr});
}

}  // namespace banger::cli
