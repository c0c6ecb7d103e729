/*
 * diffx_plugin.hpp - a plugin in C++17 that reads as mathematics. Header only, over
 * diffx_plugin.h; no exception leaves a plugin.
 *
 *     struct ve {
 *         explicit ve(diffx::plugin::config &c) : scale(c.positive("scale", 1.0)) {}
 *         node encode(node x) const { return x * scale; }
 *         node decode(node w, node) const { return w / scale; }
 *         ...
 *     };
 *     const dfx_factory factory = diffx::plugin::process<ve>("org.example.ve", "Gaussian noise on scaled data");
 *
 * Types      a plugin type is made from a config; its member functions, const and by the
 *            names of the tables of diffx_plugin.h, become the entries of its table. One
 *            that is absent, private or overloaded is NULL there; a required one that is
 *            missing does not compile.
 * Nodes      have operators and the functions of the field. Randomness is numbered in the
 *            order it is drawn, and C++ evaluates operands in any order: name what draws.
 * Failing    throw or return a failure (status and words), or call build.fail. What is
 *            thrown inside a call ends as the status of that call, other exceptions too.
 *            With -fno-exceptions the rest works alike.
 * Both       this and diffx.hpp may stand in one file: a host with plugins linked in.
 */
#ifndef DIFFX_PLUGIN_HPP
#define DIFFX_PLUGIN_HPP

#ifndef DFX_HELPERS
#  define DFX_HELPERS
#endif
#include "diffx_plugin.h"

#include <array>
#include <clocale>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>
#include <type_traits>

#if !defined(DIFFX_EXCEPTIONS)
#  if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#    define DIFFX_EXCEPTIONS 1
#  else
#    define DIFFX_EXCEPTIONS 0
#  endif
#endif
#if DIFFX_EXCEPTIONS
#  include <exception>
#endif

namespace diffx::plugin {

/* ---------------------------------------------------------------- failures */

/* A status and its words; without arguments: none. To be thrown or returned. */
class failure
#if DIFFX_EXCEPTIONS
    : public std::exception
#endif
{
public:
    failure() noexcept = default;
    failure(dfx_status status, const char *words) noexcept : status_(status < 0 ? status : DFX_E_PLUGIN) {
        std::strncpy(words_, words, sizeof words_ - 1);
    }
    dfx_status status() const noexcept { return status_; }
#if DIFFX_EXCEPTIONS
    const char *what() const noexcept override { return words_; }
#else
    const char *what() const noexcept { return words_; }
#endif

private:
    dfx_status status_ = DFX_OK;
    char words_[240] = {};
};

/* Runs f, which returns nothing or a failure; what it throws becomes a status. */
template <class F> dfx_status guard(dfx_error *err, F &&f) noexcept {
    const auto run = [&]() -> dfx_status {
        if constexpr (std::is_same_v<std::decay_t<decltype(f())>, failure>) {
            const failure e = f();
            return e.status() == DFX_OK ? DFX_OK : dfx_fail(err, e.status(), e.what());
        } else {
            f();
            return DFX_OK;
        }
    };
#if DIFFX_EXCEPTIONS
    try {
        return run();
    } catch (const failure &e) {
        return dfx_fail(err, e.status() < 0 ? e.status() : DFX_E_PLUGIN, e.what());
    } catch (const std::bad_alloc &) {
        return dfx_fail(err, DFX_E_NO_MEMORY, "out of memory");
    } catch (const std::exception &e) {
        return dfx_fail(err, DFX_E_PLUGIN, e.what());
    } catch (...) {
        return dfx_fail(err, DFX_E_PLUGIN, "an exception of unknown type");
    }
#else
    return run();
#endif
}

/* ------------------------------------------------------------------- nodes */

/* A node with its graph. */
class node {
public:
    node() noexcept = default;
    node(const dfx_graph_api *e, dfx_graph *g, dfx_node id) noexcept : e_(e), g_(g), id_(id) {}

    dfx_node id() const noexcept { return id_; }
    node apply(dfx_op op) const { return made(dfx_emit1(e_, g_, op, id_)); }
    node apply(dfx_op op, node b) const { return made(dfx_emit2(e_, g_, op, id_, b.id_)); }
    node apply(dfx_op op, std::initializer_list<node> rest, std::initializer_list<dfx_attr> attr = {}) const {
        dfx_node in[66];
        uint32_t n = 0;
        in[n++] = id_;
        for (const node &b : rest)
            if (n < 66) in[n++] = b.id_;
        return made(dfx_emit(e_, g_, op, in, n, attr.begin(), static_cast<uint32_t>(attr.size())));
    }
    /* This number as a node. */
    node number(double value) const { return made(e_->scalar(g_, value)); }
    /* Type and shape; rank 0 and type 0 of a node that failed. */
    dfx_desc desc() const {
        dfx_desc d = {};
        if (e_ != nullptr) e_->describe(g_, id_, &d);
        return d;
    }

    friend node operator-(node a) { return a.apply(DFX_OP_NEG); }
    friend node operator!(node a) { return a.apply(DFX_OP_NOT); }
#define DIFFX_OPERATOR(sign, code)                                                            \
    friend node operator sign(node a, node b) { return a.apply(code, b); }                     \
    friend node operator sign(node a, double b) { return a.apply(code, a.number(b)); }         \
    friend node operator sign(double a, node b) { return b.number(a).apply(code, b); }
    DIFFX_OPERATOR(+, DFX_OP_ADD)
    DIFFX_OPERATOR(-, DFX_OP_SUB)
    DIFFX_OPERATOR(*, DFX_OP_MUL)
    DIFFX_OPERATOR(/, DFX_OP_DIV)
    DIFFX_OPERATOR(<, DFX_OP_LT)
    DIFFX_OPERATOR(<=, DFX_OP_LE)
    DIFFX_OPERATOR(>, DFX_OP_GT)
    DIFFX_OPERATOR(>=, DFX_OP_GE)
#undef DIFFX_OPERATOR

private:
    node made(dfx_node id) const noexcept { return node(e_, g_, id); }

    const dfx_graph_api *e_ = nullptr;
    dfx_graph *g_ = nullptr;
    dfx_node id_ = 0;
};

#define DIFFX_FUNCTION(name, code) \
    inline node name(node a) { return a.apply(code); }
DIFFX_FUNCTION(abs, DFX_OP_ABS)
DIFFX_FUNCTION(sign, DFX_OP_SIGN)
DIFFX_FUNCTION(recip, DFX_OP_RECIP)
DIFFX_FUNCTION(square, DFX_OP_SQUARE)
DIFFX_FUNCTION(sqrt, DFX_OP_SQRT)
DIFFX_FUNCTION(rsqrt, DFX_OP_RSQRT)
DIFFX_FUNCTION(exp, DFX_OP_EXP)
DIFFX_FUNCTION(expm1, DFX_OP_EXPM1)
DIFFX_FUNCTION(log, DFX_OP_LOG)
DIFFX_FUNCTION(log1p, DFX_OP_LOG1P)
DIFFX_FUNCTION(sin, DFX_OP_SIN)
DIFFX_FUNCTION(cos, DFX_OP_COS)
DIFFX_FUNCTION(tanh, DFX_OP_TANH)
DIFFX_FUNCTION(sigmoid, DFX_OP_SIGMOID)
DIFFX_FUNCTION(silu, DFX_OP_SILU)
DIFFX_FUNCTION(gelu, DFX_OP_GELU)
DIFFX_FUNCTION(relu, DFX_OP_RELU)
DIFFX_FUNCTION(softplus, DFX_OP_SOFTPLUS)
DIFFX_FUNCTION(erf, DFX_OP_ERF)
DIFFX_FUNCTION(floor, DFX_OP_FLOOR)
DIFFX_FUNCTION(is_finite, DFX_OP_IS_FINITE)
DIFFX_FUNCTION(lgamma, DFX_OP_LGAMMA)
DIFFX_FUNCTION(log_ndtr, DFX_OP_LOG_NDTR)
DIFFX_FUNCTION(stop_gradient, DFX_OP_STOP_GRADIENT)
#undef DIFFX_FUNCTION
#define DIFFX_FUNCTION(name, code)                                                     \
    inline node name(node a, node b) { return a.apply(code, b); }                      \
    inline node name(node a, double b) { return a.apply(code, a.number(b)); }
DIFFX_FUNCTION(pow, DFX_OP_POW)
DIFFX_FUNCTION(min, DFX_OP_MIN)
DIFFX_FUNCTION(max, DFX_OP_MAX)
DIFFX_FUNCTION(equal, DFX_OP_EQ)
#undef DIFFX_FUNCTION

using axes = std::initializer_list<int64_t>;
inline dfx_attr listed(uint32_t key, axes list) noexcept {
    return dfx_attr_ints(key, list.begin(), static_cast<uint32_t>(list.size()));
}

inline node where(node condition, node a, node b) { return condition.apply(DFX_OP_WHERE, {a, b}); }
inline node matmul(node a, node b) { return a.apply(DFX_OP_MATMUL, b); }
inline node matmul(node a, node b, node bias) { return a.apply(DFX_OP_MATMUL, {b, bias}); }
/* Over the axes, which stay with length 1. */
inline node sum(node a, axes over) {
    return a.apply(DFX_OP_SUM, {}, {listed(DFX_ATTR_AXES, over), dfx_attr_int(DFX_ATTR_KEEPDIMS, 1)});
}
inline node mean(node a, axes over) {
    return a.apply(DFX_OP_MEAN, {}, {listed(DFX_ATTR_AXES, over), dfx_attr_int(DFX_ATTR_KEEPDIMS, 1)});
}
/* Of all elements: one number. */
inline node mean(node a) { return a.apply(DFX_OP_MEAN); }
inline node softmax(node a, int64_t axis) { return a.apply(DFX_OP_SOFTMAX, {}, {dfx_attr_int(DFX_ATTR_AXIS, axis)}); }
inline node reshape(node a, axes shape) { return a.apply(DFX_OP_RESHAPE, {}, {listed(DFX_ATTR_SHAPE, shape)}); }
inline node transpose(node a, axes perm) { return a.apply(DFX_OP_TRANSPOSE, {}, {listed(DFX_ATTR_PERM, perm)}); }
inline node concat(node a, std::initializer_list<node> rest, int64_t axis) {
    return a.apply(DFX_OP_CONCAT, rest, {dfx_attr_int(DFX_ATTR_AXIS, axis)});
}
inline node layer_norm(node a, double eps) { return a.apply(DFX_OP_LAYER_NORM, {}, {dfx_attr_float(DFX_ATTR_EPS, eps)}); }

/* ------------------------------------------------------------------- build */

inline dfx_init zeros() noexcept { return dfx_init{DFX_INIT_ZEROS, 0, 0.0}; }
inline dfx_init constant(double value) noexcept { return dfx_init{DFX_INIT_CONSTANT, 0, value}; }
inline dfx_init gaussian(double deviation) noexcept { return dfx_init{DFX_INIT_NORMAL, 0, deviation}; }
inline dfx_init uniform_between(double bound) noexcept { return dfx_init{DFX_INIT_UNIFORM, 0, bound}; }

/* The graph being built and what may be asked of it; lives during one call. */
class build {
public:
    build(const dfx_host *host, dfx_graph *g) noexcept : host_(host), g_(g) {}

    const dfx_graph_api *api() const noexcept { return host_->graph; }
    const dfx_build_api *services() const noexcept { return host_->build; }
    dfx_graph *graph() const noexcept { return g_; }

    node of(dfx_node id) const noexcept { return node(api(), g_, id); }
    node number(double value) const { return of(api()->scalar(g_, value)); }
    int64_t batch() const { return api()->batch(g_); }
    /* A parameter of the network. */
    node weight(const char *name, axes dims, const dfx_init &init) const {
        dfx_desc want = {};
        want.rank = static_cast<uint32_t>(dims.size());
        uint32_t i = 0;
        for (int64_t n : dims)
            if (i < DFX_MAX_RANK) want.dims[i++] = n;
        return of(api()->weight(g_, name, &want, &init));
    }
    /* Every element the same. */
    node full(axes shape, double value) const {
        const dfx_attr attr[2] = {dfx_attr_float(DFX_ATTR_VALUE, value), listed(DFX_ATTR_SHAPE, shape)};
        return of(dfx_emit(api(), g_, DFX_OP_FULL, nullptr, 0, attr, 2));
    }
    node constant(const dfx_desc &desc, const void *data) const { return of(api()->constant(g_, &desc, data)); }
    /* Standard normals of the shape of a node. */
    node normal_like(node like, uint32_t purpose) const { return of(dfx_normal_like(api(), g_, like.id(), purpose)); }
    /* The first failure of a build is what it ends with. */
    void fail(dfx_status status, const char *words) const { api()->fail(g_, status, words); }

    /* A name in front of the weights declared while it lives. */
    class scope {
    public:
        scope(const build &b, const char *name) : b_(b) { b_.api()->push(b_.g_, name); }
        ~scope() { b_.api()->pop(b_.g_); }
        scope(const scope &) = delete;
        scope &operator=(const scope &) = delete;

    private:
        const build &b_;
    };
    /* x w + b with the weights "NAME.w" [in, out] and "NAME.b" [out]. */
    node linear(const char *name, node x, int64_t out) const {
        const scope in(*this, name);
        const dfx_desc d = x.desc();
        const int64_t n = d.rank > 0 && d.rank <= DFX_MAX_RANK ? d.dims[d.rank - 1] : 0;
        const double bound = n > 0 ? 1.0 / static_cast<double>(n) : 0.0;
        node w = weight("w", {n, out}, gaussian(root(bound))), b = weight("b", {out}, zeros());
        return matmul(x, w, b);
    }

    /* Services of samplers, guidance and objectives. */
    bool denoise(dfx_denoiser d, const dfx_eval *evals, uint32_t n, dfx_node *out) const {
        return services()->denoise(g_, d, evals, n, out) == DFX_OK;
    }
    /* The denoiser of a network slot ("base", "ref", ...), without guidance. */
    dfx_denoiser denoiser_of(const char *slot) const { return services()->denoiser_of(g_, slot); }
    /* One evaluation of one component. */
    node denoised(dfx_denoiser d, node w, node sigma) const {
        const dfx_node x = w.id(), level = sigma.id();
        dfx_eval at = {};
        at.struct_size = static_cast<uint32_t>(sizeof(dfx_eval));
        at.x = &x;
        at.sigma = &level;
        dfx_node out = 0;
        denoise(d, &at, 1, &out);
        return of(out);
    }
    /* A function of the process of a component (DFX_PROCESS_*); purpose addresses its draws. */
    template <std::size_t N = 1>
    std::array<node, N> process(uint32_t component, uint32_t function, std::initializer_list<node> in,
                                uint32_t purpose = DFX_PURPOSE_USER) const {
        dfx_node from[8] = {}, to[N] = {};
        uint32_t n = 0;
        for (const node &a : in)
            if (n < 8) from[n++] = a.id();
        services()->process(g_, component, function, purpose, from, n, to, static_cast<uint32_t>(N));
        std::array<node, N> out;
        for (std::size_t i = 0; i < N; i++) out[i] = of(to[i]);
        return out;
    }
    uint32_t conditions() const { return services()->conds(g_); }
    /* The value of the job, or the null value, of condition i. */
    node condition(uint32_t i) const { return cond(i, false); }
    node null_condition(uint32_t i) const { return cond(i, true); }

protected:
    static double root(double x) noexcept { /* Newton: no libm in a header */
        double r = x > 1.0 ? x : 1.0;
        for (int i = 0; i < 64 && x > 0.0; i++) r = 0.5 * (r + x / r);
        return x > 0.0 ? r : 0.0;
    }
    node cond(uint32_t i, bool null) const {
        dfx_node value = 0, none = 0;
        services()->cond(g_, i, &value, &none);
        return of(null ? none : value);
    }

    const dfx_host *host_;
    dfx_graph *g_;
};

/* A build call with its io struct. */
template <class Io> class call : public build {
public:
    call(const dfx_host *host, dfx_graph *g, Io *io) noexcept : build(host, g), io_(io) {}
    Io &io() const noexcept { return *io_; }
    node x(uint32_t component = 0) const noexcept { return of(io_->x[component]); }

protected:
    Io *io_;
};

/* The functions of a process. */
class moment : public build {
public:
    moment(const dfx_host *host, dfx_graph *g, dfx_process_io *io) noexcept : build(host, g), io_(io) {}
    const dfx_stats &stats() const noexcept { return *io_->stats; }
    const dfx_component &component() const noexcept { return *io_->component; }
    uint32_t purpose() const noexcept { return io_->purpose; }
    /* Standard normals: of the shape of a node, and [batch, one sample of the component]. */
    node normal_like(node like) const { return build::normal_like(like, io_->purpose); }
    node normal() const { return of(dfx_normal(api(), g_, &io_->component->desc, io_->purpose)); }

private:
    dfx_process_io *io_;
};
struct perturbed { node w, target; };
struct preconditioning { node c_skip, c_out, c_in, c_noise, weight; };
struct equation { node drift, diffusion; };

class model_call : public call<dfx_model_io> {
public:
    using call::call;
    node sigma(uint32_t component = 0) const noexcept { return of(io_->sigma[component]); }
    node given(uint32_t i) const noexcept { return of(io_->cond[i]); } /* condition i */
    void out(node value) const noexcept { out(0, value); }
    void out(uint32_t component, node value) const noexcept { io_->out[component] = value.id(); }
};

class wrap_call : public build {
public:
    wrap_call(const dfx_host *host, dfx_graph *g, dfx_wrap_io *io) noexcept : build(host, g), io_(io) {}
    dfx_wrap_io &io() const noexcept { return *io_; }
    uint32_t evals() const noexcept { return io_->n_evals; }
    uint32_t components() const noexcept { return io_->n_components; }
    const dfx_eval &eval(uint32_t i) const noexcept { return io_->evals[i]; }
    /* What the inner denoiser says of every evaluation, into out. */
    bool inner() const { return denoise(io_->inner, io_->evals, io_->n_evals, io_->out); }
    node out(uint32_t eval, uint32_t component) const noexcept { return of(io_->out[eval * io_->n_components + component]); }
    void out(uint32_t eval, uint32_t component, node value) const noexcept {
        io_->out[eval * io_->n_components + component] = value.id();
    }

private:
    dfx_wrap_io *io_;
};
using guide_call = call<dfx_guide_io>;
using step_call = call<dfx_step_io>;
/* A build call whose io has no state in x. */
template <class Io> class bare_call : public build {
public:
    bare_call(const dfx_host *host, dfx_graph *g, Io *io) noexcept : build(host, g), io_(io) {}
    Io &io() const noexcept { return *io_; }

private:
    Io *io_;
};
using loss_call = bare_call<dfx_loss_io>;
using advantage_call = bare_call<dfx_advantage_io>;
using sweep_call = call<dfx_sweep_io>;

/* ------------------------------------------------------------------ config */

/* The settings of an instance: one flat JSON object. The first thing wrong with it is kept, and the instance is not
 * made; so is a key nobody asked for, unless it begins with "x-". */
class config {
public:
    config(const dfx_host *host, const char *json) noexcept : host_(host), json_(json) { read(json); }

    const dfx_host *host() const noexcept { return host_; }
    const char *json() const noexcept { return json_; }

    double number(const char *key, double otherwise) noexcept {
        const char *v = find(key);
        if (v == nullptr) return otherwise;
        if (*v != '-' && (*v < '0' || *v > '9')) {
            about(key, "want a number");
            return otherwise;
        }
        char digits[64] = {}; /* strtod reads the point of the locale, JSON has its own */
        const char *end = scalar(v), *point = std::localeconv()->decimal_point;
        char *read_to = digits;
        for (std::size_t i = 0; i + 1 < sizeof digits && v + i < end; i++)
            digits[i] = v[i] == '.' && point[0] != 0 && point[1] == 0 ? point[0] : v[i];
        const double x = std::strtod(digits, &read_to);
        if (read_to - digits != end - v) {
            about(key, "want a number of at most 63 characters");
            return otherwise;
        }
        return x;
    }
    double positive(const char *key, double otherwise) noexcept {
        const double x = number(key, otherwise);
        if (!(x > 0.0)) about(key, "want a number above 0");
        return x;
    }
    int64_t integer(const char *key, int64_t otherwise, int64_t least, int64_t most_) noexcept {
        const double x = number(key, static_cast<double>(otherwise));
        if (!(x >= static_cast<double>(least) && x <= static_cast<double>(most_))) {
            about(key, "is outside its range");
            return otherwise;
        }
        const int64_t i = static_cast<int64_t>(x);
        if (static_cast<double>(i) < x || static_cast<double>(i) > x) about(key, "want a whole number");
        return i;
    }
    bool flag(const char *key, bool otherwise) noexcept {
        const char *v = find(key);
        if (v == nullptr) return otherwise;
        if (*v != 't' && *v != 'f') about(key, "want true or false");
        return *v == 't';
    }
    /* For what only the plugin can tell. */
    void refuse(const failure &why) noexcept {
        if (fault_.status() == DFX_OK) fault_ = why;
    }
    /* After everything was asked for: what was wrong, if anything. */
    failure finish() noexcept {
        for (std::size_t i = 0; i < count_; i++) {
            const entry &e = entries_[i];
            if (!e.used && !(e.length >= 2 && std::strncmp(e.key, "x-", 2) == 0)) {
                char name[64] = {};
                std::strncpy(name, e.key, e.length < sizeof name - 1 ? e.length : sizeof name - 1);
                about(name, "is not a setting of this plugin");
            }
        }
        return fault_;
    }

private:
    struct entry {
        const char *key;
        std::size_t length;
        const char *value;
        bool used;
    };
    static constexpr std::size_t most = 64;

    static const char *blank(const char *p) noexcept {
        while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') p++;
        return p;
    }
    static const char *text(const char *p) noexcept { /* past it, or null */
        if (*p != '"') return nullptr;
        for (p++; *p != '"'; p++) {
            if (*p == 0 || (*p == '\\' && *++p == 0)) return nullptr;
        }
        return p + 1;
    }
    static const char *scalar(const char *p) noexcept {
        if (*p == '"') return text(p);
        if (std::strncmp(p, "true", 4) == 0) return p + 4;
        if (std::strncmp(p, "false", 5) == 0) return p + 5;
        if (*p != '-' && (*p < '0' || *p > '9')) return nullptr;
        while (*p != 0 && std::strchr("+-.0123456789eE", *p) != nullptr) p++;
        return p;
    }
    void read(const char *json) noexcept {
        const char *p = blank(json);
        if (*p != '{') return wrong("config: want a JSON object");
        for (p = blank(p + 1); *p != '}'; p = blank(p + 1)) {
            const char *key = p, *end = text(p), *colon = end != nullptr ? blank(end) : nullptr;
            if (colon == nullptr || *colon != ':') return wrong("config: want \"key\": value");
            const char *value = blank(colon + 1), *after = scalar(value);
            if (after == nullptr) return wrong("config: want numbers, texts, true and false for values");
            if (count_ == most) return wrong("config: more keys than a flat plugin reads");
            entries_[count_++] = {key + 1, static_cast<std::size_t>(end - key - 2), value, false};
            p = blank(after);
            if (*p == '}') break;
            if (*p != ',' || *blank(p + 1) != '"') return wrong("config: want , or } after a value");
        }
        if (*blank(p + 1) != 0) wrong("config: more after the object");
    }
    const char *find(const char *key) noexcept {
        for (std::size_t i = 0; i < count_; i++) {
            entry &e = entries_[i];
            if (std::strlen(key) == e.length && std::strncmp(key, e.key, e.length) == 0) {
                e.used = true;
                return e.value;
            }
        }
        return nullptr;
    }
    void wrong(const char *words) noexcept { refuse(failure(DFX_E_FORMAT, words)); }
    void about(const char *key, const char *words) noexcept {
        char said[240] = {};
        std::strncpy(said, key, 64);
        std::strcat(said, ": ");
        std::strcat(said, words);
        wrong(said);
    }

    const dfx_host *host_;
    const char *json_;
    entry entries_[most] = {};
    std::size_t count_ = 0;
    failure fault_;
};

/* ------------------------------------------------------------------ tables */

namespace detail {

/* What create makes: the plugin's own value, and the host, which every build needs. */
template <class T> struct instance {
    instance(const dfx_host *h, config &c) : host(h), value(c) {}
    const dfx_host *host;
    T value;
};
template <class T> const instance<T> &of(const void *self) noexcept { return *static_cast<const instance<T> *>(self); }

template <class T>
dfx_status DFX_CALL create(const dfx_factory *, const dfx_host *host, const char *json, void **out, dfx_error *err) noexcept {
    return guard(err, [&]() -> failure {
        config c(host, json);
        std::unique_ptr<instance<T>> made(new (std::nothrow) instance<T>(host, c));
        if (!made) return failure(DFX_E_NO_MEMORY, "out of memory");
        const failure wrong = c.finish();
        if (wrong.status() != DFX_OK) return wrong;
        *out = made.release();
        return failure();
    });
}
template <class T> void DFX_CALL destroy(void *p) noexcept {
    guard(nullptr, [&] { delete static_cast<instance<T> *>(p); });
}

/* A function of host arithmetic: the arguments of the table as they are. */
template <class M, M member> struct plain;
template <class T, class R, class... A, R (T::*member)(A...) const> struct plain<R (T::*)(A...) const, member> {
    static dfx_status DFX_CALL entry(const void *self, A... a, dfx_error *err) noexcept {
        return guard(err, [&] { return (of<T>(self).value.*member)(a...); });
    }
};

/* A function that builds: graph and io become one call. */
template <class M, M member> struct building;
template <class T, class R, class B, R (T::*member)(const B &) const> struct building<R (T::*)(const B &) const, member> {
    template <class Io> static dfx_status DFX_CALL run(const void *self, dfx_graph *g, Io *io, dfx_error *err) noexcept {
        return guard(err, [&] { return (of<T>(self).value.*member)(B(of<T>(self).host, g, io)); });
    }
};

inline void put(dfx_node *out, uint32_t n, node a) noexcept {
    if (n > 0) out[0] = a.id();
}
inline void put(dfx_node *out, uint32_t n, const perturbed &p) noexcept {
    if (n > 0) out[0] = p.w.id();
    if (n > 1) out[1] = p.target.id();
}
inline void put(dfx_node *out, uint32_t n, const equation &e) noexcept {
    if (n > 0) out[0] = e.drift.id();
    if (n > 1) out[1] = e.diffusion.id();
}
inline void put(dfx_node *out, uint32_t n, const preconditioning &p) noexcept {
    const dfx_node all[5] = {p.c_skip.id(), p.c_out.id(), p.c_in.id(), p.c_noise.id(), p.weight.id()};
    for (uint32_t i = 0; i < n && i < 5; i++) out[i] = all[i];
}

/* A function of a process: its nodes as arguments, with or without the moment before them. */
template <class M, M member> struct formula;
template <class... N> inline constexpr bool nodes = (std::is_same_v<N, node> && ...);
template <class T, class Call, std::size_t... I>
dfx_status spread(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err, std::index_sequence<I...>, Call f) noexcept {
    return guard(err, [&]() -> failure {
        if (io->n_in < sizeof...(I)) return failure(DFX_E_PLUGIN, "fewer inputs than this function of a process has");
        const moment m(of<T>(self).host, g, io);
        put(io->out, io->n_out, f(of<T>(self).value, m, m.of(io->in[I])...));
        return failure();
    });
}
template <class T, class R, class... N, R (T::*member)(N...) const> struct formula<R (T::*)(N...) const, member> {
    static_assert(nodes<N...>, "a function of a process takes nodes, after a const moment & if it wants one");
    static dfx_status DFX_CALL entry(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err) noexcept {
        return spread<T>(self, g, io, err, std::index_sequence_for<N...>(),
                         [](const T &t, const moment &, auto... in) { return (t.*member)(in...); });
    }
};
template <class T, class R, class... N, R (T::*member)(const moment &, N...) const>
struct formula<R (T::*)(const moment &, N...) const, member> {
    static_assert(nodes<N...>, "a function of a process takes nodes, after a const moment & if it wants one");
    static dfx_status DFX_CALL entry(const void *self, dfx_graph *g, dfx_process_io *io, dfx_error *err) noexcept {
        return spread<T>(self, g, io, err, std::index_sequence_for<N...>(),
                         [](const T &t, const moment &m, auto... in) { return (t.*member)(m, in...); });
    }
};

/* T::NAME in a table, or null. */
#define DIFFX_FIND(name, type, made)                                                                      \
    template <class T, class = void> struct name##_of { static constexpr type value = nullptr; };          \
    template <class T> struct name##_of<T, std::void_t<decltype(&T::name)>> {                              \
        static constexpr type value = &made;                                                               \
    };
#define DIFFX_PLAIN(name) DIFFX_FIND(name, auto, (plain<decltype(&T::name), &T::name>::entry))
#define DIFFX_FORMULA(name) DIFFX_FIND(name, dfx_process_fn, (formula<decltype(&T::name), &T::name>::entry))
#define DIFFX_BUILDING(name, io) DIFFX_FIND(name, auto, (building<decltype(&T::name), &T::name>::template run<io>))
DIFFX_PLAIN(info)
DIFFX_PLAIN(clock)
DIFFX_PLAIN(fit)
DIFFX_PLAIN(variant)
DIFFX_PLAIN(plan)
DIFFX_PLAIN(knots)
DIFFX_PLAIN(refine)
DIFFX_FORMULA(encode)
DIFFX_FORMULA(decode)
DIFFX_FORMULA(perturb)
DIFFX_FORMULA(prior)
DIFFX_FORMULA(precond)
DIFFX_FORMULA(renoise)
DIFFX_FORMULA(ancestral)
DIFFX_FORMULA(to_score)
DIFFX_FORMULA(log_transition)
DIFFX_FORMULA(loss_weight)
DIFFX_FORMULA(posterior)
DIFFX_FORMULA(sde)
DIFFX_BUILDING(build, dfx_model_io)
DIFFX_BUILDING(wrap, dfx_wrap_io)
DIFFX_BUILDING(start, dfx_guide_io)
DIFFX_BUILDING(project, dfx_guide_io)
DIFFX_BUILDING(permute, dfx_guide_io)
DIFFX_BUILDING(finish, dfx_guide_io)
DIFFX_BUILDING(step, dfx_step_io)
DIFFX_BUILDING(loss, dfx_loss_io)
DIFFX_BUILDING(sweep, dfx_sweep_io)
DIFFX_BUILDING(advantage, dfx_advantage_io)
#undef DIFFX_BUILDING
#undef DIFFX_FORMULA
#undef DIFFX_PLAIN
#undef DIFFX_FIND

template <class S> constexpr uint32_t size = static_cast<uint32_t>(sizeof(S));
/* Pilots of a grid: T::pilot_steps and T::pilot_samples. */
template <class T, class = void> struct pilot_of { static constexpr uint32_t steps = 0, samples = 0; };
template <class T> struct pilot_of<T, std::void_t<decltype(T::pilot_steps), decltype(T::pilot_samples)>> {
    static constexpr uint32_t steps = T::pilot_steps, samples = T::pilot_samples;
};

/* Else one table would serve all files in a process that name a class alike, and the same file loaded twice. */
#if defined(__GNUC__) && !defined(_WIN32)
#  define DIFFX_HIDDEN __attribute__((visibility("hidden")))
#else
#  define DIFFX_HIDDEN
#endif
template <class T> DIFFX_HIDDEN inline constexpr dfx_model_api model_table = {size<dfx_model_api>, 0, info_of<T>::value, build_of<T>::value};
template <class T> DIFFX_HIDDEN inline constexpr dfx_process_api process_table = {
    size<dfx_process_api>, 0, info_of<T>::value, clock_of<T>::value, encode_of<T>::value, decode_of<T>::value,
    perturb_of<T>::value, prior_of<T>::value, precond_of<T>::value, renoise_of<T>::value, ancestral_of<T>::value,
    to_score_of<T>::value, log_transition_of<T>::value, loss_weight_of<T>::value, posterior_of<T>::value,
    sde_of<T>::value, fit_of<T>::value};
template <class T> DIFFX_HIDDEN inline constexpr dfx_guidance_api guidance_table = {
    size<dfx_guidance_api>, 0, info_of<T>::value, wrap_of<T>::value, start_of<T>::value, project_of<T>::value,
    permute_of<T>::value, finish_of<T>::value, variant_of<T>::value};
template <class T> DIFFX_HIDDEN inline constexpr dfx_sampler_api sampler_table = {
    size<dfx_sampler_api>, 0, info_of<T>::value, plan_of<T>::value, step_of<T>::value};
template <class T> DIFFX_HIDDEN inline constexpr dfx_grid_api grid_table = {
    size<dfx_grid_api>, pilot_of<T>::steps, pilot_of<T>::samples, 0, knots_of<T>::value, refine_of<T>::value};
template <class T> DIFFX_HIDDEN inline constexpr dfx_objective_api objective_table = {
    size<dfx_objective_api>, 0, info_of<T>::value, loss_of<T>::value, sweep_of<T>::value, advantage_of<T>::value};
#undef DIFFX_HIDDEN

template <class T> constexpr dfx_factory factory(uint32_t kind, const void *table, const char *id, const char *summary,
                                                 const char *schema) noexcept {
    return dfx_factory{size<dfx_factory>, kind, table, id, summary, schema, &create<T>, &destroy<T>};
}

} /* namespace detail */

/* ---------------------------------------------------------------- factories
 * id, one line, and the JSON schema of the config or null. */

#define DIFFX_KIND(name, kind, complete, missing)                                                              \
    template <class T> constexpr dfx_factory name(const char *id, const char *summary, const char *schema = nullptr) { \
        static_assert(complete, missing);                                                                      \
        return detail::factory<T>(kind, &detail::name##_table<T>, id, summary, schema);                        \
    }
#define DIFFX_IN(function) (detail::function##_of<T>::value != nullptr)
DIFFX_KIND(model, DFX_KIND_MODEL, DIFFX_IN(info) && DIFFX_IN(build), "a model has info and build")
DIFFX_KIND(process, DFX_KIND_PROCESS,
           DIFFX_IN(info) && DIFFX_IN(perturb) && DIFFX_IN(prior) &&
               ((DIFFX_IN(encode) && DIFFX_IN(decode) && DIFFX_IN(precond)) || DIFFX_IN(posterior)),
           "a process has info, encode, decode, perturb, prior and precond; a discrete one info, perturb, prior, posterior")
DIFFX_KIND(guidance, DFX_KIND_GUIDANCE, DIFFX_IN(info), "a guidance has info")
DIFFX_KIND(sampler, DFX_KIND_SAMPLER, DIFFX_IN(info) && DIFFX_IN(plan) && DIFFX_IN(step), "a sampler has info, plan and step")
DIFFX_KIND(grid, DFX_KIND_GRID, DIFFX_IN(knots), "a grid has knots")
DIFFX_KIND(objective, DFX_KIND_OBJECTIVE, DIFFX_IN(info) && DIFFX_IN(loss), "an objective has info and loss")
#undef DIFFX_IN
#undef DIFFX_KIND

} /* namespace diffx::plugin */

#endif /* DIFFX_PLUGIN_HPP */
