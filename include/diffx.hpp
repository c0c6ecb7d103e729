/*
 * diffx.hpp - embed a diffusion engine from C++17. Header only, over diffx.h.
 *
 *     diffx::engine engine(diffx::engine_options{});
 *     diffx::model model(engine, "vix");
 *     diffx::pipeline pipeline(model, "{\"sampler\": \"heun\"}");
 *     diffx::job_options options;
 *     options.seed = 7;
 *     options.n_samples = 1000;
 *     diffx::job job = pipeline.start(options);
 *     job.wait();
 *     diffx::tensor x = job.result();
 *     for (float v : x.map<float>()) use(v);
 *
 * Handles    move only, release themselves, in any order; get() is the C pointer, so
 *            everything of diffx.h can be called beside this. Empty until assigned,
 *            after a move, and after a failure that did not throw. A tensor is shared
 *            by share().
 * Errors     a function that can fail ends in a report: left away, it throws
 *            diffx::error (status and message); given a diffx::fault, it fills that,
 *            returns an empty handle, 0 or false, and throws nothing. Compiled with
 *            -fno-exceptions the first form does not exist and a call without a fault
 *            does not compile. There is no third way: nothing here aborts.
 * Constness  as in diffx.h: a const member function may be called from many threads at
 *            once, another needs one caller at a time.
 * Callbacks  are plain functions in the options, as in diffx.h; job::wait takes any
 *            callable, which runs on this thread. It may throw: it is ours, not C's.
 * Memory     nothing here allocates. Text is a view of what the object holds.
 * Options    the structs of diffx.h with their defaults set; every field is theirs.
 */
#ifndef DIFFX_HPP
#define DIFFX_HPP

#include "diffx.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>
#include <utility>

#if !defined(DIFFX_EXCEPTIONS)
#  if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#    define DIFFX_EXCEPTIONS 1
#  else
#    define DIFFX_EXCEPTIONS 0
#  endif
#endif
#if DIFFX_EXCEPTIONS
#  include <exception>
#  define DIFFX_REPORT ::diffx::report to = ::diffx::report()
#else
#  define DIFFX_REPORT ::diffx::report to
#endif

namespace diffx {

/* ------------------------------------------------------------------ errors */

/* What went wrong, if anything did. */
struct fault : dfx_error {
    fault() noexcept : dfx_error() { struct_size = static_cast<uint32_t>(sizeof(dfx_error)); }
    explicit operator bool() const noexcept { return status != DFX_OK; }
    std::string_view text() const noexcept { return message; }
};

#if DIFFX_EXCEPTIONS
class error : public std::exception {
public:
    error(dfx_status status, const fault &what) noexcept : fault_(what) { fault_.status = status; }
    dfx_status status() const noexcept { return fault_.status; }
    /* 0: the engine; else the number of the plugin at fault. */
    uint32_t source() const noexcept { return fault_.source; }
    const char *name() const noexcept { return dfx_status_name(fault_.status); }
    const char *what() const noexcept override { return fault_.message; }

private:
    fault fault_;
};
#endif

/* Where a failure goes: into the fault it was made from, or out as an exception. */
class report {
public:
    report(fault &to) noexcept : to_(&to) { to = fault(); }
#if DIFFX_EXCEPTIONS
    report() noexcept : to_(&own_) {}
#endif
    report(const report &) = delete;
    report &operator=(const report &) = delete;

    dfx_error *place() noexcept { return to_; }

    /* Whether it went well; throws if it did not and nobody gave a fault. */
    bool operator()(dfx_status status) {
        if (status == DFX_OK) return true;
        to_->status = status;
#if DIFFX_EXCEPTIONS
        if (to_ == &own_) throw error(status, own_);
#endif
        return false;
    }

    /* A failure of this side. */
    bool refuse(dfx_status status, std::string_view why) {
        std::size_t n = why.size() < sizeof to_->message - 1 ? why.size() : sizeof to_->message - 1;
        why.copy(to_->message, n);
        to_->message[n] = 0;
        to_->message_len = static_cast<uint32_t>(n);
        return (*this)(status);
    }

private:
    fault *to_;
#if DIFFX_EXCEPTIONS
    fault own_;
#endif
};

/* ------------------------------------------------------------------- views */

template <class T> struct element;
template <> struct element<float> { static constexpr dfx_dtype code = DFX_F32; };
template <> struct element<double> { static constexpr dfx_dtype code = DFX_F64; };
template <> struct element<int32_t> { static constexpr dfx_dtype code = DFX_I32; };
template <> struct element<int64_t> { static constexpr dfx_dtype code = DFX_I64; };
template <> struct element<uint8_t> { static constexpr dfx_dtype code = DFX_U8; };
template <> struct element<bool> { static constexpr dfx_dtype code = DFX_BOOL; };
/* Halves, as their bits. */
struct f16 { uint16_t bits; };
struct bf16 { uint16_t bits; };
template <> struct element<f16> { static constexpr dfx_dtype code = DFX_F16; };
template <> struct element<bf16> { static constexpr dfx_dtype code = DFX_BF16; };

/* A dfx_desc; rank 0 is one number. */
inline dfx_desc desc(dfx_dtype dtype, std::initializer_list<int64_t> dims) noexcept {
    dfx_desc d = {};
    d.dtype = dtype;
    for (int64_t n : dims) {
        if (d.rank < DFX_MAX_RANK) d.dims[d.rank] = n;
        d.rank++; /* past the limit: refused where it is used */
    }
    return d;
}

/* Elements that somebody else holds, row-major, with their shape. In C++20 it converts to std::span<const T>. */
template <class T> class view {
public:
    using value_type = T;
    view() noexcept = default;
    view(const T *data, std::size_t size, const dfx_desc &desc) noexcept : data_(data), size_(size), desc_(desc) {}

    const T *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    const T *begin() const noexcept { return data_; }
    const T *end() const noexcept { return data_ + size_; }
    const T &operator[](std::size_t i) const noexcept { return data_[i]; }

    uint32_t rank() const noexcept { return desc_.rank; }
    std::size_t dim(uint32_t axis) const noexcept {
        return axis < desc_.rank ? static_cast<std::size_t>(desc_.dims[axis]) : 1;
    }
    /* The i-th entry along the first axis. */
    view row(std::size_t i) const noexcept {
        if (desc_.rank == 0 || i >= dim(0)) return view();
        dfx_desc d = {};
        d.dtype = desc_.dtype;
        d.rank = desc_.rank - 1;
        for (uint32_t k = 0; k < d.rank; k++) d.dims[k] = desc_.dims[k + 1];
        const std::size_t n = size_ / dim(0);
        return view(data_ + i * n, n, d);
    }

private:
    const T *data_ = nullptr;
    std::size_t size_ = 0;
    dfx_desc desc_ = {};
};

/* ----------------------------------------------------------------- handles */

namespace detail {

inline void release(dfx_engine *p) noexcept { dfx_engine_release(p); }
inline void release(dfx_model *p) noexcept { dfx_model_release(p); }
inline void release(dfx_pipeline *p) noexcept { dfx_pipeline_release(p); }
inline void release(dfx_job *p) noexcept { dfx_job_release(p); }
inline void release(dfx_tensor *p) noexcept { dfx_tensor_release(p); }
inline void release(dfx_trainer *p) noexcept { dfx_trainer_release(p); }
inline void release(dfx_tuner *p) noexcept { dfx_tuner_release(p); }

template <class C> class handle {
public:
    handle() noexcept = default;
    /* Takes over a handle of diffx.h. */
    explicit handle(C *p) noexcept : p_(p) {}
    handle(handle &&from) noexcept : p_(from.detach()) {}
    handle &operator=(handle &&from) noexcept {
        if (this != &from) reset(from.detach());
        return *this;
    }
    ~handle() { reset(); }

    C *get() const noexcept { return p_; }
    explicit operator bool() const noexcept { return p_ != nullptr; }
    /* Releases what it holds now. */
    void reset(C *p = nullptr) noexcept {
        C *old = p_;
        p_ = p;
        if (old != nullptr) release(old);
    }
    /* Gives it away: the caller releases it. */
    C *detach() noexcept { return std::exchange(p_, nullptr); }

protected:
    C *p_ = nullptr;
};

/* A struct of diffx.h that begins with its size. */
template <class S> struct sized : S {
    sized() noexcept : S() { this->struct_size = static_cast<uint32_t>(sizeof(S)); }
};

} /* namespace detail */

class tensor;
class job;

struct engine_options : detail::sized<dfx_engine_options> {};
using progress = detail::sized<dfx_progress>;
using training = detail::sized<dfx_training>;

/* Named tensors: what a job, an evaluation, a score or a trainer takes. Made by named(); alive until the call is over. */
template <std::size_t N> struct named_tensors {
    std::array<const char *, N> names;
    std::array<const dfx_tensor *, N> tensors;
};

#define DIFFX_WITH(count, list, values)                                         \
    template <std::size_t N> auto &with(const named_tensors<N> &in) noexcept {  \
        this->count = static_cast<uint32_t>(N);                                 \
        this->list = in.names.data();                                           \
        this->values = in.tensors.data();                                       \
        return *this;                                                           \
    }
struct job_options : detail::sized<dfx_job_options> { DIFFX_WITH(n_inputs, input_names, inputs) };
struct eval_options : detail::sized<dfx_eval_options> { DIFFX_WITH(n_inputs, input_names, inputs) };
struct score_options : detail::sized<dfx_score_options> { DIFFX_WITH(n_inputs, input_names, inputs) };
struct trainer_options : detail::sized<dfx_trainer_options> { DIFFX_WITH(n_tables, table_names, tables) };
struct rollout_options : detail::sized<dfx_rollout_options> { DIFFX_WITH(n_inputs, input_names, inputs) };
struct reward : detail::sized<dfx_reward> { DIFFX_WITH(n_grads, grad_names, grads) };
struct simulate_options : detail::sized<dfx_simulate_options> {};
#undef DIFFX_WITH

/* ------------------------------------------------------------------ engine */

class engine : public detail::handle<dfx_engine> {
public:
    using handle::handle;
    explicit engine(const engine_options &options, DIFFX_REPORT) {
        to(dfx_engine_create(&options, &p_, to.place()));
    }

    /* How many jobs are unfinished after about so many microseconds of work on them; a negative status. */
    int32_t pump(uint32_t budget_us) const noexcept { return dfx_engine_pump(p_, budget_us); }

    struct memory_use {
        uint64_t used, peak;
    };
    memory_use memory(DIFFX_REPORT) const {
        memory_use m = {0, 0};
        to(dfx_engine_memory(p_, &m.used, &m.peak, to.place()));
        return m;
    }

    bool register_plugin(const dfx_plugin &plugin, DIFFX_REPORT) { return to(dfx_plugin_register(p_, &plugin, to.place())); }
    bool load_plugin(const char *path, const char *sha256, DIFFX_REPORT) {
        return to(dfx_plugin_load(p_, path, sha256, to.place()));
    }

    uint32_t factory_count() const noexcept { return dfx_factory_count(p_); }
    std::string_view factory_json(uint32_t i, DIFFX_REPORT) const {
        const char *json = "";
        to(dfx_factory_json(p_, i, &json, to.place()));
        return json;
    }

    tensor simulate(const simulate_options &options, DIFFX_REPORT) const;
};

/* ----------------------------------------------------------------- tensors */

class tensor : public detail::handle<dfx_tensor> {
public:
    using handle::handle;
    /* A copy of data; zeros if it is null. */
    tensor(const engine &e, const dfx_desc &d, const void *data, DIFFX_REPORT) {
        to(dfx_tensor_create(e.get(), &d, data, &p_, to.place()));
    }
    /* A copy of as many elements as the shape says. */
    template <class T> static tensor copy(const engine &e, std::initializer_list<int64_t> dims, const T *data, DIFFX_REPORT) {
        tensor t;
        const dfx_desc d = desc(element<T>::code, dims);
        to(dfx_tensor_create(e.get(), &d, data, &t.p_, to.place()));
        return t;
    }
    template <class T> static tensor number(const engine &e, T value, DIFFX_REPORT) {
        tensor t;
        const dfx_desc d = desc(element<T>::code, {});
        to(dfx_tensor_create(e.get(), &d, &value, &t.p_, to.place()));
        return t;
    }
    /* Your memory, unchanged and alive until free_fn is called, on any thread. */
    template <class T>
    static tensor wrap(const engine &e, std::initializer_list<int64_t> dims, T *data, dfx_free_fn free_fn, void *user,
                       DIFFX_REPORT) {
        tensor t;
        const dfx_desc d = desc(element<std::remove_const_t<T>>::code, dims);
        void *p = const_cast<std::remove_const_t<T> *>(data);
        to(dfx_tensor_wrap(e.get(), &d, p, free_fn, user, &t.p_, to.place()));
        return t;
    }
    static tensor from_dlpack(const engine &e, DLManagedTensorVersioned *source, void *stream, DIFFX_REPORT) {
        tensor t;
        to(dfx_tensor_from_dlpack(e.get(), source, stream, &t.p_, to.place()));
        return t;
    }
    DLManagedTensorVersioned *to_dlpack(void *stream, DIFFX_REPORT) const {
        DLManagedTensorVersioned *out = nullptr;
        to(dfx_tensor_to_dlpack(p_, stream, &out, to.place()));
        return out;
    }

    /* Another handle of the same elements. */
    tensor share() const noexcept {
        dfx_tensor_retain(p_);
        return tensor(p_);
    }

    dfx_desc shape(DIFFX_REPORT) const {
        dfx_desc d = {};
        to(dfx_tensor_desc(p_, &d, to.place()));
        return d;
    }

    /* The elements, while this handle or another of the tensor lives; T must be their type. */
    template <class T> view<T> map(DIFFX_REPORT) const {
        const void *data = nullptr;
        std::size_t bytes = 0;
        dfx_desc d = {};
        if (!to(dfx_tensor_desc(p_, &d, to.place()))) return view<T>();
        if (d.dtype != element<T>::code) {
            to.refuse(DFX_E_INVALID, "tensor::map: the elements are of another type");
            return view<T>();
        }
        if (!to(dfx_tensor_map(p_, &data, &bytes, to.place()))) return view<T>();
        return view<T>(static_cast<const T *>(data), bytes / sizeof(T), d);
    }
};

struct named_tensor {
    const char *name;
    const tensor &value;
};
/* options.with(named({{"x", x}, {"history", h}})) */
template <std::size_t N> named_tensors<N> named(const named_tensor (&list)[N]) noexcept {
    named_tensors<N> out;
    for (std::size_t i = 0; i < N; i++) {
        out.names[i] = list[i].name;
        out.tensors[i] = list[i].value.get();
    }
    return out;
}

inline tensor engine::simulate(const simulate_options &options, report to) const {
    dfx_tensor *t = nullptr;
    to(dfx_simulate(p_, &options, &t, to.place()));
    return tensor(t);
}

/* -------------------------------------------------------------------- jobs */

inline constexpr uint64_t forever = ~uint64_t{0};

class job : public detail::handle<dfx_job> {
public:
    using handle::handle;

    progress poll(DIFFX_REPORT) {
        progress at;
        to(dfx_job_poll(p_, &at, to.place()));
        return at;
    }

    /* True when done; false when the time was up first. A job that failed or was cancelled is a failure. */
    bool wait(uint64_t timeout_ns, DIFFX_REPORT) {
        for (;;) {
            const dfx_status status = dfx_job_wait(p_, timeout_ns, to.place());
            if (status != DFX_E_STATE) return to(status);
            progress at;
            if (!to(dfx_job_poll(p_, &at, to.place()))) return false;
            if (at.state == DFX_JOB_QUEUED || at.state == DFX_JOB_RUNNING) return false;
            timeout_ns = 0; /* it ended in between: ask again how */
        }
    }
#if DIFFX_EXCEPTIONS
    void wait() { wait(forever); }
#endif

    /* Waits, and calls told(const dfx_progress &) on this thread every so often; it returns whether to go on. */
    template <class F, class = decltype(static_cast<bool>(std::declval<F &>()(std::declval<const dfx_progress &>())))>
    bool wait(F &&told, uint64_t every_ns, DIFFX_REPORT) {
        for (;;) {
            fault now;
            const bool done = wait(every_ns, now);
            if (now && now.status != DFX_E_STATE) {
                *to.place() = now;
                return to(now.status);
            }
            progress at;
            if (!to(dfx_job_poll(p_, &at, to.place()))) return false;
            if (!told(static_cast<const dfx_progress &>(at))) cancel();
            if (done) return true;
        }
    }

    void cancel() const noexcept { dfx_job_cancel(p_); }

    tensor preview(const char *name, DIFFX_REPORT) const {
        dfx_tensor *t = nullptr;
        to(dfx_job_preview(p_, name, &t, to.place()));
        return tensor(t);
    }
    /* The same, and which samples it shows. */
    tensor preview(const char *name, dfx_preview &what, DIFFX_REPORT) const {
        dfx_tensor *t = nullptr;
        what = detail::sized<dfx_preview>();
        to(dfx_job_preview_at(p_, name, &what, &t, to.place()));
        return tensor(t);
    }
    bool save(const char *path, DIFFX_REPORT) const { return to(dfx_job_save(p_, path, to.place())); }

    /* By name; null is the first component. */
    tensor result(const char *name, DIFFX_REPORT) {
        dfx_tensor *t = nullptr;
        to(dfx_job_result(p_, name, &t, to.place()));
        return tensor(t);
    }
#if DIFFX_EXCEPTIONS
    tensor result() { return result(nullptr); }
#endif
};

/* ------------------------------------------------------- models, pipelines */

class model : public detail::handle<dfx_model> {
public:
    using handle::handle;
    /* A file, or the name of a carried model. */
    model(engine &e, const char *path, DIFFX_REPORT) { to(dfx_model_open(e.get(), path, nullptr, &p_, to.place())); }
    model(engine &e, const char *path, const char *config_json, DIFFX_REPORT) {
        to(dfx_model_open(e.get(), path, config_json, &p_, to.place()));
    }

    std::string_view json(DIFFX_REPORT) const {
        const char *text = "";
        to(dfx_model_json(p_, &text, to.place()));
        return text;
    }
};

class pipeline : public detail::handle<dfx_pipeline> {
public:
    using handle::handle;
    /* What the model's file says. */
    explicit pipeline(const model &m, DIFFX_REPORT) { to(dfx_pipeline_create(m.get(), nullptr, &p_, to.place())); }
    pipeline(const model &m, const char *config_json, DIFFX_REPORT) {
        to(dfx_pipeline_create(m.get(), config_json, &p_, to.place()));
    }

    bool save(const char *path, DIFFX_REPORT) const { return to(dfx_pipeline_save(p_, path, to.place())); }

    /* Bytes a job with these options will take. */
    uint64_t plan(const job_options &options, DIFFX_REPORT) const {
        uint64_t bytes = 0;
        to(dfx_pipeline_plan(p_, &options, &bytes, to.place()));
        return bytes;
    }
    std::string_view pilot(const job_options &options, DIFFX_REPORT) const {
        const char *json = "";
        to(dfx_pipeline_pilot(p_, &options, &json, to.place()));
        return json;
    }
    job start(const job_options &options, DIFFX_REPORT) const {
        dfx_job *j = nullptr;
        to(dfx_job_start(p_, &options, &j, to.place()));
        return job(j);
    }
    job resume(const char *path, DIFFX_REPORT) const {
        dfx_job *j = nullptr;
        to(dfx_job_resume(p_, path, nullptr, &j, to.place()));
        return job(j);
    }

    /* One forward: eval(options.with(named({{"x", x}, {"sigma", s}})), {"x", "grad.x"}). */
    template <std::size_t N>
    std::array<tensor, N> eval(const eval_options &options, const char *const (&outputs)[N], DIFFX_REPORT) const {
        std::array<dfx_tensor *, N> raw = {};
        eval_options o = options;
        o.n_outputs = static_cast<uint32_t>(N);
        o.output_names = outputs;
        to(dfx_pipeline_eval(p_, &o, raw.data(), to.place()));
        std::array<tensor, N> out;
        for (std::size_t i = 0; i < N; i++) out[i].reset(raw[i]);
        return out;
    }
    /* Log-likelihoods in nats, f64 [n]. */
    tensor score(const score_options &options, DIFFX_REPORT) const {
        dfx_tensor *t = nullptr;
        to(dfx_pipeline_score(p_, &options, &t, to.place()));
        return tensor(t);
    }
};

/* ---------------------------------------------------------------- training */

class trainer : public detail::handle<dfx_trainer> {
public:
    using handle::handle;
    trainer(engine &e, const char *config_json, DIFFX_REPORT) {
        to(dfx_trainer_create(e.get(), config_json, nullptr, &p_, to.place()));
    }
    trainer(engine &e, const char *config_json, const trainer_options &options, DIFFX_REPORT) {
        to(dfx_trainer_create(e.get(), config_json, &options, &p_, to.place()));
    }
    static uint64_t plan(engine &e, const char *config_json, const trainer_options &options, DIFFX_REPORT) {
        uint64_t bytes = 0;
        to(dfx_trainer_plan(e.get(), config_json, &options, &bytes, to.place()));
        return bytes;
    }

    training step(uint32_t n_steps, DIFFX_REPORT) {
        training at;
        to(dfx_trainer_step(p_, n_steps, &at, to.place()));
        return at;
    }
    /* On held-out data. */
    training measure(DIFFX_REPORT) {
        training at;
        to(dfx_trainer_measure(p_, &at, to.place()));
        return at;
    }
    uint32_t metric_count() const noexcept { return dfx_trainer_metric_count(p_); }
    std::string_view metric_name(uint32_t i, DIFFX_REPORT) const {
        const char *name = "";
        to(dfx_trainer_metric_name(p_, i, &name, to.place()));
        return name;
    }
    double metric(const char *name, DIFFX_REPORT) {
        double value = 0.0;
        to(dfx_trainer_metric(p_, name, &value, to.place()));
        return value;
    }
    bool checkpoint(const char *path, DIFFX_REPORT) { return to(dfx_trainer_checkpoint(p_, path, to.place())); }
    bool resume(const char *path, DIFFX_REPORT) { return to(dfx_trainer_resume(p_, path, to.place())); }
    bool save(const char *path, DIFFX_REPORT) { return to(dfx_trainer_save(p_, path, to.place())); }
};

/* ------------------------------------------------------ tuning by rewards
 * for (...) { t.rollout({}); tensor x = t.result("x"); ... t.give(values); t.update(0); } */

class tuner : public detail::handle<dfx_tuner> {
public:
    using handle::handle;
    tuner(const model &m, const char *config_json, DIFFX_REPORT) {
        to(dfx_tuner_create(m.get(), config_json, &p_, to.place()));
    }
    static uint64_t plan(const model &m, const char *config_json, DIFFX_REPORT) {
        uint64_t bytes = 0;
        to(dfx_tuner_plan(m.get(), config_json, &bytes, to.place()));
        return bytes;
    }

    /* Where it stands and what it wants; the text holds until this is asked again after the tuner went on. */
    std::string_view json(DIFFX_REPORT) const {
        const char *text = "";
        to(dfx_tuner_json(p_, &text, to.place()));
        return text;
    }
    bool rollout(const rollout_options &options, DIFFX_REPORT) { return to(dfx_tuner_rollout(p_, &options, to.place())); }
    tensor result(const char *name, DIFFX_REPORT) const {
        dfx_tensor *t = nullptr;
        to(dfx_tuner_result(p_, name, &t, to.place()));
        return tensor(t);
    }
    /* One number per sample, larger is better; the second form with gradients and rows that do not count. */
    bool give(const tensor &values, DIFFX_REPORT) {
        reward word;
        word.values = values.get();
        return to(dfx_tuner_reward(p_, &word, to.place()));
    }
    bool give(const reward &word, DIFFX_REPORT) { return to(dfx_tuner_reward(p_, &word, to.place())); }
    /* 0: to the end of the round. */
    training update(uint32_t n_updates, DIFFX_REPORT) {
        training at;
        to(dfx_tuner_update(p_, n_updates, &at, to.place()));
        return at;
    }
    uint32_t metric_count() const noexcept { return dfx_tuner_metric_count(p_); }
    std::string_view metric_name(uint32_t i, DIFFX_REPORT) const {
        const char *name = "";
        to(dfx_tuner_metric_name(p_, i, &name, to.place()));
        return name;
    }
    double metric(const char *name, DIFFX_REPORT) {
        double value = 0.0;
        to(dfx_tuner_metric(p_, name, &value, to.place()));
        return value;
    }
    bool checkpoint(const char *path, DIFFX_REPORT) { return to(dfx_tuner_checkpoint(p_, path, to.place())); }
    bool resume(const char *path, DIFFX_REPORT) { return to(dfx_tuner_resume(p_, path, to.place())); }
    bool save(const char *path, DIFFX_REPORT) { return to(dfx_tuner_save(p_, path, to.place())); }
};

} /* namespace diffx */

#undef DIFFX_REPORT
#endif /* DIFFX_HPP */
