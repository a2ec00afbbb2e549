//! The profile service; see `cmd::service`.

fn main() -> std::process::ExitCode {
    cmd::service::profile(std::env::args_os())
}
