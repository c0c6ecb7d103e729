// Samples the carried model and prints a checksum of the bytes: the same in every language.
// c++ -std=c++17 -I include examples/hello/hello.cpp -L target/release -ldiffx -o hello
#include "diffx.hpp"
#include <cstdio>

int main() try {
    diffx::engine engine(diffx::engine_options{});
    diffx::model model(engine, "vix");
    diffx::pipeline pipeline(model);
    diffx::job_options options;
    options.seed = 1;
    options.n_samples = 16;
    diffx::job job = pipeline.start(options);
    job.wait();
    diffx::tensor x = job.result();
    const diffx::view<float> values = x.map<float>();
    const auto *bytes = reinterpret_cast<const unsigned char *>(values.data());
    uint64_t h = 0xcbf29ce484222325u;
    for (std::size_t i = 0; i < values.size() * sizeof(float); i++) h = (h ^ bytes[i]) * 0x100000001b3u;
    std::printf("%016llx\n", static_cast<unsigned long long>(h));
} catch (const diffx::error &e) {
    std::fprintf(stderr, "%s: %s\n", e.name(), e.what());
    return 1;
}
