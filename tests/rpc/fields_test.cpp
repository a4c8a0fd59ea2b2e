#include "core/rpc/fields.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/rpc/role_fields.hpp"

namespace banger::rpc {

using testing::ElementsAre;
using testing::HasSubstr;

namespace {

struct Inner {
    std::uint8_t small = 0;
    std::optional<VmName> name;
    friend bool operator==(const Inner&, const Inner&) = default;
};

struct Outer {
    VmId vm;  // no default: the reason for building in one go
    bool flag = true;
    std::int32_t number = -1;
    double ratio = 0;
    ByteCount size;
    std::chrono::milliseconds pause{0};
    std::vector<Inner> inner;
    std::map<std::string, std::int64_t> counts;
    DiskFormat format = DiskFormat::raw;
    std::string note = "default";
    int descriptor = -1;
    friend bool operator==(const Outer&, const Outer&) = default;
};

struct Swapped {
    std::string first;
    std::string second;
};

}  // namespace

template <>
struct Fields<Inner> {
    static constexpr auto list = fields(field("small", &Inner::small), field("name", &Inner::name));
};
template <>
struct Fields<Outer> {
    static constexpr auto list = fields(
        field("vm", &Outer::vm), field("flag", &Outer::flag), field("number", &Outer::number),
        field("ratio", &Outer::ratio), field("size", &Outer::size),
        field("pause_ms", &Outer::pause), field("inner", &Outer::inner),
        field("counts", &Outer::counts), field("format", &Outer::format),
        field("note", &Outer::note).or_empty(), local(&Outer::descriptor, -1));
};
template <>
struct Fields<Swapped> {
    static constexpr auto list =
        fields(field("second", &Swapped::second), field("first", &Swapped::first));
};

namespace {

constexpr std::string_view outer_text =
    R"({"vm":"0123456789ab","flag":false,"number":-7,"ratio":0.5,"size":4096,"pause_ms":250,)"
    R"("inner":[{"small":255,"name":"box"},{"small":0}],"counts":{"a":1,"b":-2},)"
    R"("format":"qcow2","note":"hi"})";

Outer outer() {
    return {VmId::parse("0123456789ab").value(),
            false,
            -7,
            0.5,
            ByteCount::bytes(4096),
            std::chrono::milliseconds(250),
            {{255, VmName::parse("box").value()}, {0, std::nullopt}},
            {{"a", 1}, {"b", -2}},
            DiskFormat::qcow2,
            "hi",
            -1};
}

/// The text with one part replaced by another.
std::string with(std::string_view part, std::string_view other) {
    std::string text(outer_text);
    const std::size_t at = text.find(part);
    EXPECT_NE(at, text.npos) << part;
    return text.replace(at, part.size(), other);
}

std::string refusal(const std::string& text, Unknown unknown = Unknown::refused) {
    const Result<Json> json = Json::parse(text);
    EXPECT_TRUE(json) << text;
    std::string failed_at;
    const Result<Outer> value = decode<Outer>(*json, "parameters", unknown, &failed_at);
    if (value) return "accepted";
    EXPECT_EQ(value.error().code, Errc::invalid_argument);
    EXPECT_TRUE(value.error().message.starts_with(failed_at + ": ")) << value.error().message;
    return value.error().message;
}

TEST(Fields, BothWays) {
    EXPECT_EQ(encode_text(outer()), outer_text);
    const Result<Outer> value = decode_text<Outer>(outer_text);
    ASSERT_TRUE(value) << value.error().text();
    EXPECT_EQ(*value, outer());
}

TEST(Fields, AnotherOrderAndSpaceAreTheSame) {
    const Result<Inner> value = decode_text<Inner>(R"( { "name" : null , "small" : 3 } )");
    ASSERT_TRUE(value) << value.error().text();
    EXPECT_EQ(*value, (Inner{3, std::nullopt}));
}

TEST(Fields, ALocalMemberNeverCrosses) {
    Outer value = outer();
    value.descriptor = 7;
    EXPECT_EQ(encode_text(value), outer_text);
    EXPECT_EQ(refusal(with(R"("note":"hi")", R"("descriptor":7)")),
              "parameters.descriptor: there is no such field");
}

TEST(Fields, WhatMayBeEmptyMayBeAbsentOrNull) {
    for (const std::string_view end : {R"("format":"raw"})", R"("format":"raw","note":null})"}) {
        const Result<Outer> value =
            decode_text<Outer>(with(R"("format":"qcow2","note":"hi"})", end));
        ASSERT_TRUE(value) << value.error().text();
        EXPECT_EQ(value->note, "");
    }
}

TEST(Fields, ErrorsNameThePlace) {
    EXPECT_EQ(refusal(with(R"("number":-7,)", "")), "parameters.number: it is missing");
    EXPECT_EQ(refusal(with(R"("flag":false)", R"("flag":null)")),
              "parameters.flag: true or false is wanted, this is null");
    EXPECT_EQ(refusal(with(R"("flag":false)", R"("flag":0)")),
              "parameters.flag: true or false is wanted, this is an integer");
    EXPECT_EQ(refusal(with("-7", "2147483648")),
              "parameters.number: 2147483648 is not between -2147483648 and 2147483647");
    EXPECT_EQ(refusal(with("-7", "18446744073709551615")),
              "parameters.number: 18446744073709551615 is not between -2147483648 and 2147483647");
    EXPECT_EQ(refusal(with("-7", "7.0")),
              "parameters.number: an integer is wanted, this is a number");
    EXPECT_EQ(refusal(with("-7", R"("7")")),
              "parameters.number: an integer is wanted, this is a text");
    EXPECT_EQ(refusal(with("255", "256")),
              "parameters.inner[0].small: 256 is not between 0 and 255");
    EXPECT_EQ(refusal(with(R"({"small":0})", R"({"small":-1})")),
              "parameters.inner[1].small: -1 is not between 0 and 255");
    EXPECT_EQ(refusal(with(R"({"small":0})", "5")),
              "parameters.inner[1]: an object is wanted, this is an integer");
    EXPECT_EQ(refusal(with("4096", "9223372036854775808")),
              "parameters.size: 9223372036854775808 is not between 0 and 9223372036854775807");
    EXPECT_EQ(refusal(with("-2", "true")),
              "parameters.counts.b: an integer is wanted, this is true or false");
    EXPECT_EQ(refusal(with(R"("qcow2")", R"("vmdk")")),
              "parameters.format: \"vmdk\" is not known here");
    EXPECT_EQ(refusal(with(R"("box")", R"("../etc")")),
              "parameters.inner[0].name: \"../etc\" is not a machine name");
    EXPECT_EQ(refusal(with(R"("note":"hi")", R"("nothing":1)")),
              "parameters.nothing: there is no such field");
    EXPECT_EQ(refusal("[]"), "parameters: an object is wanted, this is a list");
}

TEST(Fields, TheRemedyNamesTheWords) {
    const Result<DiskFormat> format = decode_text<DiskFormat>(R"("vmdk")");
    ASSERT_FALSE(format);
    EXPECT_EQ(format.error().remedy, "Use one of: raw, qcow2.");
}

TEST(Fields, AForeignNameIsShownHarmlessAndShort) {
    const std::string name = std::string("\\u001b[31m") + std::string(500, 'x');
    const std::string message = refusal(with(R"("note":"hi")", "\"" + name + "\":1"));
    EXPECT_LT(message.size(), 150U);
    EXPECT_EQ(message.find('\x1b'), message.npos);
}

TEST(Fields, ALenientReaderIgnoresWhatItDoesNotKnow) {
    const std::string text = with(R"("note":"hi")", R"("new":{"a":[1]},"note":"hi")");
    EXPECT_EQ(refusal(text, Unknown::ignored), "accepted");
    // But not a wrong type of what it does.
    EXPECT_THAT(refusal(with("-7", "null"), Unknown::ignored), HasSubstr("an integer is wanted"));
}

TEST(Fields, TheWrongOrderIsFound) {
    const Result<Swapped> value = decode_text<Swapped>(R"({"first":"1","second":"2"})");
    ASSERT_FALSE(value);
    EXPECT_EQ(value.error().code, Errc::internal);
}

TEST(Fields, AMissingMemberDoesNotCompile) {
    static_assert(detail::has_members<Outer, 11>);
    static_assert(!detail::has_members<Outer, 10>);
    static_assert(!detail::has_members<Outer, 12>);
    static_assert(detail::has_members<MachineSpec, 10>);
}

TEST(Fields, AVariantHasOneMember) {
    const auto refused = [](std::string_view text) {
        const Result<Resolution> value = decode_text<Resolution>(text);
        return value ? "accepted" : value.error().message;
    };
    EXPECT_EQ(refused("{}"), "value: exactly one member is wanted");
    EXPECT_EQ(refused(R"({"manifest":{},"redirect":{}})"), "value: exactly one member is wanted");
    EXPECT_EQ(refused(R"({"other":{}})"), "value.other: there is no such field");
    EXPECT_EQ(refused(R"({"redirect":{}})"), "value.redirect.reference: it is missing");
}

TEST(Fields, ShapesTellTheTypes) {
    const Shape shape = shape_of<Outer>();
    EXPECT_EQ(shape.kind, Shape::Kind::record);
    EXPECT_THAT(shape.words, ElementsAre("vm", "flag", "number", "ratio", "size", "pause_ms",
                                         "inner", "counts", "format", "note"));
    EXPECT_EQ(shape.inner.at(6).kind, Shape::Kind::list);
    EXPECT_EQ(shape.inner.at(7).kind, Shape::Kind::map);
    EXPECT_THAT(shape.inner.at(8).words, ElementsAre("raw", "qcow2"));
    EXPECT_EQ(shape.inner.at(9).kind, Shape::Kind::maybe);
}

}  // namespace

}  // namespace banger::rpc
