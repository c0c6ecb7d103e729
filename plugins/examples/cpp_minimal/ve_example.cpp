// ve_example.cpp - the plugin of c_minimal in C++17: the process x -> w = scale x, perturbed by Gaussian noise
// ("variance exploding"). c++ -std=c++17 -shared -fPIC -fvisibility=hidden -I include ve_example.cpp -o libve_example.so
#include "diffx_plugin.hpp"
#include <cmath>

namespace {

using namespace diffx::plugin;

struct ve {
    double scale;

    explicit ve(config &c) : scale(c.positive("scale", 1.0)) {}

    failure info(const dfx_stats *stats, dfx_process_info *out) const {
        if (!(stats->w_var > 0.0)) return failure(DFX_E_INVALID, "the data has no variance");
        out->space = DFX_SPACE_CONTINUOUS;
        out->flags = DFX_PROCESS_IS_ADDITIVE;
        out->sigma_min = 0.002 * std::sqrt(stats->w_var);
        out->sigma_max = 80.0 * std::sqrt(stats->w_var);
        return failure();
    }

    node encode(node x) const { return x * scale; }
    node decode(node w, node) const { return w / scale; }
    perturbed perturb(const moment &m, node w0, node sigma) const { return {w0 + sigma * m.normal_like(w0), w0}; }
    node prior(const moment &m, node sigma) const { return sigma * m.normal(); }
    node to_score(node w, node D, node sigma) const {
        node away = D - w;
        return away / square(sigma);
    }

    // EDM: c_skip = v / (s^2 + v), c_out = s sqrt(v) / sqrt(s^2 + v), c_in = 1 / sqrt(s^2 + v), c_noise = ln(s) / 4
    preconditioning precond(const moment &m, node s) const {
        const double v = m.stats().w_var;
        node total = square(s) + v, c_in = rsqrt(total), c_out = s * std::sqrt(v) * c_in;
        return {v / total, c_out, c_in, log(s) * 0.25, total / (square(s) * v)};
    }

    node renoise(const moment &m, node w, node sigma, node hat) const {
        node a = square(hat), b = square(sigma), spread = sqrt(a - b);
        return w + spread * m.normal_like(w);
    }
    node ancestral(const moment &m, node mu, node v) const {
        node spread = sqrt(v);
        return mu + spread * m.normal_like(mu);
    }
};

const dfx_factory factory = process<ve>("org.example.ve", "Gaussian noise on scaled data");
const dfx_factory *const factories[] = {&factory};

} // namespace

DFX_PLUGIN(ve_example) = {DFX_PLUGIN_HEADER, 1, factories, "org.example", "1.0.0", "MIT"};
