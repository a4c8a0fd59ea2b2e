#include "core/rpc/json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace banger::rpc {
namespace {

using testing::HasSubstr;

std::string again(std::string_view text) {
    const Result<Json> json = Json::parse(text);
    return json ? json->text() : json.error().message;
}

std::string refusal(std::string_view text, const JsonLimits& limits = {}) {
    const Result<Json> json = Json::parse(text, limits);
    if (json) return "accepted";
    EXPECT_EQ(json.error().code, Errc::corrupt);
    return json.error().message;
}

TEST(Json, ValuesComeBackAsTheyWere) {
    for (const std::string_view text :
         {"null", "true", "false", "0", "-1", "9223372036854775807", "-9223372036854775808",
          "18446744073709551615", "1.5", "-0.25", "1e+300", R"("")", R"("text")", "[]", "{}",
          R"([1,[2,[]],{"a":null}])", R"({"z":1,"a":{"b":[true,"c"]}})", R"("ümläut €😀")",
          R"("\"\\\n\r\t\u0001")"})
        EXPECT_EQ(again(text), text);
}

TEST(Json, IntegersAreKeptApartFromNumbers) {
    EXPECT_NE(Json::parse("5")->if_integer(), nullptr);
    EXPECT_EQ(Json::parse("5.0")->if_integer(), nullptr);
    EXPECT_EQ(again("5.0"), "5.0");
    EXPECT_NE(Json::parse("9223372036854775808")->if_large(), nullptr);
    EXPECT_NE(Json::parse("18446744073709551616")->if_number(), nullptr);
    EXPECT_EQ(Json(std::uint64_t{7}), Json(std::int64_t{7}));
}

TEST(Json, AnObjectKeepsItsOrder) {
    EXPECT_EQ(again(R"( { "b" : 1 , "a" : 2 } )"), R"({"b":1,"a":2})");
}

TEST(Json, PrettyText) {
    EXPECT_EQ(Json::parse(R"({"a":[1,2],"b":{},"c":[],"d":{"e":null}})")->pretty_text(),
              "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {},\n  \"c\": [],\n"
              "  \"d\": {\n    \"e\": null\n  }\n}");
}

TEST(Json, WhatIsNoJsonIsRefused) {
    for (const std::string_view text :
         {"",         " ",         "{",        "[",           "}",
          "tru",      "nul",       "01",       "1.",          ".5",
          "+1",       "0x10",      "NaN",      "Infinity",    "'a'",
          "\"",       "\"\\x\"",   "\"\n\"",   "[1,]",        "[1 2]",
          R"({"a"})", R"({"a":})", R"({a:1})", R"({"a":1,})", R"({"a":1 "b":2})",
          "{} {}",    "{}x",       "// c\n1",  R"("\ud800")", R"("\udc00\ud800")"})
        EXPECT_THAT(refusal(text), HasSubstr("it is wrong at byte")) << text;
}

TEST(Json, BytesThatAreNoUtf8AreRefused) {
    for (const std::string_view text :
         {"\"\x80\"", "\"\xc0\xaf\"", "\"\xe0\x80\x80\"", "\"\xed\xa0\x80\"",
          "\"\xf5\x80\x80\x80\"", "\"\xff\"", "\"\xe2\x82\""})
        EXPECT_THAT(refusal(text), HasSubstr("it is wrong at byte"));
}

TEST(Json, ANulIsRefusedInEveryForm) {
    EXPECT_THAT(refusal(std::string_view("{}\0{}", 5)), HasSubstr("NUL"));
    EXPECT_THAT(refusal(R"("a\u0000b")"), HasSubstr("a text contains a NUL"));
    EXPECT_THAT(refusal(R"({"a\u0000b":1})"), HasSubstr("a name contains a NUL"));
}

TEST(Json, ANameTwiceIsRefused) {
    EXPECT_THAT(refusal(R"({"a":1,"b":2,"a":3})"), HasSubstr("the name \"a\" is there twice"));
    EXPECT_THAT(refusal(R"([{"x":{"a":1,"\u0061":2}}])"), HasSubstr("\"a\" is there twice"));
    EXPECT_EQ(again(R"({"a":{"a":1}})"), R"({"a":{"a":1}})");
}

TEST(Json, ANumberThatNoDoubleHoldsIsRefused) {
    EXPECT_THAT(refusal("1e999"), HasSubstr("a number out of range"));
    EXPECT_THAT(refusal("[-1e999]"), HasSubstr("a number out of range"));
}

TEST(Json, DepthIsBounded) {
    const auto nested = [](std::size_t depth) {
        return std::string(depth, '[') + std::string(depth, ']');
    };
    EXPECT_EQ(again(nested(32)), nested(32));
    EXPECT_THAT(refusal(nested(33)), HasSubstr("nested deeper than 32"));
    EXPECT_THAT(refusal(std::string(100'000, '[')), HasSubstr("nested deeper than 32"));
    std::string objects;
    for (int i = 0; i < 100'000; ++i)
        objects += R"({"a":)";
    EXPECT_THAT(refusal(objects), HasSubstr("nested deeper than 32"));
    EXPECT_THAT(refusal("[[1]]", {.depth = 1}), HasSubstr("nested deeper than 1"));
}

TEST(Json, SizeIsBounded) {
    EXPECT_EQ(refusal("[1]", {.bytes = 3}), "accepted");
    EXPECT_THAT(refusal("[1] ", {.bytes = 3}), HasSubstr("longer than 3 bytes"));
    EXPECT_THAT(refusal(std::string((1 << 20) + 1, ' ')), HasSubstr("longer than 1048576"));
}

TEST(Json, AHundredThousandNamesAreNotSlow) {
    std::string text = "{";
    for (int i = 0; i < 100'000; ++i)
        text += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":0";
    const Result<Json> json = Json::parse(text + "}", {.bytes = 4 << 20});
    ASSERT_TRUE(json);
    EXPECT_EQ(json->if_object()->size(), 100'000U);
}

TEST(Json, BytesOfOursThatAreNoUtf8AreReplaced) {
    using namespace std::string_literals;
    EXPECT_EQ(Json("a\xff"
                   "b\xe2\x82z\xed\xa0\x80"s)
                  .text(),
              "\"a\uFFFDb\uFFFD\uFFFDz\uFFFD\uFFFD\uFFFD\"");
    EXPECT_EQ(Json("a\0b"s).text(), "\"a\uFFFDb\"");
    EXPECT_TRUE(Json::parse(Json("\x80\xc0\0\xf8"s).text()));
    EXPECT_EQ(Json(std::numeric_limits<double>::infinity()).text(), "null");
    EXPECT_EQ(Json(std::nan("")).text(), "null");
}

TEST(Json, TheMessageDoesNotRepeatTheInput) {
    EXPECT_EQ(refusal("\"\x1b[31mred\""),
              "this is no JSON that can be used: it is wrong at byte 2");
}

}  // namespace
}  // namespace banger::rpc
