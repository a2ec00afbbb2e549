//! The API gateway; see `cmd::gateway`.

fn main() -> std::process::ExitCode {
    cmd::gateway::apigateway(std::env::args_os())
}
