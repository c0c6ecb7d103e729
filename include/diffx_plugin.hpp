/*
 * diffx_plugin.hpp - C++11 over diffx_plugin.h: no exception leaves a plugin.
 *
 * An exception that crosses the C border ends the process, so every function a
 * host calls is made by a trampoline here: it catches, and turns what it caught
 * into a status with a message. Throw dfx::failure to choose the status.
 *
 * A type T is created by T(const dfx_host *, const char *config_json). Its member
 * functions become table entries:
 *
 *   dfx_process_api api = { sizeof api, 0, DFX_CALL_MEMBER(&T::info), nullptr, DFX_CALL_MEMBER(&T::encode), ... };
 */
#ifndef DIFFX_PLUGIN_HPP
#define DIFFX_PLUGIN_HPP

#ifndef DFX_HELPERS
#  define DFX_HELPERS
#endif
#include "diffx_plugin.h"
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace dfx {

/* What a plugin throws to fail with a status of its choice. */
class failure : public std::runtime_error {
public:
    failure(dfx_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
    dfx_status status() const noexcept { return status_; }

private:
    dfx_status status_;
};

/* Runs f; an exception becomes a status. */
template <class F>
dfx_status guard(dfx_error *err, F &&f) noexcept {
    try {
        f();
        return DFX_OK;
    } catch (const failure &e) {
        return dfx_fail(err, e.status() < 0 ? e.status() : DFX_E_PLUGIN, e.what());
    } catch (const std::bad_alloc &) {
        return dfx_fail(err, DFX_E_NO_MEMORY, "out of memory");
    } catch (const std::exception &e) {
        return dfx_fail(err, DFX_E_PLUGIN, e.what());
    } catch (...) {
        return dfx_fail(err, DFX_E_PLUGIN, "an exception of unknown type");
    }
}

/* dfx_factory::create and destroy. */
template <class T>
dfx_status DFX_CALL create(const dfx_factory *, const dfx_host *host, const char *config, void **out,
                           dfx_error *err) noexcept {
    return guard(err, [&] { *out = new T(host, config); });
}

template <class T>
void DFX_CALL destroy(void *instance) noexcept {
    guard(nullptr, [&] { delete static_cast<T *>(instance); });
}

/* A function of a table that gets self, its arguments and an error, over a const member function. */
template <class Member, Member member>
struct trampoline;

template <class T, class... Args, void (T::*member)(Args...) const>
struct trampoline<void (T::*)(Args...) const, member> {
    static dfx_status DFX_CALL call(const void *self, Args... args, dfx_error *err) noexcept {
        return guard(err, [&] { (static_cast<const T *>(self)->*member)(args...); });
    }
};

/* DFX_CALL_MEMBER(&ve::encode): the table entry for void ve::encode(dfx_graph *, dfx_process_io *) const. */
#define DFX_CALL_MEMBER(member) (&dfx::trampoline<decltype(member), member>::call)

/* A node with its graph, so that a formula reads as one. Operands are evaluated in any order: name what draws. */
class node {
public:
    node(const dfx_graph_api *e, dfx_graph *g, dfx_node id) : e_(e), g_(g), id_(id) {}
    operator dfx_node() const { return id_; }

    friend node operator+(node a, node b) { return a.with(DFX_OP_ADD, b); }
    friend node operator-(node a, node b) { return a.with(DFX_OP_SUB, b); }
    friend node operator*(node a, node b) { return a.with(DFX_OP_MUL, b); }
    friend node operator/(node a, node b) { return a.with(DFX_OP_DIV, b); }
    friend node operator+(node a, double b) { return a + a.number(b); }
    friend node operator-(node a, double b) { return a - a.number(b); }
    friend node operator*(node a, double b) { return a * a.number(b); }
    friend node operator/(node a, double b) { return a / a.number(b); }
    friend node operator/(double a, node b) { return b.number(a) / b; }

    node apply(dfx_op op) const { return node(e_, g_, dfx_emit1(e_, g_, op, id_)); }
    node square() const { return apply(DFX_OP_SQUARE); }
    node sqrt() const { return apply(DFX_OP_SQRT); }
    node rsqrt() const { return apply(DFX_OP_RSQRT); }
    node exp() const { return apply(DFX_OP_EXP); }
    node log() const { return apply(DFX_OP_LOG); }
    /* Standard normals of this node's shape. */
    node normal_like(uint32_t purpose) const { return node(e_, g_, dfx_normal_like(e_, g_, id_, purpose)); }

private:
    node with(dfx_op op, node b) const { return node(e_, g_, dfx_emit2(e_, g_, op, id_, b.id_)); }
    node number(double value) const { return node(e_, g_, e_->scalar(g_, value)); }

    const dfx_graph_api *e_;
    dfx_graph *g_;
    dfx_node id_;
};

} /* namespace dfx */

#endif /* DIFFX_PLUGIN_HPP */
