#pragma once

#include "core/rpc/fields.hpp"

/// How fields.hpp does it. Nothing here is for callers.
namespace banger::rpc {

namespace detail {

Result<std::int64_t> decode_signed(const Json& json, const Place& place, std::int64_t least,
                                   std::int64_t most);
Result<std::uint64_t> decode_unsigned(const Json& json, const Place& place, std::uint64_t most);
Result<bool> decode_bool(const Json& json, const Place& place);
Result<double> decode_double(const Json& json, const Place& place);
Result<std::string> decode_text_value(const Json& json, const Place& place);
/// The error of a parse() at its place in the document.
Error at(const Place& place, const Error& error);
Error unknown_word(const Place& place, std::string_view got, const std::vector<std::string>& words);
Error unknown_field(const Place& place, std::string_view name);
Error missing_field(const Place& place, std::string_view name);

/// Converts to any member when an aggregate is built of it: counts the members.
struct AnyMember {
    template <class T>
    operator T() const;  // NOLINT: implicit is the point
};

template <class T, std::size_t... I>
constexpr bool builds_from(std::index_sequence<I...> /*unused*/) {
    return requires { T{(static_cast<void>(I), AnyMember{})...}; };
}
/// True when T has `count` members, no more and no fewer.
template <class T, std::size_t count>
constexpr bool has_members = builds_from<T>(std::make_index_sequence<count>{}) &&
                             !builds_from<T>(std::make_index_sequence<count + 1>{});

template <class T>
concept Mapped = requires {
    Fields<T>::list;
};
template <class T>
concept Parsed = requires(std::string_view text) {
    { T::parse(text) } -> std::same_as<Result<T>>;
};
template <class T>
concept HasStr = requires(const T& value) {
    std::string(value.str());
};
template <class T>
concept Word = std::is_enum_v<T>;

template <class T>
std::vector<std::string> words_of() {
    std::vector<std::string> words;
    for (int i = 0; i <= static_cast<int>(EnumText<T>::last); ++i)
        words.emplace_back(EnumText<T>::to_text(static_cast<T>(i)));
    return words;
}

// ---- one field ----

template <class F>
struct FieldTraits;
template <class O, class M, bool may_be_absent>
struct FieldTraits<Field<O, M, may_be_absent>> {
    using Member = M;
};
template <class O, class M>
struct FieldTraits<Local<O, M>> {
    using Member = M;
};
template <class F>
using Slot = std::optional<typename FieldTraits<F>::Member>;

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

template <class O, class M, bool may_be_absent>
void encode_field(const O& owner, const Field<O, M, may_be_absent>& each, Json::Object& out) {
    if constexpr (IsOptional<M>::value) {
        if (!(owner.*each.member).has_value()) return;
    }
    out.push_back({std::string(each.name), encode(owner.*each.member)});
}
template <class O, class M>
void encode_field(const O& /*owner*/, const Local<O, M>& /*each*/, Json::Object& /*out*/) {}

template <class O, class M, bool may_be_absent>
bool decode_field(const Json& object, const Place& place, const Field<O, M, may_be_absent>& each,
                  std::optional<M>& slot, std::optional<Error>& error) {
    const Json* json = object.find(each.name);
    if (json == nullptr || json->is_null()) {
        if constexpr (may_be_absent || IsOptional<M>::value) {
            slot.emplace();
            return true;
        } else if (json == nullptr) {
            error = missing_field(place, each.name);
            return false;
        }
    }
    Result<M> member = Codec<M>::decode(*json, place.field(each.name));
    if (member)
        slot.emplace(std::move(member).value());
    else
        error = std::move(member).error();
    return slot.has_value();
}
template <class O, class M>
bool decode_field(const Json& /*object*/, const Place& /*place*/, const Local<O, M>& each,
                  std::optional<M>& slot, std::optional<Error>& /*error*/) {
    slot.emplace(each.value);
    return true;
}

template <class O, class M, bool may_be_absent>
bool is_named(const Field<O, M, may_be_absent>& each, std::string_view name) {
    return each.name == name;
}
template <class O, class M>
bool is_named(const Local<O, M>& /*each*/, std::string_view /*name*/) {
    return false;
}

template <class O, class M, bool may_be_absent>
void add_shape(const Field<O, M, may_be_absent>& each, Shape& record) {
    record.words.emplace_back(each.name);
    Shape shape = shape_of<M>();
    if (may_be_absent && shape.kind != Shape::Kind::maybe)
        shape = Shape{Shape::Kind::maybe, {}, {}, {std::move(shape)}};
    record.inner.push_back(std::move(shape));
}
template <class O, class M>
void add_shape(const Local<O, M>& /*each*/, Shape& /*record*/) {}

}  // namespace detail

// ---- plain values ----

template <>
struct Codec<Json> {
    static Json encode(const Json& value) { return value; }
    static Result<Json> decode(const Json& json, const Place& /*place*/) { return json; }
    static Shape shape() { return {}; }
};

template <>
struct Codec<bool> {
    static Json encode(bool value) { return Json(value); }
    static Result<bool> decode(const Json& json, const Place& place) {
        return detail::decode_bool(json, place);
    }
    static Shape shape() { return {Shape::Kind::boolean, {}, {}, {}}; }
};

template <std::signed_integral T>
struct Codec<T> {
    static Json encode(T value) { return Json(std::int64_t{value}); }
    static Result<T> decode(const Json& json, const Place& place) {
        using Limits = std::numeric_limits<T>;
        return static_cast<T>(
            BANGER_TRY(detail::decode_signed(json, place, Limits::min(), Limits::max())));
    }
    static Shape shape() { return {Shape::Kind::integer, {}, {}, {}}; }
};

template <std::unsigned_integral T>
struct Codec<T> {
    static Json encode(T value) { return Json(std::uint64_t{value}); }
    static Result<T> decode(const Json& json, const Place& place) {
        return static_cast<T>(
            BANGER_TRY(detail::decode_unsigned(json, place, std::numeric_limits<T>::max())));
    }
    static Shape shape() { return {Shape::Kind::integer, {}, {}, {}}; }
};

template <>
struct Codec<double> {
    static Json encode(double value) { return Json(value); }
    static Result<double> decode(const Json& json, const Place& place) {
        return detail::decode_double(json, place);
    }
    static Shape shape() { return {Shape::Kind::number, {}, {}, {}}; }
};

template <>
struct Codec<std::string> {
    static Json encode(const std::string& value) { return Json(value); }
    static Result<std::string> decode(const Json& json, const Place& place) {
        return detail::decode_text_value(json, place);
    }
    static Shape shape() { return {Shape::Kind::text, {}, {}, {}}; }
};

/// VmId, VmName, Digest, Ipv4Address, MacAddress, …
template <detail::Parsed T>
struct Codec<T> {
    static Json encode(const T& value) {
        if constexpr (detail::HasStr<T>)
            return Json(value.str());
        else
            return Json(value.text());
    }
    static Result<T> decode(const Json& json, const Place& place) {
        const std::string text = BANGER_TRY(detail::decode_text_value(json, place));
        Result<T> value = T::parse(text);
        if (!value) return detail::at(place, value.error());
        return value;
    }
    static Shape shape() { return {Shape::Kind::text, {}, {}, {}}; }
};

/// parse() of a ByteCount reads what people type; on the wire it is a number.
template <>
struct Codec<ByteCount> {
    static Json encode(ByteCount value) { return Json(value.count()); }
    static Result<ByteCount> decode(const Json& json, const Place& place) {
        return ByteCount::bytes(BANGER_TRY(
            detail::decode_unsigned(json, place, std::numeric_limits<std::int64_t>::max())));
    }
    static Shape shape() { return {Shape::Kind::integer, {}, {}, {}}; }
};

template <class Period>
struct Codec<std::chrono::duration<std::int64_t, Period>> {
    using Duration = std::chrono::duration<std::int64_t, Period>;
    static Json encode(Duration value) { return Json(std::int64_t{value.count()}); }
    static Result<Duration> decode(const Json& json, const Place& place) {
        return Duration(BANGER_TRY(Codec<std::int64_t>::decode(json, place)));
    }
    static Shape shape() { return {Shape::Kind::integer, {}, {}, {}}; }
};

template <detail::Word T>
struct Codec<T> {
    static Json encode(T value) { return Json(EnumText<T>::to_text(value)); }
    static Result<T> decode(const Json& json, const Place& place) {
        const std::string word = BANGER_TRY(detail::decode_text_value(json, place));
        const std::optional<T> value = EnumText<T>::parse(word);
        if (!value) return detail::unknown_word(place, word, detail::words_of<T>());
        return *value;
    }
    static Shape shape() { return {Shape::Kind::words, {}, detail::words_of<T>(), {}}; }
};

// ---- what holds other values ----

template <class T>
struct Codec<std::optional<T>> {
    static Json encode(const std::optional<T>& value) {
        return value ? rpc::encode(*value) : Json();
    }
    static Result<std::optional<T>> decode(const Json& json, const Place& place) {
        if (json.is_null()) return std::optional<T>();
        return std::optional<T>(BANGER_TRY(Codec<T>::decode(json, place)));
    }
    static Shape shape() { return {Shape::Kind::maybe, {}, {}, {shape_of<T>()}}; }
};

template <class T>
struct Codec<std::vector<T>> {
    static Json encode(const std::vector<T>& value) {
        Json::List list;
        list.reserve(value.size());
        for (const T& each : value)
            list.push_back(rpc::encode(each));
        return Json(std::move(list));
    }
    static Result<std::vector<T>> decode(const Json& json, const Place& place) {
        const Json::List* list = json.if_list();
        if (list == nullptr) return place.refuse_kind("a list", json);
        std::vector<T> value;
        value.reserve(list->size());
        for (std::size_t i = 0; i < list->size(); ++i)
            value.push_back(BANGER_TRY(Codec<T>::decode((*list)[i], place.item(i))));
        return value;
    }
    static Shape shape() { return {Shape::Kind::list, {}, {}, {shape_of<T>()}}; }
};

template <class T, class Less>
struct Codec<std::map<std::string, T, Less>> {
    using Map = std::map<std::string, T, Less>;
    static Json encode(const Map& value) {
        Json::Object object;
        object.reserve(value.size());
        for (const auto& [name, each] : value)
            object.push_back({name, rpc::encode(each)});
        return Json(std::move(object));
    }
    static Result<Map> decode(const Json& json, const Place& place) {
        const Json::Object* object = json.if_object();
        if (object == nullptr) return place.refuse_kind("an object", json);
        Map value;
        for (const JsonMember& each : *object)
            value.emplace(each.name,
                          BANGER_TRY(Codec<T>::decode(each.value, place.field(each.name))));
        return value;
    }
    static Shape shape() { return {Shape::Kind::map, {}, {}, {shape_of<T>()}}; }
};

template <class... Each>
requires requires { Alternatives<std::variant<Each...>>::names; }
struct Codec<std::variant<Each...>> {
    using Variant = std::variant<Each...>;
    static constexpr auto& names = Alternatives<Variant>::names;
    static_assert(names.size() == sizeof...(Each));

    static Json encode(const Variant& value) {
        Json inner = std::visit([](const auto& each) { return rpc::encode(each); }, value);
        Json::Object object;
        object.push_back({std::string(names[value.index()]), std::move(inner)});
        return Json(std::move(object));
    }
    static Result<Variant> decode(const Json& json, const Place& place) {
        const Json::Object* object = json.if_object();
        if (object == nullptr) return place.refuse_kind("an object", json);
        if (object->size() != 1) return place.refuse("exactly one member is wanted");
        return decode_one<0>(object->front(), place);
    }
    static Shape shape() {
        Shape record{Shape::Kind::record, {}, {}, {}};
        for (std::string_view name : names)
            record.words.emplace_back(name);
        (record.inner.push_back({Shape::Kind::maybe, {}, {}, {shape_of<Each>()}}), ...);
        return record;
    }

private:
    template <std::size_t index>
    static Result<Variant> decode_one(const JsonMember& member, const Place& place) {
        if constexpr (index == sizeof...(Each)) {
            return detail::unknown_field(place, member.name);
        } else {
            if (member.name != names[index]) return decode_one<index + 1>(member, place);
            using T = std::variant_alternative_t<index, Variant>;
            return Variant(std::in_place_index<index>,
                           BANGER_TRY(Codec<T>::decode(member.value, place.field(member.name))));
        }
    }
};

template <detail::Mapped T>
struct Codec<T> {
    static constexpr auto& list = Fields<T>::list;
    static constexpr std::size_t count = std::tuple_size_v<std::remove_cvref_t<decltype(list)>>;
    static_assert(detail::has_members<T, count>, "the field map does not name every member");

    static Json encode(const T& value) {
        Json::Object object;
        object.reserve(count);
        std::apply([&](const auto&... each) { (detail::encode_field(value, each, object), ...); },
                   list);
        return Json(std::move(object));
    }

    static Result<T> decode(const Json& json, const Place& place) {
        if (json.if_object() == nullptr) return place.refuse_kind("an object", json);
        return decode_all(json, place, std::make_index_sequence<count>{});
    }

    static Shape shape() {
        Shape record{Shape::Kind::record, {}, {}, {}};
        std::apply([&](const auto&... each) { (detail::add_shape(each, record), ...); }, list);
        return record;
    }

private:
    template <std::size_t... I>
    static Result<T> decode_all(const Json& json, const Place& place,
                                std::index_sequence<I...> /*unused*/) {
        std::tuple<detail::Slot<std::remove_cvref_t<decltype(std::get<I>(list))>>...> slots;
        std::optional<Error> error;
        if (!(detail::decode_field(json, place, std::get<I>(list), std::get<I>(slots), error) &&
              ...))
            return *std::move(error);
        if (place.unknown() == Unknown::refused) {
            for (const JsonMember& member : *json.if_object())
                if (!(detail::is_named(std::get<I>(list), member.name) || ...))
                    return detail::unknown_field(place, member.name);
        }
        T value{*std::move(std::get<I>(slots))...};
        const void* members[] = {nullptr, &(value.*(std::get<I>(list).member))...};
        for (std::size_t i = 1; i < std::size(members); ++i)
            if (std::less<>()(members[i], members[i - 1]))
                return Error(Errc::internal, "a field map is not in the order of its struct");
        return value;
    }
};

template <>
struct Fields<Nothing> {
    static constexpr auto list = fields();
};

}  // namespace banger::rpc
