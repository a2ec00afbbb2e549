//! See `cmd::load`.

fn main() -> std::process::ExitCode {
    cmd::load::load(std::env::args_os())
}
