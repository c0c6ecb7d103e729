// trio.cpp - a network, a guidance and a sampler in C++17, each as small as it can be and still be one.
// c++ -std=c++17 -shared -fPIC -fvisibility=hidden -I include trio.cpp -o libtrio.so
#include "diffx_plugin.hpp"

namespace {

using namespace diffx::plugin;

// Two layers on a vector: F(x, c_noise) = W2 silu(W1 x + u c_noise + b1) + b2, used as a residual.
struct two_layers {
    int64_t dims, width;
    dfx_component state = {};

    explicit two_layers(config &c) : dims(c.integer("dims", 1, 1, 1 << 20)), width(c.integer("width", 32, 1, 1 << 14)) {
        state.desc.rank = 1;
        state.desc.dims[0] = dims;
        state.name = "x";
    }
    void info(dfx_model_info *out) const {
        out->predicts = DFX_PREDICTS_RESIDUAL;
        out->n_components = 1;
        out->components = &state;
    }
    void build(const model_call &b) const {
        node level = reshape(b.sigma(), {-1, 1});
        node hidden = b.linear("in", b.x(), width) + b.linear("level", level, width);
        b.out(b.linear("out", silu(hidden), dims));
    }
};

// Keeps what the denoiser says between two bounds ("static thresholding").
struct bounds {
    double low, high;

    explicit bounds(config &c) : low(c.number("low", -1.0)), high(c.number("high", 1.0)) {
        if (!(low < high)) c.refuse(failure(DFX_E_FORMAT, "low must be below high"));
    }
    void info(dfx_guidance_info *out) const {
        out->stage = DFX_STAGE_RESCALE;
        out->group = 1;
        out->exact_for = -1.0;
    }
    void wrap(const wrap_call &b) const {
        if (!b.inner()) return b.fail(DFX_E_PLUGIN, "the denoiser said nothing");
        for (uint32_t e = 0; e < b.evals(); e++)
            for (uint32_t c = 0; c < b.components(); c++) b.out(e, c, min(max(b.out(e, c), low), high));
    }
};

// Euler on dw/dsigma = (w - D) / sigma: w' = D + (sigma' / sigma) (w - D). A row is the level and the ratio.
struct euler {
    explicit euler(config &) {}
    void info(dfx_sampler_info *out) const {
        out->n_coeff = 2;
        out->n_variants = 1;
    }
    failure plan(dfx_plan *p) const {
        if (p->n_components != 1) return failure(DFX_E_UNSUPPORTED, "one component");
        p->n_rows = p->n_steps;
        for (uint32_t k = 0; p->rows != nullptr && k < p->n_steps; k++) {
            p->rows[2 * k] = p->knots[k];
            p->rows[2 * k + 1] = p->knots[k + 1] / p->knots[k];
        }
        return failure();
    }
    void step(const step_call &b) const {
        node w = b.x(), level = b.of(b.io().coeff[0]), ratio = b.of(b.io().coeff[1]);
        node D = b.denoised(0, w, level);
        b.io().next[0] = (D + ratio * (w - D)).id();
        b.io().denoised[0] = D.id();
    }
};

const dfx_factory network = model<two_layers>("org.example.two-layers", "two layers on a vector",
    R"({"type":"object","properties":{"dims":{"type":"integer","minimum":1},"width":{"type":"integer","minimum":1}}})");
const dfx_factory clamp = guidance<bounds>("org.example.bounds", "keeps the denoised estimate between two bounds");
const dfx_factory steps = sampler<euler>("org.example.euler", "Euler's method");
const dfx_factory *const factories[] = {&network, &clamp, &steps};

} // namespace

DFX_PLUGIN(trio) = {DFX_PLUGIN_HEADER, 3, factories, "org.example.trio", "1.0.0", "MIT"};
