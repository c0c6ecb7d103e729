// thrower.cpp - a grid that throws what its config says, for tests/abi/rust.rs.
#include "diffx_plugin.hpp"
#include <stdexcept>
#include <string>
#include <utility>

namespace {

using diffx::plugin::failure;

struct thrower {
    std::string config;

    explicit thrower(diffx::plugin::config &c) : config(c.json()) {
        for (const char *key : {"create", "runtime", "memory", "choice", "number", "partial", "upwards", "offset", "fine"})
            c.number(key, 0.0);
        if (asked("create")) throw std::runtime_error("thrown while creating");
    }
    bool asked(const char *word) const { return config.find(word) != std::string::npos; }

    void knots(uint32_t n, double lo, double hi, double *out) const {
        if (asked("runtime")) throw std::runtime_error("thrown on purpose");
        if (asked("memory")) throw std::bad_alloc();
        if (asked("choice")) throw failure(DFX_E_UNSUPPORTED, "chosen");
        if (asked("number")) throw 42;
        if (asked("partial")) n = 0; // knot 1 is never written
        if (asked("upwards")) std::swap(lo, hi);
        if (asked("offset")) hi += 1.0;
        for (uint32_t i = 0; i <= n; i++) out[i] = n ? hi + (lo - hi) * i / n : hi;
    }
};

const dfx_factory factory = diffx::plugin::grid<thrower>("org.test.thrower", nullptr);
const dfx_factory *const factories[] = {&factory};

} // namespace

DFX_PLUGIN(thrower) = {DFX_PLUGIN_HEADER, 1, factories, "org.test", "1.0.0", "MIT"};
