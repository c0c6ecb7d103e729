//! The interpreter: every instruction over one block of elements, then the next block.
//!
//! A block is small enough that all registers stay in the first-level cache. Operands are read where they lie; only
//! broadcast operands, other types and results that land on an operand pass through a register.

use super::BLOCK;
use super::element::{Convert, Element, Special, with_type};
use super::level::Level;
use crate::base::{DType, MAX_RANK};
use crate::graph::Op;
use crate::graph::program::Access;

/// Where a block of an operand or result is.
#[derive(Clone, Copy)]
pub(super) enum Spot {
    Unused,
    /// Byte offset in the register file.
    Register(usize),
    /// Element 0 of a tensor of the register type.
    Memory(*mut u8),
}

/// What a line does.
pub(super) enum Task {
    /// Brings an operand in.
    Load {
        from: *const u8,
        dtype: DType,
        access: Access,
    },
    Move,
    Apply {
        op: Op,
        special: Special,
    },
}

/// An instruction with addresses.
pub(super) struct Line {
    pub task: Task,
    pub dtype: DType,
    pub to: Spot,
    pub args: [Spot; 3],
    /// Where the result also goes, converted to `dtype`.
    pub store: Option<*mut u8>,
}

/// A register that holds one value for all elements.
pub(super) enum Fill {
    Value(f64),
    Element { from: *const u8, dtype: DType },
}

/// A program with addresses.
pub(super) struct Lines {
    pub elements: usize,
    /// Byte offset in the register file, and the value.
    pub fills: Vec<(usize, Fill)>,
    /// What is the same for all elements.
    pub once: Vec<Line>,
    pub lines: Vec<Line>,
}

/// Any register type: what the interpreter needs beyond the ops.
pub(super) trait Loadable: Element {
    /// # Safety
    /// `from` must be valid for reading elements `start..start + d.len()` as `access` lays them out.
    unsafe fn load(d: &mut [Self], from: *const u8, dtype: DType, access: &Access, start: usize);
    /// # Safety
    /// `to` must be valid for writing elements `start..start + a.len()` of `dtype`.
    unsafe fn store(a: &[Self], to: *mut u8, dtype: DType, start: usize);
}

macro_rules! loadable {
    ($($T:ty),*) => {
        $(impl Loadable for $T {
            #[inline(always)]
            unsafe fn load(d: &mut [Self], from: *const u8, dtype: DType, access: &Access, start: usize) {
                // Safety: the caller's promise.
                with_type!(dtype, S => unsafe { load::<S, Self>(d, from.cast(), access, start) });
            }

            #[inline(always)]
            unsafe fn store(a: &[Self], to: *mut u8, dtype: DType, start: usize) {
                with_type!(dtype, S => {
                    // Safety: the caller's promise.
                    let d = unsafe { std::slice::from_raw_parts_mut(to.cast::<S>().add(start), a.len()) };
                    for (d, a) in d.iter_mut().zip(a) {
                        *d = (*a).convert();
                    }
                });
            }
        })*
    };
}

loadable!(f32, f64, i64);

/// # Safety
/// As `Loadable::load`, for elements of type `S`.
#[inline(always)]
unsafe fn load<S: Copy + Convert<T>, T: Copy>(
    d: &mut [T],
    from: *const S,
    access: &Access,
    start: usize,
) {
    match access {
        // Safety: the caller's promise.
        Access::Flat => unsafe { run(d, from.add(start), 1) },
        // Safety: the caller's promise.
        Access::Uniform => unsafe { run(d, from, 0) },
        Access::Strided(axes) => {
            let Some((&(extent, stride), outer)) = axes.split_last() else { return };
            // where element `start` stands along each axis; from there on it is counted, not divided
            let mut place = [0; MAX_RANK];
            let (mut rest, mut column, mut line) = (start / extent, start % extent, 0);
            for (at, &(e, s)) in place.iter_mut().zip(outer).rev() {
                *at = rest % e;
                line += *at * s;
                rest /= e;
            }
            let mut left = d;
            while !left.is_empty() {
                let n = (extent - column).min(left.len());
                let (now, later) = left.split_at_mut(n);
                // Safety: the offset is that of the next element, n - 1 more follow on the innermost axis.
                unsafe { run(now, from.add(line + column * stride), stride) };
                (left, column) = (later, 0);
                for (at, &(e, s)) in place.iter_mut().zip(outer).rev() {
                    *at += 1;
                    line += s;
                    if *at < e {
                        break;
                    }
                    line -= e * s;
                    *at = 0;
                }
            }
        }
    }
}

/// # Safety
/// `from` must be valid for reading `d.len()` elements `stride` apart.
#[inline(always)]
unsafe fn run<S: Copy + Convert<T>, T: Copy>(d: &mut [T], from: *const S, stride: usize) {
    match stride {
        // Safety: the caller's promise.
        0 => d.fill(unsafe { from.read() }.convert()),
        1 => {
            // Safety: the caller's promise.
            let a = unsafe { std::slice::from_raw_parts(from, d.len()) };
            for (d, a) in d.iter_mut().zip(a) {
                *d = (*a).convert();
            }
        }
        _ => {
            for (i, d) in d.iter_mut().enumerate() {
                // Safety: the caller's promise.
                *d = unsafe { from.add(i * stride).read() }.convert();
            }
        }
    }
}

/// Runs elements `start..end` with the given register file.
///
/// # Safety
/// All addresses in `program` and the register file must be valid for this use, no result may overlap an operand (other
/// than through `store`, element on element), and the machine must have `level`.
pub(super) unsafe fn interpret<T: Loadable>(
    level: Level,
    program: &Lines,
    file: *mut u8,
    start: usize,
    end: usize,
) {
    match level {
        // Safety: the caller's promise, and the instructions are there.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::<T>(program, file, start, end) },
        // Safety: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2::<T>(program, file, start, end) },
        // Safety: the caller's promise.
        _ => unsafe { blocks::<T>(program, file, start, end) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn avx512<T: Loadable>(program: &Lines, file: *mut u8, start: usize, end: usize) {
    // Safety: the caller's promise.
    unsafe { blocks::<T>(program, file, start, end) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2<T: Loadable>(program: &Lines, file: *mut u8, start: usize, end: usize) {
    // Safety: the caller's promise.
    unsafe { blocks::<T>(program, file, start, end) }
}

#[inline(always)]
unsafe fn blocks<T: Loadable>(program: &Lines, file: *mut u8, start: usize, end: usize) {
    let widest = BLOCK.min(end - start);
    for (offset, fill) in &program.fills {
        // Safety: the register is `BLOCK` elements of the file.
        let d = unsafe { std::slice::from_raw_parts_mut(file.add(*offset).cast::<T>(), widest) };
        match fill {
            Fill::Value(v) => d.fill(T::from_f64(*v)),
            // Safety: the operand has one element.
            Fill::Element { from, dtype } => unsafe {
                T::load(d, *from, *dtype, &Access::Uniform, 0);
            },
        }
    }
    for line in &program.once {
        // Safety: the caller's promise; operands and result are registers.
        unsafe { step::<T>(line, file, start, widest) };
    }
    let mut at = start;
    while at < end {
        let n = BLOCK.min(end - at);
        for line in &program.lines {
            // Safety: the caller's promise.
            unsafe { step::<T>(line, file, at, n) };
        }
        at += n;
    }
}

#[inline(always)]
unsafe fn step<T: Loadable>(line: &Line, file: *mut u8, at: usize, n: usize) {
    let address = |spot: Spot| -> (*mut T, usize) {
        match spot {
            Spot::Unused => (std::ptr::NonNull::dangling().as_ptr(), 0),
            // Safety: registers lie in the file.
            Spot::Register(offset) => (unsafe { file.add(offset) }.cast(), n),
            // Safety: the tensor has at least `at + n` elements.
            Spot::Memory(base) => (unsafe { base.cast::<T>().add(at) }, n),
        }
    };
    let operand = |spot: Spot| {
        let (p, n) = address(spot);
        // Safety: n elements at p, see `address`; no result of this line overlaps them.
        unsafe { std::slice::from_raw_parts(p.cast_const(), n) }
    };
    let (p, n) = address(line.to);
    // Safety: n elements at p, and no operand of this line overlaps them.
    let d = unsafe { std::slice::from_raw_parts_mut(p, n) };
    match &line.task {
        // Safety: the operand is as long as the program says.
        Task::Load { from, dtype, access } => unsafe { T::load(d, *from, *dtype, access, at) },
        Task::Move => d.copy_from_slice(operand(line.args[0])),
        Task::Apply { op, special } => {
            let [a, b, c] = line.args.map(operand);
            T::apply(*op, line.dtype, special, d, a, b, c);
        }
    }
    if let Some(to) = line.store {
        // Safety: the output has at least `at + n` elements.
        unsafe { T::store(d, to, line.dtype, at) };
    }
}
