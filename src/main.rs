//! The `diffx` command: a host like any other.
mod command;

fn main() -> std::process::ExitCode {
    command::run()
}
