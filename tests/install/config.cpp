// config.cpp - the settings of a C++ plugin: what is read, what is refused and in which words; and that no text, cut
// anywhere, is read past its end (run where the address sanitizer is, it would say so).
#include "diffx_plugin.hpp"
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <string>

using diffx::plugin::config;

static int wrong = 0;

// Asks for everything a plugin might, and says what came of it.
static std::string asked(const std::string &json) {
    const std::unique_ptr<char[]> exact(new char[json.size() + 1]); // so that a step past the end is one past the block
    std::memcpy(exact.get(), json.c_str(), json.size() + 1);
    config c(nullptr, exact.get());
    const double x = c.number("x", 7.0), y = c.positive("y", 1.0);
    const int64_t n = c.integer("n", 3, 0, 10);
    const bool on = c.flag("on", false);
    const diffx::plugin::failure said = c.finish();
    char out[400];
    std::snprintf(out, sizeof out, "%g %g %d %d", x, y, static_cast<int>(n), static_cast<int>(on));
    return said.status() == DFX_OK ? out : said.what();
}

static void want(const char *json, const char *words) {
    const std::string said = asked(json);
    if (said.find(words) != std::string::npos) return;
    std::fprintf(stderr, "%s: %s, want %s\n", json, said.c_str(), words);
    wrong++;
}

int main() {
    const char *good = " { \"x\" : -2.5e-1 , \"y\":3,\"n\":4, \"on\" :true, \"x-note\": \"a \\\" b\" } ";
    for (const char *locale : {"C", "de_DE.UTF-8", "fr_FR.UTF-8"}) {
        std::setlocale(LC_NUMERIC, locale);
        want(good, "3 4 1");
        want("{\"x\":-0.25,\"y\":0.5}", std::localeconv()->decimal_point[0] == '.' ? "-0.25 0.5 3 0" : "-0,25 0,5 3 0");
    }
    std::setlocale(LC_NUMERIC, "C");
    want("{}", "7 1 3 0");
    want("", "want a JSON object");
    want("[1]", "want a JSON object");
    want("{\"x\":1} more", "more after");
    want("{\"x\":1,}", "want , or }");
    want("{\"x\" 1}", "\"key\": value");
    want("{x:1}", "\"key\": value");
    want("{\"x\":[1]}", "want numbers, texts");
    want("{\"x\":null}", "want numbers, texts");
    want("{\"x\":\"1\"}", "x: want a number");
    want("{\"x\":1e5e5}", "x: want a number");
    want("{\"x\":1-2}", "x: want a number");
    want(("{\"x\":0." + std::string(80, '1') + "}").c_str(), "at most 63");
    want("{\"y\":0}", "y: want a number above 0");
    want("{\"n\":11}", "n: is outside");
    want("{\"n\":2.5}", "n: want a whole number");
    want("{\"on\":1}", "on: want true or false");
    want("{\"xx\":1}", "xx: is not a setting");
    std::string many = "{\"x\":1";
    for (int i = 0; i < 70; i++) many += ",\"x-" + std::to_string(i) + "\":0";
    want((many + "}").c_str(), "more keys");
    for (std::size_t n = 0; n < std::string(good).size(); n++) asked(std::string(good).substr(0, n));
    if (wrong == 0) std::puts("ok");
    return wrong;
}
