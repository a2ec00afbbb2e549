//! The contracts held by programs that others wrote: OpenAPI by schemathesis, gRPC by grpcio.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::rig::System;

/// Examples for each route, phase and kind at most.
const EXAMPLES: &str = "60";
/// The same requests each time.
const SEED: &str = "20161210";

/// A program of the virtual environment that `make test-needs` makes.
fn program(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = root.join("target/venv/bin").join(name);
    assert!(path.exists(), "no {}: make test-needs installs it", path.display());
    path
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    println!("{}", out.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default());
}

#[test]
fn gateway_answers_nothing_that_its_openapi_document_does_not_describe() {
    let system = System::start(2);
    let url = format!("http://127.0.0.1:{}", system.port());
    let document = std::env::temp_dir().join(format!("openapi-{}.json", system.port()));
    std::fs::write(&document, crate::rig::get(system.port(), "/openapi.json").unwrap().text()).unwrap();
    run(Command::new(program("openapi-spec-validator")).arg(&document));
    std::fs::remove_file(&document).unwrap();
    // In a folder of its own: it keeps what it learnt in one.
    let folder = cmd_store::testing::Folder::new();
    run(Command::new(program("schemathesis"))
        .current_dir(folder.path())
        .arg("--config-file")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis.toml"))
        .args(["run", &format!("{url}/openapi.json"), "--url", &url, "--no-color", "--seed", SEED])
        .args(["--checks", "all", "--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing"]));
    assert_eq!(system.gateway.metric("http_panics_total"), Some(0.0));
}

#[test]
fn strangers_use_the_services_through_reflection() {
    let system = System::start(1);
    let addresses = ["feed", "profile", "topic"].map(|name| {
        let service = system.services.iter().find(|service| service.name == name).unwrap();
        format!("127.0.0.1:{}", service.port)
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reflection.py");
    run(Command::new(program("python3")).arg(script).args(addresses));
}
