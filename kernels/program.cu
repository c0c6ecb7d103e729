// Fused pointwise programs: an instruction list run per element, registers in shared memory (one column a thread: an
// array indexed at run time would go to local memory).
//
// p: instructions, inputs, outputs, splats, tables. n: elements, instructions. `src/cuda/lower/program.rs` writes the
// tables. Programs with a function of special.cuh have a kernel of their own, so that the others keep their registers.
#include "math.cuh"
#include "special.cuh"

struct Instr { int op, dtype, reg, store; int kind[3], arg[3]; double param; long long table; };
struct Feed { unsigned long long at; int dtype, access; long long rank, extent[8], stride[8]; };
struct Out { unsigned long long at; long long dtype; };
struct Splat { double value; long long input; };
enum { UNUSED, REGISTER, INPUT, SPLAT };          // where an operand is
enum { UNIFORM, FLAT, STRIDED };                  // how an input runs
enum { LOAD = -1, MOVE = -2 };                    // else the code of an op

template <class T> DEVICE T binary_real(int op, T x, T y) {
    switch (op) {
    case ADD: return x + y;
    case SUB: return x - y;
    case MUL: return x * y;
    case DIV: return x / y;
    case POW: return (T)pow((double)x, (double)y);
    case MIN: return x < y || x != x ? x : y;
    case MAX: return x > y || x != x ? x : y;
    case REM: {
        const T r = fmod(x, y);
        return r != (T)0 && (r < (T)0) != (y < (T)0) ? r + y : r;
    }
    default: return unary_real(op, x);
    }
}

// The value after a round trip through an element type.
template <class T> DEVICE T rounded(T x, int dtype) {
    uint64_t room;
    put(&room, dtype, 0, x);
    return get<T>(&room, dtype, 0);
}

template <class T> struct Own;
template <> struct Own<float> {
    static DEVICE float of(int op, float x, float y, int dtype) { return binary_real(op, x, y); }
};
template <> struct Own<double> {
    static DEVICE double of(int op, double x, double y, int dtype) { return binary_real(op, x, y); }
};
template <> struct Own<long long> {
    typedef unsigned long long U;
    static DEVICE long long of(int op, long long x, long long y, int dtype) {
        long long r;
        switch (op) {
        case ADD: r = (long long)((U)x + (U)y); break;
        case SUB: r = (long long)((U)x - (U)y); break;
        case MUL: r = (long long)((U)x * (U)y); break;
        case DIV: r = y == 0 ? 0 : y == -1 ? (long long)(0 - (U)x) : x / y; break;
        case MIN: return x < y ? x : y;
        case MAX: return x > y ? x : y;
        case REM: r = y == 0 || y == -1 ? 0 : x % y; return r != 0 && (r < 0) != (y < 0) ? r + y : r;
        default: return 0; // the host sends no other
        }
        return rounded(r, dtype);
    }
};

template <class T> DEVICE T minus(T x, int dtype) { return -x; }
template <> DEVICE long long minus(long long x, int dtype) { return rounded((long long)(0 - (unsigned long long)x), dtype); }

template <class T> DEVICE T apply(int op, T x, T y, T z, int dtype) {
    const T one = 1, zero = 0;
    switch (op) {
    case EQ: return x == y ? one : zero;
    case NE: return x != y ? one : zero;
    case LT: return x < y ? one : zero;
    case LE: return x <= y ? one : zero;
    case GT: return x > y ? one : zero;
    case GE: return x >= y ? one : zero;
    case NOT: return x == zero ? one : zero;
    case AND: return x != zero && y != zero ? one : zero;
    case OR: return x != zero || y != zero ? one : zero;
    case WHERE: return x != zero ? y : z;
    case SIGN: return x > zero ? one : x < zero ? -one : zero;
    case NEG: return minus(x, dtype);
    case ABS: return x < zero ? minus(x, dtype) : x == zero ? zero : x;
    case SQUARE: return x * x;
    case CAST: return rounded(x, dtype);
    case STOP_GRADIENT: return x;
    default: return Own<T>::of(op, x, y, dtype);
    }
}

DEVICE float ratio(const double *table, float x) { return special::ratio_f32(table, x); }
DEVICE double ratio(const double *table, double x) { return special::ratio_f64(table, x); }

template <class T> DEVICE T law(int op, T x, double param, const double *table) {
    switch (op) {
    case LGAMMA: return (T)special::lgamma((double)x);
    case POLYGAMMA: return (T)special::polygamma(param, (double)x);
    case LOG_NDTR: return (T)special::log_ndtr((double)x);
    case LOG_IVE: return (T)special::log_ive(param, (double)x);
    default: return ratio(table, x);
    }
}

template <class T, bool LAWS> DEVICE void run(const Args &a, T *file) {
    const long long i = THREAD;
#ifdef PLANT_OVERRUN // a test plants this: one element too many
    if (i > a.n[0]) return;
#else
    if (i >= a.n[0]) return; // nobody waits for anybody here
#endif
    const Instr *code = (const Instr *)a.p[0];
    const Feed *feeds = (const Feed *)a.p[1];
    const Out *outs = (const Out *)a.p[2];
    const Splat *splats = (const Splat *)a.p[3];
    const int count = (int)a.n[1];
    T *column = file + threadIdx.x;
    for (int pc = 0; pc < count; pc++) {
        const Instr &now = code[pc];
        T r;
        if (now.op == LOAD) {
            const Feed &feed = feeds[now.arg[0]];
            long long at = feed.access == FLAT ? i : 0;
            if (feed.access == STRIDED) {
                long long rest = i;
                for (int k = (int)feed.rank - 1; k >= 0; k--) {
                    at += rest % feed.extent[k] * feed.stride[k];
                    rest /= feed.extent[k];
                }
            }
            r = get<T>((const void *)feed.at, feed.dtype, at);
        } else {
            T x[3] = {(T)0, (T)0, (T)0};
            for (int k = 0; k < 3; k++) {
                const int arg = now.arg[k];
                if (now.kind[k] == REGISTER) x[k] = column[arg * blockDim.x];
                if (now.kind[k] == INPUT) x[k] = ((const T *)feeds[arg].at)[i];
                if (now.kind[k] == SPLAT) {
                    const Splat &s = splats[arg];
                    x[k] = s.input < 0 ? Number<T>::of(s.value)
                                       : get<T>((const void *)feeds[s.input].at, feeds[s.input].dtype, 0);
                }
            }
            if constexpr (LAWS) {
                const double *table = (const double *)(a.p[4] + now.table);
                r = now.op >= LGAMMA && now.op <= LOG_IVE ? law(now.op, x[0], now.param, table)
                    : now.op == MOVE                      ? x[0]
                                                          : apply(now.op, x[0], x[1], x[2], now.dtype);
            } else r = now.op == MOVE ? x[0] : apply(now.op, x[0], x[1], x[2], now.dtype);
        }
        column[now.reg * blockDim.x] = r;
        if (now.store >= 0) put((void *)outs[now.store].at, (int)outs[now.store].dtype, i, r);
    }
}

KERNEL(program_f32, 128) { SHARED(float, file); run<float, false>(a, file); }
KERNEL(program_f64, 128) { SHARED(double, file); run<double, false>(a, file); }
KERNEL(program_i64, 128) { SHARED(long long, file); run<long long, false>(a, file); }
KERNEL(laws_f32, 128) { SHARED(float, file); run<float, true>(a, file); }
KERNEL(laws_f64, 128) { SHARED(double, file); run<double, true>(a, file); }
