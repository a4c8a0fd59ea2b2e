#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <iostream>

#include "cli/artifact_commands.hpp"
#include "cli/commands.hpp"
#include "cli/render/table.hpp"
#include "cli/render/text.hpp"
#include "core/base/file.hpp"
#include "core/base/rollback.hpp"
#include "core/protocol/catalog_fields.hpp"

namespace banger::cli {

namespace {

using protocol::Catalog;

constexpr ByteCount max_key_file = ByteCount::kib(16);
/// What fits in a message to bangerd however it is written there.
constexpr ByteCount max_signed_catalog = ByteCount::kib(400);
constexpr std::string_view key_prefix = "ed25519:";

/// A place as bangerd, whose working folder is another, understands it.
Result<std::string> absolute_place(const std::string& place) {
    if (place.find("://") != place.npos || place.starts_with('/')) return place;
    const std::unique_ptr<char, decltype(&::free)> here(::realpath(place.c_str(), nullptr),
                                                        &::free);
    if (here) return std::string(here.get());
    return Error(Errc::not_found, "there is no " + place,
                 "Give a folder, a file, or a URL that begins with https://.");
}

/// A key as text, or the file that holds it.
Result<std::string> read_key(const std::string& text) {
    if (text.starts_with(key_prefix)) return text;
    Result<std::string> content = read_file(text, max_key_file);
    if (content) return content;
    return Error(content.error().code, "the key cannot be read: " + content.error().message,
                 "Give it as ed25519:…, or name the file that holds it.");
}

std::string contents(std::uint64_t images, std::uint64_t kernels) {
    return std::to_string(images) + (images == 1 ? " image, " : " images, ") +
           std::to_string(kernels) + (kernels == 1 ? " kernel" : " kernels");
}

Result<bool> ask(Terminal& terminal, const std::string& question) {
    terminal.note(question + " [y/N] ");
    std::string answer;
    std::getline(std::cin, answer);
    return answer == "y" || answer == "Y" || answer == "yes";
}

Result<protocol::AddCatalogReply> call_add(Session& session, Context& context,
                                           const protocol::AddCatalog& request,
                                           const Interrupts& interrupts, bool is_quiet) {
    ProgressView progress(context.terminal, is_quiet);
    return session.daemon.call<protocol::AddCatalogReply>(
        "io.banger.Catalog.Add", request,
        {.on_progress = [&](const Progress& now) { progress.show(now); },
         .stop_fd = interrupts.fd()});
}

Result<int> add(const Arguments& arguments, Context& context) {
    protocol::AddCatalog request;
    request.place = BANGER_TRY(absolute_place(arguments.words[0]));
    request.name = arguments.value("name");
    if (const std::optional<std::string> key = arguments.value("key"))
        request.key = BANGER_TRY(read_key(*key));
    Session session = BANGER_TRY(open_session(context));
    const bool is_quiet = arguments.has("quiet");
    Result<protocol::AddCatalogReply> reply = [&] {
        const Interrupts interrupts;
        return call_add(session, context, request, interrupts, is_quiet);
    }();
    if (reply && reply->unconfirmed_key) {
        const std::string& key = *reply->unconfirmed_key;
        if (!context.terminal.in_is_terminal())
            return Error(Errc::permission_denied,
                         request.place + " is signed by " + key +
                             ", and nobody said that this is its publisher's key",
                         "Compare it with what the publisher told you, then add --key " + key);
        context.terminal.note(request.place + " is signed by\n\n    " + key +
                              "\n\nWhoever has this key decides what these images are. Compare "
                              "it with what its publisher told you.\n");
        if (!BANGER_TRY(ask(context.terminal, "Is it the right one?")))
            return Error(Errc::cancelled, "not added", "");
        request.key = key;
        const Interrupts interrupts;
        reply = call_add(session, context, request, interrupts, is_quiet);
    }
    if (!reply) return reply.error();
    if (!reply->catalog) return Error(Errc::corrupt, "bangerd did not say what it added");
    const Catalog& catalog = *reply->catalog;
    context.terminal.out(catalog.name + "\n");
    if (!is_quiet)
        context.terminal.note(
            "added, with " + contents(catalog.images, catalog.kernels) +
            (catalog.key.empty() ? "; it is not signed: whoever can write it decides what they are"
                                 : "") +
            "\nSee them: banger image list --available\n");
    return 0;
}

Result<int> list(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    const protocol::ListCatalogsReply reply =
        BANGER_TRY(session.daemon.call<protocol::ListCatalogsReply>("io.banger.Catalog.List",
                                                                    protocol::NoParameters{}));
    Terminal& terminal = context.terminal;
    if (wants_json(arguments)) {
        terminal.out(json_text(reply.catalogs));
        return 0;
    }
    if (arguments.has("quiet")) {
        for (const Catalog& catalog : reply.catalogs)
            terminal.out(catalog.name + "\n");
        return 0;
    }
    if (reply.catalogs.empty()) {
        terminal.note(
            "No catalog was added to the built-in one.\n"
            "Add one: banger catalog add https://images.example/catalog.yaml\n");
        return 0;
    }
    Table table({"NAME", "FROM", "SERIAL", "IMAGES", "KERNELS", "UPDATED", "KEY"});
    for (const Catalog& catalog : reply.catalogs)
        table.add({{catalog.name, Style::Colour::bold},
                   catalog.place,
                   catalog.serial == 0 ? "-" : std::to_string(catalog.serial),
                   std::to_string(catalog.images),
                   std::to_string(catalog.kernels),
                   ago_text(now_seconds() - catalog.updated_at),
                   catalog.key.empty() ? "not signed" : catalog.key});
    terminal.out(table.text(terminal.out_style(), terminal.out_width()));
    for (const Catalog& catalog : reply.catalogs)
        if (!catalog.problem.empty()) terminal.note("not in use: " + catalog.problem + "\n");
    return 0;
}

Result<int> remove(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    return for_each(arguments.words, session, context,
                    [](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
                        const protocol::RemoveCatalogReply done =
                            BANGER_TRY(daemon.call<protocol::RemoveCatalogReply>(
                                "io.banger.Catalog.Remove", protocol::NamedCatalog{name}));
                        return "removed " + done.catalog.name;
                    });
}

Result<int> update(const Arguments& arguments, Context& context) {
    Session session = BANGER_TRY(open_session(context));
    std::vector<std::string> names = arguments.words;
    if (names.empty()) {
        const protocol::ListCatalogsReply all =
            BANGER_TRY(session.daemon.call<protocol::ListCatalogsReply>("io.banger.Catalog.List",
                                                                        protocol::NoParameters{}));
        for (const Catalog& catalog : all.catalogs)
            names.push_back(catalog.name);
    }
    if (names.empty()) {
        context.terminal.note("No catalog was added to the built-in one.\n");
        return 0;
    }
    return for_each(names, session, context,
                    [](client::Daemon& daemon, const std::string& name) -> Result<std::string> {
                        const protocol::UpdateCatalogReply done =
                            BANGER_TRY(daemon.call<protocol::UpdateCatalogReply>(
                                "io.banger.Catalog.Update", protocol::NamedCatalog{name}));
                        if (!done.catalog || !done.has_changed.value_or(false))
                            return name + ": nothing new";
                        return name + ": now " +
                               contents(done.catalog->images, done.catalog->kernels);
                    });
}

Result<int> sign(const Arguments& arguments, Context& context) {
    const std::string& file = arguments.words[0];
    const std::optional<std::string> key_file = arguments.value("key");
    if (!key_file)
        return usage_error(context, Error(Errc::invalid_argument, "the key is missing",
                                          "Name its file with --key; `banger catalog keygen` "
                                          "makes one."));
    const std::string text = BANGER_TRY(read_file(file, max_signed_catalog));
    const std::string key = BANGER_TRY(read_file(*key_file, max_key_file));
    Session session = BANGER_TRY(open_session(context));
    const protocol::SignCatalogReply reply =
        BANGER_TRY(session.daemon
                       .call<protocol::SignCatalogReply>("io.banger.Catalog.Sign",
                                                         protocol::SignCatalog{text, key})
                       .context("signing " + file));
    BANGER_TRY(write_file_atomic(file + ".sig", reply.signature, 0644));
    context.terminal.out(file + ".sig\n");
    context.terminal.note("serial " + std::to_string(reply.serial) + ", " +
                          contents(reply.images, reply.kernels) + ", signed by " + reply.key +
                          "\n");
    return 0;
}

/// A private key is made once and never over another one.
Result<void> write_new(const std::string& path, const std::string& content, mode_t mode) {
    const UniqueFd file(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!file && errno == EEXIST)
        return Error(Errc::already_exists, path + " is there already",
                     "Choose another name: a key is never replaced.");
    if (!file) return Error::from_errno(errno, "making " + path);
    BANGER_TRY(write_all(file.get(), content));
    if (::fsync(file.get()) != 0) return Error::from_errno(errno, "writing " + path);
    return ok();
}

Result<int> keygen(const Arguments& arguments, Context& context) {
    const std::string& file = arguments.words[0];
    Session session = BANGER_TRY(open_session(context));
    const protocol::MakeKeyReply key = BANGER_TRY(session.daemon.call<protocol::MakeKeyReply>(
        "io.banger.Catalog.MakeKey", protocol::NoParameters{}));
    BANGER_TRY(write_new(file, key.private_key, 0600));
    Rollback rollback({});
    rollback.add("removing " + file, [&] { return remove_file(file); });
    BANGER_TRY(write_new(file + ".pub", key.public_key, 0644));
    rollback.commit();
    context.terminal.out(key.key + "\n");
    context.terminal.note("wrote " + file + " (keep it to yourself) and " + file +
                          ".pub\nTell the key above to whoever adds your catalog.\n");
    return 0;
}

}  // namespace

void add_catalog_commands(CommandTable& table) {
    table.groups.push_back(
        {"catalog",
         "lists of images and kernels by name",
         "A catalog gives images and kernels short names and says where they come from. One is\n"
         "built in; a team adds its own, signed, from a web server, a folder or a USB stick.",
         {{"banger catalog add https://images.example/catalog.yaml", "asks about its key"},
          {"banger catalog list", "those that were added"},
          {"banger image list --available", "what all of them have"}}});
    const auto add_command = [&](CommandSpec command) {
        command.group = "catalog";
        table.commands.push_back(std::move(command));
    };
    add_command({"",
                 "list",
                 {"ls"},
                 "list those that were added",
                 "The built-in catalog and the files of [plugin.catalog] are always there.",
                 {},
                 false,
                 {format_option(), quiet_option("print names alone")},
                 {{"banger catalog list", "with where they are from and whose they are"}},
                 list,
                 nullptr});
    add_command(
        {"",
         "add",
         {},
         "add one",
         "PLACE is a URL (https), or a folder or file of this host; a folder means its\n"
         "catalog.yaml. What comes over the network is signed, and its key is pinned now: from "
         "then\n"
         "on nothing else is taken, nor anything older. A name that is there already keeps its\n"
         "meaning.",
         {"PLACE", 1, 1},
         false,
         {{"--key",
           "FILE",
           "its publisher's key: ed25519:…, or the file with it",
           "asked for on a terminal",
           {}},
          {"--name", "NAME", "what to call it here", "from the place", {}},
          quiet_option("print the name alone")},
         {{"banger catalog add https://images.example/catalog.yaml", "shows the key and asks"},
          {"banger catalog add /media/usb/banger", "offline, bundles beside it"}},
         add,
         nullptr});
    add_command({"",
                 "remove",
                 {"rm"},
                 "forget some",
                 "Images and kernels that came from them stay.",
                 {"CATALOG...", 1, Words::many},
                 false,
                 {},
                 {{"banger catalog remove team", "its names are gone"}},
                 remove,
                 nullptr});
    add_command({"",
                 "update",
                 {},
                 "fetch them again",
                 "Refuses another key, a missing signature, an older catalog and one that has\n"
                 "expired; the one that is here then stays in use.",
                 {"CATALOG...", 0, Words::many},
                 false,
                 {},
                 {{"banger catalog update", "all of them"}},
                 update,
                 nullptr});
    add_command(
        {"",
         "sign",
         {},
         "sign one that you publish",
         "Checks the catalog as strictly as whoever adds it, and writes FILE.sig beside it.",
         {"FILE", 1, 1},
         false,
         {{"--key", "FILE", "the private key", "", {}}},
         {{"banger catalog sign catalog.yaml --key team.pem", "after every change"}},
         sign,
         nullptr});
    add_command({"",
                 "keygen",
                 {},
                 "make a key to sign with",
                 "Writes the private key (PEM, as openssl reads it) to FILE and the public one to\n"
                 "FILE.pub, and prints the public one as one word.",
                 {"FILE", 1, 1},
                 false,
                 {},
                 {{"banger catalog keygen team.pem", "once"}},
                 keygen,
                 nullptr});
}

}  // namespace banger::cli
