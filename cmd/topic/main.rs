//! The topic service; see `cmd::service`.

fn main() -> std::process::ExitCode {
    cmd::service::topic(std::env::args_os())
}
