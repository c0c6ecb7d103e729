//! Other languages over the C ABI: each binding's own tests, and one program in every language that must print the same
//! checksum of the same samples. What is not installed is skipped by name.

mod hello;
mod host;
mod love;
mod lua;
mod python;
