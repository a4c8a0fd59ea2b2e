#include "core/images/ext4_image.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "core/images/ext4_folders.hpp"
#include "core/images/ext4_volume.hpp"
#include "core/images/image_writer.hpp"
#include "core/images/layer_stream.hpp"
#include "core/images/tar_reader.hpp"
#include "core/images/upper_names.hpp"

namespace banger::images {
namespace {

constexpr std::uint64_t report_every = std::uint64_t{1} << 20;

Error too_much(std::string_view of_what) {
    return Error(Errc::corrupt,
                 "the archive has more " + std::string(of_what) + " than an image may have",
                 "The archive is not one to make an image of.");
}

Error cancelled() { return Error(Errc::cancelled, "writing the image was cancelled"); }

/// Which files do not last, as a reading of all layers has found it out.
struct Outcome {
    std::vector<bool> gone;                     ///< by the number of the entry among all
    std::vector<std::uint32_t> first_of_layer;  ///< number of each layer's first entry
};

/// One reading of all layers.
///
/// Data that a layer further up deletes is not written at all, so layers are read from the top
/// down: what they say of names is kept in mind (UpperNames), their data goes into the volume at
/// once, their entries into a journal. The bottom layer, often the largest, is applied as it comes;
/// then the journals, from the bottom up. So each layer is unpacked once, and the folders are made
/// exactly in the order that the layers have.
class Reading {
public:
    /// `known` is what an earlier reading found out; nothing: guess.
    Reading(std::span<const LayerSource> layers, Ext4Volume& volume, const Scratch& scratch,
            const Ext4Options& options, const Outcome* known, std::stop_token stop)
        : layers_(layers),
          volume_(volume),
          scratch_(scratch),
          options_(options),
          known_(known),
          stop_(std::move(stop)),
          writer_(volume, options) {}

    Result<void> run();
    [[nodiscard]] ImageWriter& writer() { return writer_; }
    [[nodiscard]] Ext4Progress progress() const { return progress_; }
    [[nodiscard]] Outcome outcome() const {
        return {.gone = writer_.gone(), .first_of_layer = first_of_layer_};
    }

private:
    template <class Taker>
    Result<void> read_layer(std::size_t layer, Taker take);
    Result<void> replay(EntryJournal& journal);
    [[nodiscard]] bool lasts(std::size_t layer, std::size_t index, const TarEntry& entry) const;
    Result<FileContent> store_data(TarReader& reader);
    Result<void> tick();

    std::span<const LayerSource> layers_;
    Ext4Volume& volume_;
    Scratch scratch_;
    const Ext4Options& options_;
    const Outcome* known_;
    std::stop_token stop_;
    ImageWriter writer_;
    UpperNames names_;
    std::vector<std::uint32_t> first_of_layer_;

    std::unique_ptr<LayerStream> stream_;  ///< of the layer that is being read
    std::unique_ptr<LayerStream> next_;    ///< of the one after it, which unpacks already
    std::uint64_t read_before_ = 0;        ///< bytes of the layers that are done
    Ext4Progress progress_;
    std::uint64_t reported_ = 0;
};

Result<void> Reading::run() {
    BANGER_TRY(writer_.begin());
    std::vector<EntryJournal> journals;
    journals.reserve(layers_.size());
    for (std::size_t layer = layers_.size(); layer-- > 1;) {
        EntryJournal& journal = journals.emplace_back(scratch_);
        BANGER_TRY(read_layer(layer, [&](const TarEntry& entry, const FileContent& content) {
            names_.note(entry);
            return journal.append(entry, content);
        }));
        names_.end_layer();
        BANGER_TRY(journal.close());
    }
    if (!layers_.empty()) {
        first_of_layer_.push_back(0);
        writer_.begin_layer();
        BANGER_TRY(read_layer(0, [&](const TarEntry& entry, const FileContent& content) {
            return writer_.apply(entry, content);
        }));
    }
    for (; !journals.empty(); journals.pop_back())
        BANGER_TRY(replay(journals.back()));
    return writer_.end();
}

template <class Taker>
Result<void> Reading::read_layer(std::size_t layer, Taker take) {
    stream_ = std::move(next_);
    if (!stream_) stream_ = BANGER_TRY(LayerStream::open(layers_[layer], stop_));
    if (layer > 0) next_ = BANGER_TRY(LayerStream::open(layers_[layer - 1], stop_));
    TarReader reader(*stream_, !options_.are_layers_whole);
    TarEntry entry;
    for (std::size_t index = 0; BANGER_TRY(reader.next(entry)); ++index) {
        if (++progress_.entries > options_.limits.entries) return too_much("entries");
        FileContent content;
        if (entry.type == TarEntry::Type::file && !is_whiteout(entry.path)) {
            if (lasts(layer, index, entry))
                content = BANGER_TRY(store_data(reader));
            else
                content.is_left_out = true;
        }
        BANGER_TRY(take(entry, content));
        BANGER_TRY(tick());
    }
    read_before_ += stream_->bytes_read();
    stream_.reset();
    return ok();
}

Result<void> Reading::replay(EntryJournal& journal) {
    first_of_layer_.push_back(writer_.applied());
    writer_.begin_layer();
    TarEntry entry;
    FileContent content;
    while (BANGER_TRY(journal.next(entry, content))) {
        BANGER_TRY(writer_.apply(entry, content));
        if (stop_.stop_requested()) return cancelled();
    }
    return ok();
}

bool Reading::lasts(std::size_t layer, std::size_t index, const TarEntry& entry) const {
    if (!known_) return !names_.cover(entry.path);
    const std::size_t number = known_->first_of_layer[layer] + index;
    return number >= known_->gone.size() || !known_->gone[number];
}

Result<FileContent> Reading::store_data(TarReader& reader) {
    FileContent content;
    std::uint64_t first = 0;  // block of the file at which `run` begins
    BlockRun run;
    while (true) {
        TarData data = BANGER_TRY(reader.read());
        if (data.bytes.empty()) return content;
        progress_.bytes_written += data.bytes.size();
        if (progress_.bytes_written > options_.limits.data.count()) return too_much("data");
        while (!data.bytes.empty()) {
            const std::uint64_t index = data.offset / block_size;
            if (index < first || index >= first + run.count) {
                const std::uint64_t end =
                    (data.offset + data.left_in_run + block_size - 1) / block_size;
                run = BANGER_TRY(volume_.allocate(end - index));
                first = index;
                content.runs.push_back({.first = first, .run = run});
            }
            const std::uint64_t room = (first + run.count) * block_size - data.offset;
            const std::size_t count =
                static_cast<std::size_t>(std::min<std::uint64_t>(room, data.bytes.size()));
            BANGER_TRY(volume_.write(run.start * block_size + (data.offset - first * block_size),
                                     data.bytes.first(count)));
            data.bytes = data.bytes.subspan(count);
            data.offset += count;
            data.left_in_run -= count;
        }
        BANGER_TRY(tick());
    }
}

Result<void> Reading::tick() {
    if (stop_.stop_requested()) return cancelled();
    progress_.bytes_read = read_before_ + (stream_ ? stream_->bytes_read() : 0);
    if (!options_.on_progress || progress_.bytes_read - reported_ < report_every) return ok();
    reported_ = progress_.bytes_read;
    options_.on_progress(progress_);
    return ok();
}

Result<LayerSource> keep(const LayerSource& source, Scratch& scratch, std::stop_token stop) {
    LayerInput input(source, std::move(stop));
    const std::uint64_t begin = scratch.end();
    std::vector<std::byte> bytes(std::size_t{256} << 10);
    while (const std::size_t count = BANGER_TRY(input.read(bytes)))
        BANGER_TRY(scratch.append(std::span(bytes).first(count)));
    return LayerSource{.fd = scratch.file(), .is_file = true, .begin = begin, .end = scratch.end()};
}

/// Where the layers are. One pipe alone is read as it comes; one of several is kept beside the
/// image first, because the top layer is read before those below it.
Result<std::vector<LayerSource>> find_sources(std::span<const UniqueFd> layers, Scratch& scratch,
                                              std::stop_token stop) {
    std::vector<LayerSource> sources;
    for (const UniqueFd& layer : layers) {
        struct ::stat status {};
        if (::fstat(layer.get(), &status) != 0)
            return Error::from_errno(errno, "looking at a layer");
        LayerSource source{.fd = layer.get(), .is_file = S_ISREG(status.st_mode)};
        if (source.is_file) {
            const ::off_t at = ::lseek(layer.get(), 0, SEEK_CUR);
            if (at < 0) return Error::from_errno(errno, "looking at a layer");
            source.begin = static_cast<std::uint64_t>(at);
        } else if (layers.size() > 1) {
            source = BANGER_TRY(keep(source, scratch, stop));
        }
        sources.push_back(source);
    }
    return sources;
}

Result<void> empty(const UniqueFd& image) {
    struct ::stat status {};
    if (::fstat(image.get(), &status) != 0) return Error::from_errno(errno, "looking at the image");
    if (!S_ISREG(status.st_mode))
        return Error(Errc::invalid_argument, "the image to write is no regular file");
    if (::ftruncate(image.get(), 0) != 0) return Error::from_errno(errno, "emptying the image");
    return ok();
}

}  // namespace

Result<Ext4Summary> write_ext4_from_layers(std::span<const UniqueFd> layers, const UniqueFd& image,
                                           const Ext4Options& options, std::stop_token stop) {
    const Ext4Volume::Layout layout{.size = options.size, .label = options.label};
    BANGER_TRY(empty(image));
    Scratch scratch(image.get(), Ext4Volume::scratch_begin(layout));
    const std::vector<LayerSource> sources = BANGER_TRY(find_sources(layers, scratch, stop));
    const bool can_read_again =
        std::ranges::all_of(sources, [](const LayerSource& source) { return source.is_file; });

    Outcome known;
    for (unsigned readings = 1;; ++readings) {
        const std::unique_ptr<Ext4Volume> volume = BANGER_TRY(Ext4Volume::create(image, layout));
        Reading reading(sources, *volume, scratch, options, readings == 1 ? nullptr : &known, stop);
        BANGER_TRY(reading.run());
        ImageWriter& writer = reading.writer();
        const Ext4Volume::Finish how{.digest = writer.digest(),
                                     .headroom_percent = options.headroom_percent,
                                     .at_least = options.at_least.count()};
        // Which files last is known exactly now, whatever was guessed: the same once more, when a
        // file lacks its data or deleted ones make the file system larger.
        const bool is_too_large =
            writer.wrote_in_vain() && BANGER_TRY(volume->is_larger_than_needed(how));
        if (writer.lasts_without_data() || (is_too_large && readings == 1 && can_read_again)) {
            if (readings > 1)
                return Error(Errc::corrupt, "a layer changed while it was being read",
                             "Fetch it again.");
            known = reading.outcome();
            BANGER_TRY(volume->wipe());
            continue;
        }
        const Ext4Volume::Finished finished = BANGER_TRY(volume->finish(how));
        const Ext4Progress progress = reading.progress();
        if (options.on_progress) options.on_progress(progress);
        return Ext4Summary{.size = ByteCount::bytes(finished.size),
                           .used = ByteCount::bytes(finished.used),
                           .entries = progress.entries,
                           .uuid = finished.uuid,
                           .readings = readings};
    }
}

Result<void> make_empty_ext4(const UniqueFd& image, const EmptyExt4& request) {
    BANGER_TRY(empty(image));
    const std::unique_ptr<Ext4Volume> volume =
        BANGER_TRY(Ext4Volume::create(image, {.size = request.size, .label = request.label}));
    Folders folders(*volume);
    Folder& root = folders.make(EXT2_ROOT_INO, EXT2_ROOT_INO);
    set_attributes(root.inode(), LINUX_S_IFDIR, request.root_mode, request.root_uid,
                   request.root_gid, {.seconds = Ext4Volume::epoch});
    BANGER_TRY(folders.store_all());
    RecordDigest digest;
    digest.add("empty");
    digest.add(request.identity);
    digest.add(request.label);
    BANGER_TRY(volume->finish({.digest = digest.finish()}));
    return ok();
}

}  // namespace banger::images
