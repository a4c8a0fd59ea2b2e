#include <condition_variable>
#include <mutex>

#include "core/protocol/catalog.hpp"
#include "core/protocol/catalog_fields.hpp"
#include "daemons/bangerd/interfaces.hpp"
#include "varlink/io.banger.Bundle.hpp"
#include "varlink/io.banger.Catalog.hpp"

namespace banger {

namespace {

using namespace protocol;
using rpc::Reporter;

std::chrono::sys_seconds now() {
    return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
}

Error which_one() {
    return {Errc::invalid_argument, "publish either an image, a kernel or a machine",
            "Name one of them."};
}

Result<Publisher::Publication> publish(Publisher& publisher, const PublishBundle& in, Call& call) {
    Publisher::Wishes wishes;
    if (in.name) wishes.name = BANGER_TRY(ArtifactName::parse(*in.name));
    wishes.description = in.description;
    if (in.image.has_value() + in.kernel.has_value() + in.vm.has_value() != 1) return which_one();
    if (in.image) return publisher.image(*in.image, wishes, call);
    if (in.kernel) return publisher.kernel(*in.kernel, wishes, call);
    return publisher.machine(*in.vm, wishes, call);
}

std::vector<std::string> notes_for(const PublishBundle& in) {
    if (!in.vm) return {};
    return {"the root disk of " + *in.vm +
                " can hold secrets (tokens, keys, histories, caches) outside of /root: look "
                "before you hand it on",
            "not in it: /root, which is another disk, and the machine's private ssh host key; host "
            "key, machine-id and name are made anew by each machine that starts from it"};
}

/// Returns when the caller has gone.
void wait_for_end(std::stop_token stop) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait(lock, std::move(stop), [] { return false; });
}

Catalog to_wire(const catalog::AddedCatalog& added) {
    Catalog wire{.name = added.name.str(),
                 .place = added.place,
                 .key = added.key.value_or(""),
                 .serial = added.serial,
                 .updated_at = added.updated_at,
                 .expires = {},
                 .images = 0,
                 .kernels = 0,
                 .problem = {}};
    const Result<catalog::Index> index = catalog::parse_catalog(added.text, added.name.str());
    if (!index) {
        wire.problem = index.error().message;
        return wire;
    }
    for (const catalog::Entry& entry : index->entries)
        ++(entry.kind == ArtifactKind::image ? wire.images : wire.kernels);
    if (index->expires) {
        const std::chrono::sys_seconds end = *index->expires + std::chrono::days(1);
        wire.expires = end.time_since_epoch().count();
    }
    const Result<void> fresh = catalog::check_not_expired(*index, now(), added.name.str());
    if (!fresh) wire.problem = fresh.error().message;
    return wire;
}

Result<SignCatalogReply> sign(const SignCatalog& in) {
    const catalog::Index index = BANGER_TRY(catalog::parse_catalog(in.text, "catalog"));
    if (!index.serial)
        return Error(Errc::invalid_argument, "the catalog has no serial",
                     "Add the line `serial: 1`, and count up with every version.");
    BANGER_TRY(catalog::check_not_expired(index, now(), "catalog"));
    const catalog::Signature signature = BANGER_TRY(catalog::sign(in.text, in.private_key));
    SignCatalogReply reply{
        .signature = signature.text(), .key = signature.key.text(), .serial = *index.serial};
    for (const catalog::Entry& entry : index.entries)
        ++(entry.kind == ArtifactKind::image ? reply.images : reply.kernels);
    return reply;
}

}  // namespace

rpc::Interface bundle_interface(Publisher& publisher, Store& store) {
    rpc::Interface bundle("io.banger.Bundle", varlink::io_banger_Bundle);
    bundle.job<PublishBundle, PublishBundleReply>(
        "Publish", {},
        [&](const PublishBundle& in,
            Reporter<PublishBundleReply>& call) -> Result<PublishBundleReply> {
            if (!call.wants_more())
                return Error(Errc::invalid_argument, "the bundle is there only during the call",
                             "Call it with more.");
            const std::string subject = in.image    ? *in.image
                                        : in.kernel ? *in.kernel
                                        : in.vm     ? *in.vm
                                                    : std::string();
            const Publisher::Publication publication = BANGER_TRY(recorded(
                store, "bundle.publish", subject, [&] { return publish(publisher, in, call); }));
            const images::WrittenBundle& made = publication.bundle();
            BANGER_TRY(call.send({{},
                                  Published{.path = publication.path(),
                                            .file_name = publication.file_name(),
                                            .digest = made.digest.str(),
                                            .size = made.size.count(),
                                            .entry = publication.catalog_entry(),
                                            .notes = notes_for(in)}}));
            wait_for_end(call.stop());
            return PublishBundleReply{};
        });
    return bundle;
}

rpc::Interface catalog_interface(catalog::AddedCatalogs& catalogs, Store& store) {
    rpc::Interface catalog("io.banger.Catalog", varlink::io_banger_Catalog);
    catalog.job<NoParameters, ListCatalogsReply>(
        "List", {},
        [&](const NoParameters&, Reporter<ListCatalogsReply>&) -> Result<ListCatalogsReply> {
            ListCatalogsReply reply;
            for (const catalog::AddedCatalog& added : catalogs.list())
                reply.catalogs.push_back(to_wire(added));
            return reply;
        });
    catalog.job<AddCatalog, AddCatalogReply>(
        "Add", {},
        [&](const AddCatalog& in, Reporter<AddCatalogReply>& call) -> Result<AddCatalogReply> {
            const catalog::AddedCatalogs::Added added =
                BANGER_TRY(recorded(store, "catalog.add", in.place, [&] {
                    return catalogs.add({in.place, in.name, in.key}, call);
                }));
            AddCatalogReply reply;
            if (added.catalog) reply.catalog = to_wire(*added.catalog);
            if (added.unconfirmed) reply.unconfirmed_key = added.unconfirmed->text();
            return reply;
        });
    catalog.job<NamedCatalog, RemoveCatalogReply>(
        "Remove", {},
        [&](const NamedCatalog& in, Reporter<RemoveCatalogReply>&) -> Result<RemoveCatalogReply> {
            return RemoveCatalogReply{to_wire(BANGER_TRY(recorded(
                store, "catalog.remove", in.name, [&] { return catalogs.remove(in.name); })))};
        });
    catalog.job<NamedCatalog, UpdateCatalogReply>(
        "Update", {},
        [&](const NamedCatalog& in,
            Reporter<UpdateCatalogReply>& call) -> Result<UpdateCatalogReply> {
            const ArtifactName name = BANGER_TRY(ArtifactName::parse(in.name));
            const catalog::AddedCatalogs::Updated updated = BANGER_TRY(recorded(
                store, "catalog.update", in.name, [&] { return catalogs.update(name, call); }));
            return UpdateCatalogReply{{}, to_wire(updated.catalog), updated.has_changed};
        });
    catalog.job<SignCatalog, SignCatalogReply>(
        "Sign", {}, [](const SignCatalog& in, Reporter<SignCatalogReply>&) { return sign(in); });
    catalog.job<NoParameters, MakeKeyReply>(
        "MakeKey", {}, [](const NoParameters&, Reporter<MakeKeyReply>&) -> Result<MakeKeyReply> {
            const catalog::KeyPair pair = BANGER_TRY(catalog::KeyPair::make());
            return MakeKeyReply{pair.private_pem, pair.public_pem, pair.public_key.text()};
        });
    return catalog;
}

}  // namespace banger
