// Publishing and catalogs through the real bangerd, on fake machines.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/child.hpp"
#include "core/base/file.hpp"
#include "core/base/process.hpp"
#include "core/catalog/key.hpp"
#include "core/client/connection.hpp"
#include "core/protocol/catalog_fields.hpp"
#include "core/protocol/image_fields.hpp"
#include "core/protocol/vm_fields.hpp"
#include "tests/base/temp_folder.hpp"
#include "tests/plugins/http_server.hpp"

namespace banger {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using namespace protocol;
using client::Connection;
using testing::HasSubstr;
using testing::IsEmpty;

class BangerdBundles : public ::testing::Test {
protected:
    void SetUp() override {
        for (const char* part : {"state", "cache", "config/banger", "run", "home", "usb"})
            ASSERT_TRUE(ensure_folder(folder_ / part, 0700));
        ASSERT_TRUE(
            write_file_atomic(folder_ / "config/banger/config.toml",
                              "[plugins]\nnetwork = \"fake\"\ndns = \"fake\"\nstorage = \"fake\"\n"
                              "vm_backend = \"fake\"\nimage_sources = [\"catalog\", \"fake\"]\n",
                              0600));
        start();
    }
    void start() {
        int ends[2];
        ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        const UniqueFd says(ends[0]);
        UniqueFd ready(ends[1]);
        Command command;
        command.program = std::string(BANGER_BIN) + "/bangerd";
        command.arguments = {"--user", "--ready-fd", std::to_string(ready.get()), "--idle-seconds",
                             "0"};
        command.environment = minimal_environment();
        for (const auto& [name, part] :
             std::map<std::string, std::string>{{"HOME", "home"},
                                                {"XDG_STATE_HOME", "state"},
                                                {"XDG_CACHE_HOME", "cache"},
                                                {"XDG_CONFIG_HOME", "config"},
                                                {"XDG_RUNTIME_DIR", "run"}})
            command.environment[name] = folder_ / part;
        command.inherited = {ready.get()};
        Result<Child> child = spawn(command);
        ASSERT_TRUE(child);
        daemon_.emplace(std::move(*child));
        ready.reset();
        ASSERT_EQ(read_all(says.get(), ByteCount::kib(64)).value(), "ready\n");
    }
    Connection connect() {
        Result<Connection> connection =
            Connection::connect(folder_ / "run/banger/bangerd.sock", 10s);
        EXPECT_TRUE(connection) << connection.error().text();
        return std::move(*connection);
    }
    template <class Reply, class In>
    Result<Reply> call(const std::string& method, const In& in) {
        Connection connection = connect();
        return connection.call<Reply>(method, in);
    }
    /// Publishes and takes the bundle into `usb`, as the command does.
    Result<Published> publish(const PublishBundle& request) {
        Connection connection = connect();
        std::optional<Published> published;
        const Result<void> done = connection.stream<PublishBundleReply>(
            "io.banger.Bundle.Publish", request,
            [&](const PublishBundleReply& reply) -> Result<void> {
                if (!reply.published) return ok();
                published = reply.published;
                EXPECT_EQ(::rename(published->path.c_str(),
                                   (folder_ / ("usb/" + published->file_name)).c_str()),
                          0);
                return Error(Errc::cancelled, "taken");
            });
        if (published) return *published;
        return done ? Error(Errc::internal, "nothing published") : done.error();
    }
    [[nodiscard]] std::vector<std::string> spool() const {
        return list_folder(folder_ / "cache/banger/publish").value();
    }
    void write_catalog(const std::string& images, const std::string& kernels = {}) {
        std::ofstream(folder_ / "usb/catalog.yaml")
            << "version: 1\nserial: 1\nimages:\n"
            << (images.empty() ? "  []\n" : images) << "kernels:\n"
            << (kernels.empty() ? "  []\n" : kernels);
    }
    static std::string text_of(const fs::path& path) {
        return read_file(path, ByteCount::mib(512)).value_or("");
    }
    static auto is_named(std::string end) {
        return
            [end = std::move(end)](const fs::path& path) { return path.string().ends_with(end); };
    }
    fs::path only_file(const std::string& folder,
                       const std::function<bool(const fs::path&)>& is_wanted) const {
        std::vector<fs::path> found;
        for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder_ / folder))
            if (entry.is_regular_file() && is_wanted(entry.path())) found.push_back(entry.path());
        EXPECT_EQ(found.size(), 1U);
        return found.empty() ? fs::path() : found.front();
    }
    static void put(const fs::path& path, std::uint64_t offset, const std::string& text) {
        std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(offset));
        file << text;
        EXPECT_TRUE(file.good());
    }
    Result<Image> pull(const std::string& reference, std::optional<std::string> name = {}) {
        const PullImageReply reply = BANGER_TRY(call<PullImageReply>(
            "io.banger.Image.Pull", PullArtifact{reference, std::move(name), false}));
        return reply.image.value();
    }
    TempFolder folder_;
    std::optional<Child> daemon_;
};

TEST_F(BangerdBundles, AnImageTravelsInAFolder) {
    const Result<Image> image = pull("fake:small");
    ASSERT_TRUE(image) << image.error().text();
    PublishBundle request;
    request.image = image->name;
    request.name = "travelled";
    request.description = "one: \"two\" # three";
    const Result<Published> published = publish(request);
    ASSERT_TRUE(published) << published.error().text();
    EXPECT_THAT(spool(), IsEmpty());
    EXPECT_THAT(published->entry, HasSubstr("name: travelled"));
    write_catalog(published->entry);

    const Result<AddCatalogReply> added =
        call<AddCatalogReply>("io.banger.Catalog.Add", AddCatalog{folder_ / "usb", {}, {}});
    ASSERT_TRUE(added) << added.error().text();
    ASSERT_TRUE(added->catalog);
    EXPECT_EQ(added->catalog->name, "usb");
    EXPECT_EQ(added->catalog->images, 1u);
    const Result<AvailableReply> available =
        call<AvailableReply>("io.banger.Image.Available", NoParameters{});
    ASSERT_TRUE(available);
    const auto found = std::ranges::find_if(
        available->available, [](const Available& each) { return each.reference == "travelled"; });
    ASSERT_NE(found, available->available.end());
    EXPECT_EQ(found->source, "catalog usb");
    EXPECT_EQ(found->description, "one: \"two\" # three");

    const Result<Image> again = pull("travelled");
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(again->kernel, image->kernel);
    EXPECT_EQ(again->size, image->size);
    EXPECT_LT(again->allocated, ByteCount::mib(256).count()) << "holes stay holes";

    request.image = "travelled";
    const Result<Published> twice = publish(request);
    ASSERT_TRUE(twice);
    // With the digest of everything in it: the pulled one is what was published.
    EXPECT_EQ(twice->digest, published->digest);

    // A stick with other bytes than its catalog says.
    std::ofstream(folder_ / ("usb/" + published->file_name), std::ios::app) << "x";
    EXPECT_EQ(call<PullImageReply>("io.banger.Image.Pull",
                                   PullArtifact{"travelled", std::string("third"), true})
                  .error()
                  .code,
              Errc::corrupt);
}

TEST_F(BangerdBundles, AStoppedMachineBecomesAnImage) {
    CreateVm create;
    create.request.name = "sandbox";
    create.request.image = "fake:small";
    create.request.disk = ByteCount::mib(64).count();
    create.request.root = ByteCount::mib(256).count();
    const Result<CreateVmReply> made = call<CreateVmReply>("io.banger.Vm.Create", create);
    ASSERT_TRUE(made) << made.error().text();
    PublishBundle request;
    request.vm = "sandbox";
    const Result<Published> running = publish(request);
    ASSERT_FALSE(running);
    EXPECT_EQ(running.error().code, Errc::wrong_state);
    EXPECT_THAT(running.error().remedy, HasSubstr("banger vm stop sandbox"));
    ASSERT_TRUE(call<StopVmReply>("io.banger.Vm.Stop", NamedVm{"sandbox"}));
    // As in the guest: the key is a file of its own, so it begins at a block.
    const std::string identity = text_of(only_file("state/banger/vms", is_named("vm.json")));
    const std::string key =
        nlohmann::json::parse(identity).at("ssh_host_key").at("private_key").get<std::string>();
    const fs::path image = only_file("state/banger", is_named("rootfs.ext4"));
    const fs::path disk = only_file("state/banger", is_named("-root.raw"));
    const std::uint64_t end = fs::file_size(image);
    const std::string beside = "beside the key: " + key.substr(0, 40);
    put(disk, end - 4096, key);
    put(disk, end - 8192, beside);
    const Result<Published> published = publish(request);
    ASSERT_TRUE(published) << published.error().text();
    EXPECT_THAT(published->notes.at(0), HasSubstr("secrets"));
    write_catalog(published->entry);
    ASSERT_TRUE(
        call<AddCatalogReply>("io.banger.Catalog.Add", AddCatalog{folder_ / "usb", {}, {}}));
    const Result<Image> again = pull("sandbox", "from-sandbox");
    ASSERT_TRUE(again) << again.error().text();
    std::ifstream content(only_file("state/banger/images/" + again->id, is_named("rootfs.ext4")),
                          std::ios::binary);
    content.seekg(static_cast<std::streamoff>(end - 8192));
    std::string pieces(8192, 'x');
    ASSERT_TRUE(content.read(pieces.data(), 8192));
    EXPECT_THAT(pieces, HasSubstr(beside));
    EXPECT_EQ(pieces.substr(4096), std::string(4096, '\0'));
}

TEST_F(BangerdBundles, AKernelToo) {
    const Result<PullKernelReply> pulled =
        call<PullKernelReply>("io.banger.Kernel.Pull", PullArtifact{"fake:kernel", {}, false});
    ASSERT_TRUE(pulled) << pulled.error().text();
    PublishBundle request;
    request.kernel = pulled->kernel->name;
    request.name = "travelled";
    const Result<Published> published = publish(request);
    ASSERT_TRUE(published) << published.error().text();
    write_catalog({}, published->entry);
    ASSERT_TRUE(
        call<AddCatalogReply>("io.banger.Catalog.Add", AddCatalog{folder_ / "usb", {}, {}}));
    const Result<PullKernelReply> again =
        call<PullKernelReply>("io.banger.Kernel.Pull", PullArtifact{"travelled", {}, false});
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(again->kernel->version, pulled->kernel->version);
    EXPECT_EQ(again->kernel->size, pulled->kernel->size);
}

TEST_F(BangerdBundles, WhoeverGoesAwayLeavesNoFile) {
    ASSERT_TRUE(pull("fake:small"));
    PublishBundle request;
    request.image = "small";
    const Result<ListImagesReply> listed =
        call<ListImagesReply>("io.banger.Image.List", NoParameters{});
    for (const Image& image : listed->images)
        request.image = image.name;
    {
        Connection connection = connect();
        const Result<void> done = connection.stream<PublishBundleReply>(
            "io.banger.Bundle.Publish", request, [&](const PublishBundleReply& reply) {
                if (reply.published) {
                    EXPECT_TRUE(path_exists(reply.published->path));
                }
                return reply.published ? Result<void>(Error(Errc::cancelled, "not taken")) : ok();
            });
        EXPECT_TRUE(done) << done.error().text();
    }
    EXPECT_THAT(spool(), IsEmpty());
    EXPECT_EQ(call<PublishBundleReply>("io.banger.Bundle.Publish", request).error().code,
              Errc::invalid_argument)
        << "without more nobody could take it";
    request.vm = "also";
    EXPECT_EQ(publish(request).error().code, Errc::invalid_argument);

    // kill -9 while it is there: the next start takes it away.
    request.vm.reset();
    Connection connection = connect();
    const Result<void> lost = connection.stream<PublishBundleReply>(
        "io.banger.Bundle.Publish", request, [&](const PublishBundleReply& reply) {
            if (reply.published) {
                EXPECT_EQ(::kill(static_cast<pid_t>(daemon_->id().pid), SIGKILL), 0);
            }
            return ok();
        });
    EXPECT_FALSE(lost);
    EXPECT_EQ(spool().size(), 1u);
    ASSERT_TRUE(daemon_->wait({}));
    start();
    EXPECT_THAT(spool(), IsEmpty());
}

TEST_F(BangerdBundles, ASignedCatalogComesFromAServer) {
    ASSERT_TRUE(pull("fake:small"));
    PublishBundle request;
    const Result<ListImagesReply> listed =
        call<ListImagesReply>("io.banger.Image.List", NoParameters{});
    for (const Image& image : listed->images)
        request.image = image.name;
    request.name = "served";
    const Result<Published> published = publish(request);
    ASSERT_TRUE(published) << published.error().text();
    write_catalog(published->entry);
    const MakeKeyReply key =
        call<MakeKeyReply>("io.banger.Catalog.MakeKey", NoParameters{}).value();
    std::string text = read_file(folder_ / "usb/catalog.yaml", ByteCount::mib(1)).value();
    const auto sign = [&] {
        const Result<SignCatalogReply> signed_one =
            call<SignCatalogReply>("io.banger.Catalog.Sign", SignCatalog{text, key.private_key});
        EXPECT_TRUE(signed_one) << signed_one.error().text();
        std::ofstream(folder_ / "usb/catalog.yaml") << text;
        std::ofstream(folder_ / "usb/catalog.yaml.sig") << signed_one->signature;
    };
    sign();
    const HttpServer server([&](const std::string& head, HttpServer::Connection& connection) {
        const std::size_t from = head.find(' ') + 1;
        const std::string path = head.substr(from, head.find(' ', from) - from);
        if (path.starts_with("/moved/")) {
            connection.write(http_answer("302 Found", "Location: " + path.substr(6) + "\r\n", ""));
            return;
        }
        const Result<std::string> file = read_file(folder_ / ("usb" + path), ByteCount::gib(1));
        connection.write(file ? http_answer("200 OK", "", *file)
                              : http_answer("404 Not Found", "", ""));
    });
    const std::string place = server.url("/catalog.yaml");
    const Result<AddCatalogReply> asked =
        call<AddCatalogReply>("io.banger.Catalog.Add", AddCatalog{place, "web", {}});
    ASSERT_TRUE(asked) << asked.error().text();
    EXPECT_EQ(asked->unconfirmed_key, key.key);
    const Result<AddCatalogReply> added =
        call<AddCatalogReply>("io.banger.Catalog.Add", AddCatalog{place, "web", key.public_key});
    ASSERT_TRUE(added) << added.error().text();
    EXPECT_EQ(added->catalog->key, key.key);
    const Result<Image> image = pull("served");
    ASSERT_TRUE(image) << image.error().text();
    EXPECT_THAT(image->provenance, HasSubstr("signed by " + key.key));
    // Through a redirect to the same host: the signature counts, not the way.
    const Result<AddCatalogReply> moved = call<AddCatalogReply>(
        "io.banger.Catalog.Add", AddCatalog{server.url("/moved/catalog.yaml"), "moved", key.key});
    EXPECT_TRUE(moved) << moved.error().text();

    // Newer; then changed behind the signature; then gone.
    text.replace(text.find("serial: 1"), 9, "serial: 2");
    sign();
    const Result<UpdateCatalogReply> updated =
        call<UpdateCatalogReply>("io.banger.Catalog.Update", NamedCatalog{"web"});
    ASSERT_TRUE(updated) << updated.error().text();
    EXPECT_EQ(updated->catalog->serial, 2u);
    EXPECT_EQ(updated->has_changed, true);
    std::ofstream(folder_ / "usb/catalog.yaml", std::ios::app) << "# changed\n";
    EXPECT_EQ(
        call<UpdateCatalogReply>("io.banger.Catalog.Update", NamedCatalog{"web"}).error().code,
        Errc::corrupt);
    const ListCatalogsReply list =
        call<ListCatalogsReply>("io.banger.Catalog.List", NoParameters{}).value();
    ASSERT_EQ(list.catalogs.size(), 2u);
    EXPECT_EQ(list.catalogs[1].serial, 2u) << "the old one stays";
    EXPECT_TRUE(call<RemoveCatalogReply>("io.banger.Catalog.Remove", NamedCatalog{"web"}));
    EXPECT_EQ(
        call<RemoveCatalogReply>("io.banger.Catalog.Remove", NamedCatalog{"web"}).error().code,
        Errc::not_found);
}

}  // namespace
}  // namespace banger
