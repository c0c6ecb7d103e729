// linked.cpp - both C++ headers in one file: a host with a plugin of its own linked in. Its Euler gives what the
// engine's gives, and its bounds hold.
#include "diffx.hpp"
#include "trio.cpp"
#include <cmath>
#include <cstdio>

static diffx::tensor drawn(const diffx::model &model, const char *config) {
    diffx::pipeline pipeline(model, config);
    diffx::job_options options;
    options.seed = 11;
    options.n_samples = 16;
    diffx::job job = pipeline.start(options);
    job.wait();
    return job.result();
}

int main() try {
    diffx::engine engine(diffx::engine_options{});
    engine.register_plugin(diffx_plugin_v0_trio);
    diffx::model model(engine, "vix");
    const diffx::tensor a = drawn(model, "{\"sampler\": \"org.diffx.euler\", \"steps\": 12}");
    const diffx::tensor b = drawn(model, "{\"sampler\": \"org.example.euler\", \"steps\": 12}");
    const diffx::tensor c = drawn(model, "{\"sampler\": \"org.example.euler\", \"steps\": 12, "
                                         "\"guidance\": [\"org.example.bounds:{\\\"low\\\":0,\\\"high\\\":1e-3}\"]}");
    const diffx::view<float> ours = b.map<float>(), theirs = a.map<float>();
    double worst = 0.0;
    for (std::size_t i = 0; i < ours.size(); i++)
        worst = std::fmax(worst, std::fabs(static_cast<double>(ours[i]) / static_cast<double>(theirs[i]) - 1.0));
    float most = 0.0f;
    for (float v : c.map<float>()) most = v > most ? v : most;
    std::printf("relative difference of two Eulers %.2e, largest bounded value %g\n", worst, static_cast<double>(most));
    try {
        drawn(model, "{\"guidance\": [\"org.example.bounds:{\\\"low\\\":2}\"]}");
        return 1;
    } catch (const diffx::error &e) {
        std::puts(e.what());
        if (e.status() != DFX_E_FORMAT || e.source() == 0) return 1;
    }
    return ours.size() == theirs.size() && worst < 1e-4 && most < theirs[0] ? 0 : 1;
} catch (const diffx::error &e) {
    std::fprintf(stderr, "%s: %s\n", e.name(), e.what());
    return 1;
}
