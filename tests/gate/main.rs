//! The gate of the C ABI. The headers may only grow against every frozen generation under `tests/abi/frozen`, unless
//! they say that they are another one (`compare`); the gate is shown each kind of break and must see it (`breaks`);
//! compilers agree with what we compute of the headers, and the headers compile everywhere (`compilers`); frozen hosts
//! and plugins run on today's engine, and newer ones on it too (`matrix`); and the library bears company: a second
//! copy of itself, and another engine of that size (`company`).

mod breaks;
mod company;
mod compare;
mod compilers;
mod frozen;
mod layout;
mod matrix;
mod reader;
mod tools;
