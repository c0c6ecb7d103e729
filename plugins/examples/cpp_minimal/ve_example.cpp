// ve_example.cpp - the plugin of c_minimal in C++11: the process x -> w = scale x, perturbed by Gaussian noise
// ("variance exploding"). c++ -std=c++11 -shared -fPIC -I include ve_example.cpp -o libve_example.so
#include "diffx_plugin.hpp"
#include <cmath>
#include <cstdio>

namespace {

class ve {
public:
    ve(const dfx_host *host, const char *config) : e_(host->graph), scale_(1.0) {
        int end = 0;
        if (std::sscanf(config, " { \"scale\" : %lf } %n", &scale_, &end) < 1) std::sscanf(config, " { } %n", &end);
        if (end == 0 || config[end] != 0 || !(scale_ > 0.0))
            throw dfx::failure(DFX_E_FORMAT, "config: want {\"scale\": a number above 0}");
    }

    void info(const dfx_stats *stats, dfx_process_info *out) const {
        if (!(stats->w_var > 0.0)) throw dfx::failure(DFX_E_INVALID, "the data has no variance");
        out->space = DFX_SPACE_CONTINUOUS;
        out->flags = DFX_PROCESS_IS_ADDITIVE;
        out->sigma_min = 0.002 * std::sqrt(stats->w_var);
        out->sigma_max = 80.0 * std::sqrt(stats->w_var);
    }

    void encode(dfx_graph *g, dfx_process_io *io) const { io->out[0] = in(g, io, 0) * scale_; }

    void decode(dfx_graph *g, dfx_process_io *io) const { io->out[0] = in(g, io, 0) / scale_; }

    void perturb(dfx_graph *g, dfx_process_io *io) const {
        dfx::node w0 = in(g, io, 0), sigma = in(g, io, 1);
        io->out[0] = w0 + sigma * w0.normal_like(io->purpose);
        io->out[1] = w0;
    }

    void prior(dfx_graph *g, dfx_process_io *io) const {
        dfx::node xi(e_, g, dfx_normal(e_, g, &io->component->desc, io->purpose));
        io->out[0] = in(g, io, 0) * xi;
    }

    // EDM: c_skip = v / (s^2 + v), c_out = s sqrt(v) / sqrt(s^2 + v), c_in = 1 / sqrt(s^2 + v), c_noise = ln(s) / 4
    void precond(dfx_graph *g, dfx_process_io *io) const {
        const double v = io->stats->w_var;
        dfx::node s = in(g, io, 0), total = s.square() + v, c_in = total.rsqrt();
        io->out[1] = s * std::sqrt(v) * c_in;
        io->out[0] = v / total;
        io->out[2] = c_in;
        io->out[3] = s.log() * 0.25;
        io->out[4] = total / (s.square() * v);
    }

    void renoise(dfx_graph *g, dfx_process_io *io) const {
        dfx::node w = in(g, io, 0), hat = in(g, io, 2).square(), now = in(g, io, 1).square();
        dfx::node spread = (hat - now).sqrt(), xi = w.normal_like(io->purpose);
        io->out[0] = w + spread * xi;
    }

    void ancestral(dfx_graph *g, dfx_process_io *io) const {
        dfx::node mu = in(g, io, 0), spread = in(g, io, 1).sqrt(), xi = mu.normal_like(io->purpose);
        io->out[0] = mu + spread * xi;
    }

    void to_score(dfx_graph *g, dfx_process_io *io) const {
        dfx::node away = in(g, io, 1) - in(g, io, 0);
        io->out[0] = away / in(g, io, 2).square();
    }

private:
    dfx::node in(dfx_graph *g, const dfx_process_io *io, int i) const { return dfx::node(e_, g, io->in[i]); }

    const dfx_graph_api *e_;
    double scale_;
};

const dfx_process_api api = {
    sizeof(dfx_process_api),         0,
    DFX_CALL_MEMBER(&ve::info),      nullptr,
    DFX_CALL_MEMBER(&ve::encode),    DFX_CALL_MEMBER(&ve::decode),
    DFX_CALL_MEMBER(&ve::perturb),   DFX_CALL_MEMBER(&ve::prior),
    DFX_CALL_MEMBER(&ve::precond),   DFX_CALL_MEMBER(&ve::renoise),
    DFX_CALL_MEMBER(&ve::ancestral), DFX_CALL_MEMBER(&ve::to_score),
    nullptr, nullptr, nullptr, nullptr, nullptr};
const dfx_factory factory = {sizeof(dfx_factory), DFX_KIND_PROCESS, &api, "org.example.ve",
                             "Gaussian noise on scaled data", nullptr, dfx::create<ve>, dfx::destroy<ve>};
const dfx_factory *const factories[] = {&factory};

} // namespace

DFX_PLUGIN(ve_example) = {DFX_PLUGIN_HEADER, 1, factories, "org.example", "1.0.0", "MIT"};
