#include "core/rpc/idl.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/rpc/server.hpp"
#include "varlink/org.varlink.service.hpp"

namespace banger::rpc {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {
struct Pair {
    std::int64_t number = 0;
    std::optional<std::string> text;
};
}  // namespace

template <>
struct Fields<Pair> {
    static constexpr auto list = fields(field("number", &Pair::number), field("text", &Pair::text));
};

namespace {

std::string refusal(std::string_view text) {
    const Result<Idl> idl = Idl::parse(text);
    if (idl) return "accepted";
    EXPECT_EQ(idl.error().code, Errc::corrupt);
    return idl.error().message;
}

TEST(Idl, ReadsEveryForm) {
    const Result<Idl> idl = Idl::parse(R"(
# A comment.
interface org.ex-ample.x1

type Empty ()
type Colour (red, dark_green)
type Point (x: float, y: ?int, tags: []string, map: [string]bool, any: object,
            inner: ?[](a: Colour, b: (one, two)))  # at the end of a line

method Move(to: Point)->(from:?Point)
error Lost (where: string))");
    ASSERT_TRUE(idl) << idl.error().text();
    EXPECT_EQ(idl->name, "org.ex-ample.x1");
    ASSERT_EQ(idl->types.size(), 3U);
    EXPECT_THAT(idl->types[1].second.words, ElementsAre("red", "dark_green"));
    const Shape& point = idl->types[2].second;
    EXPECT_THAT(point.words, ElementsAre("x", "y", "tags", "map", "any", "inner"));
    EXPECT_EQ(point.inner[5].inner[0].inner[0].inner[0].name, "Colour");
    EXPECT_EQ(idl->resolve(point.inner[5].inner[0].inner[0].inner[0]).kind, Shape::Kind::words);
    ASSERT_NE(idl->find_method("Move"), nullptr);
    EXPECT_EQ(idl->find_method("move"), nullptr);
    EXPECT_EQ(idl->errors.size(), 1U);
}

TEST(Idl, ReadsTheStandardInterface) {
    const Result<Idl> idl = Idl::parse(varlink::org_varlink_service);
    ASSERT_TRUE(idl) << idl.error().text();
    EXPECT_EQ(idl->methods.size(), 2U);
}

TEST(Idl, RefusesWithTheLine) {
    EXPECT_EQ(refusal(""), "line 1 of a .varlink text: \"interface\" is wanted here");
    EXPECT_THAT(refusal("interface a"), HasSubstr("not the name of an interface"));
    EXPECT_THAT(refusal("interface a..b"), HasSubstr("not the name of an interface"));
    EXPECT_THAT(refusal("interface a.b-"), HasSubstr("not the name of an interface"));
    EXPECT_THAT(refusal("interface 1.b"), HasSubstr("not the name of an interface"));
    const auto with = [](std::string_view member) {
        return refusal("interface a.b\n" + std::string(member));
    };
    EXPECT_EQ(with("nonsense"), "line 2 of a .varlink text: type, method or error is wanted here");
    EXPECT_THAT(with("type lower ()"), HasSubstr("\"lower\" is not a name for a type"));
    EXPECT_THAT(with("type A (a: int)\ntype A (b: int)"), HasSubstr("line 3"));
    EXPECT_THAT(with("type A (a: int)\nmethod A() -> ()"), HasSubstr("used twice"));
    EXPECT_THAT(with("type A (a: int, a: int)"), HasSubstr("there twice"));
    EXPECT_THAT(with("type A (a: int, b)"), HasSubstr("mixed"));
    EXPECT_THAT(with("type A (a, b: int)"), HasSubstr("mixed"));
    EXPECT_THAT(with("type A (a: int"), HasSubstr("\")\" is wanted"));
    EXPECT_THAT(with("type A (a: int,)"), HasSubstr("is not a name for a field"));
    EXPECT_THAT(with("type A (a_: int)"), HasSubstr("is not a name for a field"));
    EXPECT_THAT(with("type A (a__b: int)"), HasSubstr("is not a name for a field"));
    EXPECT_THAT(with("type A (a: integer)"), HasSubstr("\"integer\" is not a type"));
    EXPECT_THAT(with("type A (a: ??int)"), HasSubstr("one ?"));
    EXPECT_THAT(with("type A (a: [int]int)"), HasSubstr("only [string]"));
    EXPECT_THAT(with("type A (a: B)"), HasSubstr("no type \"B\""));
    EXPECT_THAT(with("method M() -> (one, two)"), HasSubstr("fields are wanted"));
    EXPECT_THAT(with("method M(one) -> ()"), HasSubstr("fields are wanted"));
    EXPECT_THAT(with("method M()"), HasSubstr("\"->\" is wanted"));
    EXPECT_THAT(with("error E (one)"), HasSubstr("fields are wanted"));
    EXPECT_THAT(with(std::string_view("type A ()\0", 10)), HasSubstr("is wanted here"));
}

TEST(Idl, DepthAndSizeAreBounded) {
    std::string deep = "interface a.b\ntype A (a: ";
    for (int i = 0; i < 100'000; ++i)
        deep += "[]";
    EXPECT_THAT(refusal(deep), HasSubstr("nested too deep"));
    std::string braces = "interface a.b\ntype A ";
    for (int i = 0; i < 20'000; ++i)
        braces += "(a: ";
    EXPECT_THAT(refusal(braces), HasSubstr("nested too deep"));
    EXPECT_THAT(refusal(std::string(300 << 10, '#')), HasSubstr("too long"));
}

// ---- the comparison ----

std::vector<std::string> differences(const std::string& members) {
    Interface interface("a.b", "interface a.b\n" + members);
    interface.method<Pair, Nothing>("M", [](const Pair&) -> Result<Nothing> { return Nothing{}; });
    return disagreements(interface);
}

constexpr const char* failed = "\nerror Failed (code: string, message: string, remedy: string)";

TEST(Disagreements, NoneWhenTheyAgree) {
    EXPECT_THAT(differences(std::string("method M(number: int, text: ?string) -> ()") + failed),
                IsEmpty());
}

TEST(Disagreements, EachIsNamed) {
    const auto of = [](const std::string& method) { return differences(method + failed); };
    EXPECT_THAT(of("method M(number: string, text: ?string) -> ()"),
                ElementsAre("M(in).number is string in the text and int in the code"));
    EXPECT_THAT(of("method M(number: int, text: string) -> ()"),
                ElementsAre("M(in).text is string in the text and a ? in the code"));
    EXPECT_THAT(of("method M(number: int, text: ?int) -> ()"),
                ElementsAre("M(in).text is int in the text and string in the code"));
    EXPECT_THAT(of("method M(number: int) -> ()"),
                ElementsAre("M(in) has (number) in the text and (number, text) in the code"));
    EXPECT_THAT(of("method M(number: int, text: ?string) -> (a: int)"),
                ElementsAre("M(out) has (a) in the text and () in the code"));
    EXPECT_THAT(of("method N() -> ()"), ElementsAre("M is not in the text", "N has no handler"));
    EXPECT_THAT(differences("method M(number: int, text: ?string) -> ()"),
                ElementsAre("error Failed is not in the text"));
    EXPECT_THAT(differences("method"), ElementsAre(HasSubstr("line 2")));
}

}  // namespace

}  // namespace banger::rpc
