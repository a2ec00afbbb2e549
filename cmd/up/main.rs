//! See `cmd::up`.

fn main() -> std::process::ExitCode {
    cmd::up::up(std::env::args_os())
}
