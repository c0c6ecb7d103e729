//! What `make install` and `make dist` lay down, used as a stranger would: from a folder it was moved to, through
//! pkg-config, by plain flags and by CMake, in C and C++, shared and static; and what the files say of themselves.
//! The library is the one built for these tests: cargo is asked for the built-in plugins as files only.

mod cplusplus;
mod families;
mod files;
mod programs;
mod tree;
