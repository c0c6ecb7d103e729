// linked.cpp - both C++ headers in one file: a host with plugins of its own linked in. Its Euler gives what the
// engine's gives, its bounds hold, and its objective tunes.
#include "diffx.hpp"
#include "trio.cpp"
#include <cmath>
#include <cstdio>
#include <cstring>

namespace {

// Learns more from what was judged better: mean of reward (D - target)^2 at one level.
struct weighted {
    explicit weighted(config &) {}
    void info(dfx_objective_info *out) const {
        out->records = DFX_RECORD_REWARD;
        out->n_rewards = 1;
    }
    void loss(const loss_call &b) const {
        node sigma = b.full({b.batch(), 1}, 1.0);
        auto [w0] = b.process(0, DFX_PROCESS_ENCODE, {b.of(b.io().x0[0])});
        auto [w, target] = b.process<2>(0, DFX_PROCESS_PERTURB, {w0, sigma}, DFX_PURPOSE_DATA);
        node D = b.denoised(b.denoiser_of("base"), w, sigma);
        node judged = reshape(b.of(b.io().reward), {-1, 1});
        b.io().loss = mean(judged * square(D - stop_gradient(target))).id();
    }
};
const dfx_factory learner = objective<weighted>("org.test.weighted", "a regression weighted by rewards");
const dfx_factory *const learners[] = {&learner};

} // namespace
DFX_PLUGIN(learners) = {DFX_PLUGIN_HEADER, 1, learners, "org.test", "1.0.0", "MIT"};

// Two rounds; the same rewards give the same weights, so the same metrics.
static double tuned(const diffx::engine &engine, const diffx::model &model) {
    diffx::tuner tuner(model, "{\"objective\": \"org.test.weighted\", \"rounds\": 2, \"samples\": 8, "
                              "\"rollout\": {\"steps\": 3}, \"rate\": 1e-4, \"seed\": 2}");
    double loss = 0.0;
    for (int round = 0; round < 2; round++) {
        tuner.rollout(diffx::rollout_options());
        const diffx::tensor x = tuner.result("x");
        const diffx::view<float> paths = x.map<float>();
        double rewards[8] = {};
        for (std::size_t i = 0; i < 8; i++) rewards[i] = paths.row(i)[0] > paths.row(i)[1] ? 1.0 : 0.5;
        tuner.give(diffx::tensor::copy(engine, {8}, rewards));
        loss = tuner.update(0).loss;
    }
    return loss;
}

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
    engine.register_plugin(diffx_plugin_v0_learners);
    const double loss = tuned(engine, model), again = tuned(engine, model);
    std::printf("loss of the second round %.9g, again %.9g\n", loss, again);
    if (!(loss > 0.0) || std::memcmp(&loss, &again, sizeof loss) != 0) return 1;
    return ours.size() == theirs.size() && worst < 1e-4 && most < theirs[0] ? 0 : 1;
} catch (const diffx::error &e) {
    std::fprintf(stderr, "%s: %s\n", e.name(), e.what());
    return 1;
}
