// host.cpp - everything of diffx.hpp once: both forms of failing, moves, views, jobs, evaluation, simulation.
#include "diffx.hpp"
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#if __cplusplus >= 202002L
#  include <span>
#endif

static void require(bool ok, const char *what) {
    if (ok) return;
    std::fprintf(stderr, "failed: %s\n", what);
    std::exit(1);
}

static_assert(!std::is_copy_constructible_v<diffx::tensor> && std::is_nothrow_move_constructible_v<diffx::tensor>);
static_assert(!std::is_copy_assignable_v<diffx::job> && std::is_nothrow_move_assignable_v<diffx::job>);
static_assert(sizeof(diffx::engine) == sizeof(dfx_engine *));

static void with_faults() {
    diffx::fault err;
    diffx::engine e(diffx::engine_options{}, err);
    require(e && !err, "an engine");
    diffx::model m(e, "no-such-model", err);
    require(!m && err && err.status == DFX_E_NOT_FOUND && !err.text().empty(), "a fault and an empty handle");
    m = diffx::model(e, "vix", err);
    require(m && !err, "a good call clears the fault");
    diffx::pipeline p(m, "{\"sampler\": \"huen\"}", err);
    require(!p && err.text().find("heun") != std::string_view::npos, "the message is the engine's");
    p = diffx::pipeline(m, "{\"steps\": 4}", err);
    diffx::job j = p.start(diffx::job_options(), err);
    require(j.wait(diffx::forever, err) && !err, "waited");
    diffx::tensor x = j.result(nullptr, err);
    require(x.map<double>(err).empty() && err.status == DFX_E_INVALID, "the elements are floats");
    require(x.map<float>(err).dim(0) == 1 && !err, "one sample");
    require(!diffx::tensor().map<float>(err).size() && err, "an empty handle is refused, not followed");
    diffx::tuner t(m, "{\"objective\": \"no-such-objective\"}", err);
    require(!t && err && err.text().size() > 0, "a tuner of nothing");
    const diffx::engine::memory_use memory = e.memory(err);
    require(memory.used > 0 && memory.peak >= memory.used, "memory is counted");
}

#if DIFFX_EXCEPTIONS
static void with_exceptions() {
    diffx::engine e(diffx::engine_options{});
    try {
        diffx::model nothing(e, "no-such-model");
        require(false, "an unknown model throws");
    } catch (const diffx::error &err) {
        require(err.status() == DFX_E_NOT_FOUND && std::strlen(err.what()) > 0, "status and words");
        require(std::strcmp(err.name(), "DFX_E_NOT_FOUND") == 0, "the name of the status");
    }
    diffx::model model(e, "vix");
    require(model.json().find("\"components\"") != std::string_view::npos, "a model says what it is");
    diffx::pipeline pipeline(model, "{\"sampler\": \"heun\", \"steps\": 16}");
    diffx::job_options options;
    options.seed = 3;
    options.n_samples = 32;
    require(pipeline.plan(options) > 0, "bytes are told before");
    diffx::job job = pipeline.start(options);
    int calls = 0;
    uint64_t rows = 0;
    job.wait([&](const dfx_progress &at) {
        calls++;
        rows = at.n_steps;
        return true;
    }, 1000000);
    require(calls > 0 && rows > 0, "progress was told");
    diffx::tensor x = job.result("x");
    diffx::tensor again = x.share();
    job.reset();
    x = diffx::tensor();
    const diffx::view<float> all = again.map<float>();
    require(all.rank() >= 2 && all.dim(0) == 32 && all.size() == 32 * all.row(0).size(), "the shape");
    require(all.row(31).end() == all.end() && all.row(32).empty(), "rows");
    float least = all[0];
    for (float v : all) least = v < least ? v : least;
    require(least > 0.0f, "volatilities are positive");
#if __cplusplus >= 202002L
    std::span<const float> span = all;
    require(span.size() == all.size(), "a view is a span");
#endif

    // cancelled by what it tells
    options.n_steps = 20000;
    job = pipeline.start(options);
    try {
        job.wait([](const dfx_progress &) { return false; }, 1000000);
        require(false, "a cancelled job throws");
    } catch (const diffx::error &err) {
        require(err.status() == DFX_E_CANCELLED, "cancelled");
    }
    job = pipeline.start(options);
    require(!job.wait(1), "not over after a nanosecond");
    job.reset();

    // an evaluation with named inputs and outputs: D has the shape of x
    const float level = 0.5f;
    std::array<float, 1> sigma = {level};
    diffx::tensor s = diffx::tensor::copy(e, {1}, sigma.data());
    diffx::tensor one(e, [&] {
        dfx_desc d = again.shape();
        d.dims[0] = 1;
        return d;
    }(), all.data());
    diffx::eval_options eval;
    auto [d, grad] = pipeline.eval(eval.with(diffx::named({{"x", one}, {"sigma", s}})), {"x", "grad.x"});
    require(d.map<float>().size() == all.row(0).size() && grad.map<float>().size() == all.row(0).size(), "outputs");

    // host memory, not copied
    static const double times[] = {0.5, 1.0};
    static float start = 0.04f;
    static int freed = 0;
    diffx::tensor x0 = diffx::tensor::wrap(e, {}, &start, [](void *, void *) noexcept { freed++; }, nullptr);
    diffx::simulate_options paths;
    paths.process = "cir:{\"kappa\":1.0,\"theta\":0.04,\"sigma\":0.2}";
    paths.times = times;
    paths.n_times = 2;
    paths.x0 = x0.get();
    paths.n_samples = 500;
    const diffx::tensor path = e.simulate(paths);
    double mean = 0.0;
    for (float v : path.map<float>()) mean += static_cast<double>(v) / 1000.0;
    require(std::fabs(mean - 0.04) < 0.004, "the mean stays where it starts");
    paths.x0 = nullptr;
    x0.reset();
    require(freed == 1, "freed once");
}
#endif

int main() {
    with_faults();
#if DIFFX_EXCEPTIONS
    try {
        with_exceptions();
    } catch (const diffx::error &e) {
        std::fprintf(stderr, "%s: %s\n", e.name(), e.what());
        return 1;
    }
#endif
    std::puts("ok");
    return 0;
}
