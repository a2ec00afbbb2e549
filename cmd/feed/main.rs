//! The feed service; see `cmd::service`.

fn main() -> std::process::ExitCode {
    cmd::service::feed(std::env::args_os())
}
