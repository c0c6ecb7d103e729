// thrower.cpp - a grid that throws what its config says, for tests/abi/rust.rs.
#include "diffx_plugin.hpp"
#include <cstring>
#include <utility>

namespace {

class thrower {
public:
    thrower(const dfx_host *, const char *config) : config_(config) {
        if (std::strstr(config, "create")) throw std::runtime_error("thrown while creating");
    }
    void knots(uint32_t n, double lo, double hi, double *out) const {
        if (config_.find("runtime") != std::string::npos) throw std::runtime_error("thrown on purpose");
        if (config_.find("memory") != std::string::npos) throw std::bad_alloc();
        if (config_.find("choice") != std::string::npos) throw dfx::failure(DFX_E_UNSUPPORTED, "chosen");
        if (config_.find("number") != std::string::npos) throw 42;
        if (config_.find("partial") != std::string::npos) n = 0; // knot 1 is never written
        if (config_.find("upwards") != std::string::npos) std::swap(lo, hi);
        if (config_.find("offset") != std::string::npos) hi += 1.0;
        for (uint32_t i = 0; i <= n; i++) out[i] = n ? hi + (lo - hi) * i / n : hi;
    }

private:
    std::string config_;
};

const dfx_grid_api api = {sizeof(dfx_grid_api), 0, 0, 0, DFX_CALL_MEMBER(&thrower::knots), nullptr};
const dfx_factory factory = {sizeof(dfx_factory), DFX_KIND_GRID, &api, "org.test.thrower", nullptr, nullptr,
                             dfx::create<thrower>, dfx::destroy<thrower>};
const dfx_factory *const factories[] = {&factory};

} // namespace

DFX_PLUGIN(thrower) = {DFX_PLUGIN_HEADER, 1, factories, "org.test", "1.0.0", "MIT"};
