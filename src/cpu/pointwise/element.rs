//! What each op does to a block of registers, for the three register types.
//!
//! Every loop is over plain slices of equal length with nothing but arithmetic inside: that is the form the compiler
//! turns into vector code, whatever instructions the caller was compiled for. Loops are macros and not closures so that
//! nothing stands between them and the caller's instructions.

use super::math;
use crate::base::DType;
use crate::base::special::{bessel, gamma, normal, polygamma};
use crate::graph::Op;
use bytemuck::Pod;
use half::{bf16, f16};

/// What an op with a parameter needs, made once.
pub(in crate::cpu) enum Special {
    None,
    Ratio(Box<bessel::Ratio>),
    Order(f64),
}

/// A register type.
pub(in crate::cpu) trait Element: Pod + Send + Sync {
    fn from_f64(x: f64) -> Self;

    /// Whether `op` exists for this type.
    fn knows(op: Op) -> bool;

    /// `d = op(a, b, c)`; operands the op does not have are empty.
    fn apply(
        op: Op,
        dtype: DType,
        special: &Special,
        d: &mut [Self],
        a: &[Self],
        b: &[Self],
        c: &[Self],
    );
}

/// Conversion as `cast` does it.
pub(super) trait Convert<T> {
    fn convert(self) -> T;
}

/// A stored bool.
#[derive(Clone, Copy, PartialEq, Eq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub(super) struct Bool(u8);

macro_rules! convert {
    ($($from:ty => $to:ty, $x:ident: $e:expr;)*) => {
        $(impl Convert<$to> for $from {
            #[inline(always)]
            fn convert(self) -> $to {
                let $x = self;
                $e
            }
        })*
    };
}

convert! {
    f32 => f32, x: x;
    f64 => f32, x: x as f32;
    f16 => f32, x: x.to_f32();
    bf16 => f32, x: x.to_f32();
    i32 => f32, x: x as f32;
    i64 => f32, x: x as f32;
    u8 => f32, x: f32::from(x);
    Bool => f32, x: f32::from(u8::from(x.0 != 0));
    f32 => f64, x: f64::from(x);
    f64 => f64, x: x;
    f16 => f64, x: x.to_f64();
    bf16 => f64, x: x.to_f64();
    i32 => f64, x: f64::from(x);
    i64 => f64, x: x as f64;
    u8 => f64, x: f64::from(x);
    Bool => f64, x: f64::from(u8::from(x.0 != 0));
    f32 => i64, x: x as i64;
    f64 => i64, x: x as i64;
    f16 => i64, x: x.to_f64() as i64;
    bf16 => i64, x: x.to_f64() as i64;
    i32 => i64, x: i64::from(x);
    i64 => i64, x: x;
    u8 => i64, x: i64::from(x);
    Bool => i64, x: i64::from(x.0 != 0);
    f32 => f16, x: f16::from_f32(x);
    f32 => bf16, x: bf16::from_f32(x);
    f32 => i32, x: x as i32;
    f32 => u8, x: x as u8;
    f32 => Bool, x: Bool(u8::from(x != 0.0));
    f64 => f16, x: f16::from_f64(x);
    f64 => bf16, x: bf16::from_f64(x);
    f64 => i32, x: x as i32;
    f64 => u8, x: x as u8;
    f64 => Bool, x: Bool(u8::from(x != 0.0));
    i64 => f16, x: f16::from_f64(x as f64);
    i64 => bf16, x: bf16::from_f64(x as f64);
    i64 => i32, x: wrap(x, DType::I32) as i32;
    i64 => u8, x: wrap(x, DType::U8) as u8;
    i64 => Bool, x: Bool(u8::from(x != 0));
}

/// Integer casts keep the low bits.
#[inline(always)]
fn wrap(x: i64, dtype: DType) -> i64 {
    match dtype {
        DType::I32 => i64::from(x as i32),
        DType::U8 => i64::from(x as u8),
        _ => x,
    }
}

/// Runs `$body` with `$S` as the Rust type behind an element type.
macro_rules! with_type {
    ($dtype:expr, $S:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $S = f32;
                $body
            }
            DType::F64 => {
                type $S = f64;
                $body
            }
            DType::F16 => {
                type $S = half::f16;
                $body
            }
            DType::BF16 => {
                type $S = half::bf16;
                $body
            }
            DType::I32 => {
                type $S = i32;
                $body
            }
            DType::I64 => {
                type $S = i64;
                $body
            }
            DType::U8 => {
                type $S = u8;
                $body
            }
            DType::Bool => {
                type $S = crate::cpu::pointwise::element::Bool;
                $body
            }
        }
    };
}
pub(super) use with_type;

macro_rules! map1 {
    ($d:ident, $a:ident, $x:ident => $e:expr) => {
        for (d, a) in $d.iter_mut().zip($a) {
            let $x = *a;
            *d = $e;
        }
    };
}

macro_rules! map2 {
    ($d:ident, $a:ident, $b:ident, $x:ident $y:ident => $e:expr) => {
        for ((d, a), b) in $d.iter_mut().zip($a).zip($b) {
            let ($x, $y) = (*a, *b);
            *d = $e;
        }
    };
}

macro_rules! map3 {
    ($d:ident, $a:ident, $b:ident, $c:ident, $x:ident $y:ident $z:ident => $e:expr) => {
        for (((d, a), b), c) in $d.iter_mut().zip($a).zip($b).zip($c) {
            let ($x, $y, $z) = (*a, *b, *c);
            *d = $e;
        }
    };
}

/// The ops all three types share, 1 and 0 standing for true and false.
macro_rules! shared {
    ($T:ty, $op:ident, $d:ident, $a:ident, $b:ident, $c:ident, $zero:literal, $one:literal, $rest:expr) => {
        match $op {
            Op::Eq => map2!($d, $a, $b, x y => if x == y { $one } else { $zero }),
            Op::Ne => map2!($d, $a, $b, x y => if x != y { $one } else { $zero }),
            Op::Lt => map2!($d, $a, $b, x y => if x < y { $one } else { $zero }),
            Op::Le => map2!($d, $a, $b, x y => if x <= y { $one } else { $zero }),
            Op::Gt => map2!($d, $a, $b, x y => if x > y { $one } else { $zero }),
            Op::Ge => map2!($d, $a, $b, x y => if x >= y { $one } else { $zero }),
            Op::Not => map1!($d, $a, x => if x == $zero { $one } else { $zero }),
            Op::And => map2!($d, $a, $b, x y => if (x != $zero) & (y != $zero) { $one } else { $zero }),
            Op::Or => map2!($d, $a, $b, x y => if (x != $zero) | (y != $zero) { $one } else { $zero }),
            Op::Where => map3!($d, $a, $b, $c, x y z => if x != $zero { y } else { z }),
            Op::Sign => map1!($d, $a, x => if x > $zero { $one } else if x < $zero { -$one } else { $zero }),
            _ => $rest,
        }
    };
}

fn is_shared(op: Op) -> bool {
    use Op::{And, Eq, Ge, Gt, Le, Lt, Ne, Not, Or, Sign, Where};
    matches!(op, Eq | Ne | Lt | Le | Gt | Ge | Not | And | Or | Where | Sign)
}

macro_rules! float_element {
    ($T:ident, $m:ident, $special:ident) => {
        impl Element for $T {
            fn from_f64(x: f64) -> Self {
                x as Self
            }

            fn knows(op: Op) -> bool {
                op.class() == crate::graph::Class::Pointwise
            }

            #[inline(always)]
            fn apply(
                op: Op,
                dtype: DType,
                special: &Special,
                d: &mut [Self],
                a: &[Self],
                b: &[Self],
                c: &[Self],
            ) {
                shared!($T, op, d, a, b, c, 0.0, 1.0, match op {
                    Op::Neg => map1!(d, a, x => -x),
                    Op::Abs => map1!(d, a, x => x.abs()),
                    Op::Recip => map1!(d, a, x => 1.0 / x),
                    Op::Square => map1!(d, a, x => x * x),
                    Op::Sqrt => map1!(d, a, x => x.sqrt()),
                    Op::Rsqrt => map1!(d, a, x => 1.0 / x.sqrt()),
                    Op::Exp => map1!(d, a, x => $m::exp(x)),
                    Op::Expm1 => map1!(d, a, x => $m::expm1(x)),
                    Op::Log => map1!(d, a, x => $m::log(x)),
                    Op::Log1p => map1!(d, a, x => $m::log1p(x)),
                    Op::Sin => {
                        map1!(d, a, x => $m::sin(x));
                        far_turns(d, a, f64::sin);
                    }
                    Op::Cos => {
                        map1!(d, a, x => $m::cos(x));
                        far_turns(d, a, f64::cos);
                    }
                    Op::Tanh => map1!(d, a, x => $m::tanh(x)),
                    Op::Sigmoid => map1!(d, a, x => $m::sigmoid(x)),
                    Op::Silu => map1!(d, a, x => x * $m::sigmoid(x)),
                    Op::Gelu => map1!(d, a, x => $m::gelu(x)),
                    Op::GeluTanh => map1!(d, a, x => $m::gelu_tanh(x)),
                    Op::Relu => map1!(d, a, x => if x <= 0.0 { 0.0 } else { x }),
                    Op::Softplus => map1!(d, a, x => $m::softplus(x)),
                    Op::Erf => map1!(d, a, x => $m::erf(x)),
                    Op::Floor => map1!(d, a, x => x.floor()),
                    Op::Ceil => map1!(d, a, x => x.ceil()),
                    Op::Round => map1!(d, a, x => x.round_ties_even()),
                    Op::IsFinite => map1!(d, a, x => if x.abs() < $T::INFINITY { 1.0 } else { 0.0 }),
                    Op::Cast => round_to(d, a, dtype),
                    Op::Add => map2!(d, a, b, x y => x + y),
                    Op::Sub => map2!(d, a, b, x y => x - y),
                    Op::Mul => map2!(d, a, b, x y => x * y),
                    Op::Div => map2!(d, a, b, x y => x / y),
                    Op::Min => map2!(d, a, b, x y => if (x < y) | (x != x) { x } else { y }),
                    Op::Max => map2!(d, a, b, x y => if (x > y) | (x != x) { x } else { y }),
                    Op::Pow => map2!(d, a, b, x y => f64::from(x).powf(f64::from(y)) as $T),
                    Op::Rem => map2!(d, a, b, x y => {
                        let r = x % y;
                        if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
                    }),
                    _ => $special(op, special, d, a),
                })
            }
        }
    };
}

float_element!(f32, math, special_f32);
float_element!(f64, library, special_f64);

/// f64 through the standard library and `base::special`.
mod library {
    use crate::base::special::normal;

    macro_rules! library {
        ($($name:ident: $x:ident => $e:expr;)*) => {
            $(#[inline(always)] pub(super) fn $name($x: f64) -> f64 { $e })*
        };
    }

    library! {
        exp: x => x.exp();
        expm1: x => x.exp_m1();
        log: x => x.ln();
        log1p: x => x.ln_1p();
        sin: x => x.sin();
        cos: x => x.cos();
        tanh: x => x.tanh();
        sigmoid: x => 1.0 / (1.0 + (-x).exp());
        softplus: x => (if x > 0.0 { x } else { 0.0 }) + (-x.abs()).exp().ln_1p();
        erf: x => normal::erf(x);
        gelu: x => 0.5 * x * normal::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        gelu_tanh: x => 0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044_715 * x * x * x)).tanh());
    }
}

/// Sines of f32 arguments too large for the reduction in `math`.
trait Turn: Copy {
    fn is_far(self) -> bool;
    fn by(self, f: fn(f64) -> f64) -> Self;
}

impl Turn for f32 {
    #[inline(always)]
    fn is_far(self) -> bool {
        self.abs() >= math::TURN_LIMIT
    }

    fn by(self, f: fn(f64) -> f64) -> Self {
        f(f64::from(self)) as Self
    }
}

impl Turn for f64 {
    #[inline(always)]
    fn is_far(self) -> bool {
        false
    }

    fn by(self, f: fn(f64) -> f64) -> Self {
        f(self)
    }
}

#[inline(always)]
fn far_turns<T: Turn>(d: &mut [T], a: &[T], f: fn(f64) -> f64) {
    let mut any = false;
    for x in a {
        any |= x.is_far();
    }
    if any {
        for (d, x) in d.iter_mut().zip(a) {
            if x.is_far() {
                *d = x.by(f);
            }
        }
    }
}

/// The value after a round trip through `dtype`.
#[inline(always)]
fn round_to<T>(d: &mut [T], a: &[T], dtype: DType)
where
    T: Element
        + Convert<f32>
        + Convert<f64>
        + Convert<f16>
        + Convert<bf16>
        + Convert<i32>
        + Convert<i64>
        + Convert<u8>
        + Convert<Bool>,
    f32: Convert<T>,
    f64: Convert<T>,
    f16: Convert<T>,
    bf16: Convert<T>,
    i32: Convert<T>,
    i64: Convert<T>,
    u8: Convert<T>,
    Bool: Convert<T>,
{
    with_type!(dtype, S => map1!(d, a, x => {
        let s: S = x.convert();
        s.convert()
    }));
}

/// The functions of laws, one element at a time in f64.
fn special_f64(op: Op, special: &Special, d: &mut [f64], a: &[f64]) {
    map1!(d, a, x => law(op, special, x));
}

fn special_f32(op: Op, special: &Special, d: &mut [f32], a: &[f32]) {
    match special {
        Special::Ratio(ratio) => map1!(d, a, x => ratio.f32(x)),
        _ => map1!(d, a, x => law(op, special, f64::from(x)) as f32),
    }
}

fn law(op: Op, special: &Special, x: f64) -> f64 {
    match (op, special) {
        (Op::Lgamma, _) => gamma::lgamma(x),
        (Op::LogNdtr, _) => normal::log_ndtr(x),
        (Op::Polygamma, Special::Order(n)) => polygamma::polygamma(*n as u32, x),
        (Op::LogIve, Special::Order(nu)) => bessel::log_ive(*nu, x),
        (Op::BesselRatio, Special::Ratio(ratio)) => ratio.f64(x),
        _ => f64::NAN, // `knows` admits no other op
    }
}

impl Element for i64 {
    fn from_f64(x: f64) -> Self {
        x as Self
    }

    fn knows(op: Op) -> bool {
        use Op::{Abs, Add, Cast, Div, Max, Min, Mul, Neg, Rem, Sub};
        is_shared(op) || matches!(op, Abs | Add | Cast | Div | Max | Min | Mul | Neg | Rem | Sub)
    }

    #[inline(always)]
    fn apply(
        op: Op,
        dtype: DType,
        _: &Special,
        d: &mut [Self],
        a: &[Self],
        b: &[Self],
        c: &[Self],
    ) {
        shared!(
            i64,
            op,
            d,
            a,
            b,
            c,
            0,
            1,
            match op {
                Op::Neg => map1!(d, a, x => wrap(x.wrapping_neg(), dtype)),
                Op::Abs => map1!(d, a, x => wrap(x.wrapping_abs(), dtype)),
                Op::Add => map2!(d, a, b, x y => wrap(x.wrapping_add(y), dtype)),
                Op::Sub => map2!(d, a, b, x y => wrap(x.wrapping_sub(y), dtype)),
                Op::Mul => map2!(d, a, b, x y => wrap(x.wrapping_mul(y), dtype)),
                Op::Div =>
                    map2!(d, a, b, x y => wrap(if y == 0 { 0 } else { x.wrapping_div(y) }, dtype)),
                Op::Rem => map2!(d, a, b, x y => {
                    let r = if y == 0 { 0 } else { x.wrapping_rem(y) };
                    if r != 0 && (r < 0) != (y < 0) { r + y } else { r }
                }),
                Op::Min => map2!(d, a, b, x y => if x < y { x } else { y }),
                Op::Max => map2!(d, a, b, x y => if x > y { x } else { y }),
                Op::Cast if dtype == DType::Bool => map1!(d, a, x => Self::from(x != 0)),
                Op::Cast => map1!(d, a, x => wrap(x, dtype)),
                _ => d.fill(0), // `knows` admits no other op
            }
        )
    }
}
