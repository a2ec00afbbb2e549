//! The contracts held by programs that others wrote: OpenAPI by schemathesis, gRPC by grpcio.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use cmd::{
    flags::{self, FeedFlags, GatewayFlags},
    http::Limits,
};
use serde_json::{Value, json};

use crate::rig::{Http, System};

/// Examples for each route, phase and kind at most.
const EXAMPLES: &str = "40";

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
    // An answer that a busy machine gives late would be a 504, as described, and no fault.
    let system = System::start_with(2, &["-client.timeout=20s", "-client.attempt.timeout=10s"]);
    let url = format!("http://127.0.0.1:{}", system.port());
    let document = std::env::temp_dir().join(format!("openapi-{}.json", system.port()));
    std::fs::write(&document, crate::rig::get(system.port(), "/openapi.json").unwrap().text()).unwrap();
    run(Command::new(program("openapi-spec-validator")).arg(&document));
    std::fs::remove_file(&document).unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    // In a folder of its own: it keeps what it learnt in one.
    let folder = cmd_store::testing::Folder::new();
    run(Command::new(program("schemathesis"))
        .current_dir(folder.path())
        .env("SCHEMATHESIS_HOOKS", tests.join("schemathesis_hooks.py"))
        .arg("--config-file")
        .arg(tests.join("schemathesis.toml"))
        .args(["run", &format!("{url}/openapi.json"), "--url", &url, "--no-color"])
        // The same requests each time; a seed alone does not see to that.
        .args([
            "--generation-deterministic",
            "--checks",
            "all",
            "--max-examples",
            EXAMPLES,
            "--phases",
            "examples,coverage,fuzzing",
        ]));
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

fn described_limits() -> Value {
    let document: Value = serde_json::from_str(apigateway::OPENAPI).unwrap();
    let parts = &document["components"]["schemas"];
    assert_eq!(parts["Profile"]["properties"]["feeds"]["maxItems"], profile::FEEDS_SHOWN);
    document["info"]["x-limits"].clone()
}

#[test]
fn limits_in_the_openapi_document_are_the_defaults_of_listener_and_flags() {
    let (described, limits) = (described_limits(), Limits::default());
    let flags: GatewayFlags = flags::parse("apigateway", ["apigateway".into()]).unwrap();
    for (name, value) in [
        ("head_bytes", json!(limits.header_bytes)),
        ("head_seconds", json!(limits.header_timeout.as_secs())),
        ("head_seconds", json!(flags.http_header_timeout.0.as_secs())),
        ("body_bytes", json!(limits.body_bytes)),
        ("body_bytes", json!(flags.http_body_max.0)),
        ("body_seconds", json!(limits.body_timeout.as_secs())),
        ("connections", json!(limits.connections)),
        ("connections", json!(flags.http_conns_max)),
        ("idle_seconds", json!(limits.idle_timeout.as_secs())),
        ("idle_seconds", json!(flags.http_idle_timeout.0.as_secs())),
        ("requests_in_flight", json!(flags.http_inflight_max)),
        ("request_seconds", json!(flags.client.timeout.0.as_secs())),
        ("idempotency_answers", json!(flags.http_idempotency_max)),
        ("idempotency_seconds", json!(flags.http_idempotency_ttl.0.as_secs())),
    ] {
        assert_eq!(described[name], value, "{name}");
    }
    for (limit, flag) in described["flags"].as_object().unwrap() {
        assert!(described[limit].is_number(), "{limit}");
        let flag = format!("-{}=1", flag.as_str().unwrap());
        let taken = |value: &str| {
            flags::parse::<GatewayFlags>("apigateway", ["apigateway".into(), format!("{flag}{value}").into()])
        };
        assert!(taken("").is_ok() || taken("s").is_ok(), "{flag} is no flag");
    }
}

#[test]
fn limits_and_flags_in_the_security_page_are_those_of_the_code() {
    let page = include_str!("../../../docs/security.md");
    let (http, grpc) = (Limits::default(), proto::shim::Limits::default());
    let gateway: GatewayFlags = flags::parse("apigateway", ["apigateway".into()]).unwrap();
    let feed: FeedFlags = flags::parse("feed", ["feed".into()]).unwrap();
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
    let thousands = |number: u32| format!("{},{:03}", number / 1000, number % 1000);
    assert_eq!(grpc.connections, usize::try_from(feed.own.grpc_conns_max).unwrap());
    for (row, limit) in [
        ("many connections to the gateway", thousands(gateway.http_conns_max)),
        ("many requests at once", gateway.http_inflight_max.to_string()),
        ("large heads", format!("{} KiB", http.header_bytes >> 10)),
        ("slow heads", seconds(gateway.http_header_timeout.0)),
        ("large bodies", format!("{} MiB", gateway.http_body_max.0 >> 20)),
        ("slow bodies", seconds(http.body_timeout)),
        ("readers that do not read", seconds(http.write_timeout)),
        ("idle connections", seconds(gateway.http_idle_timeout.0)),
        ("long calls", seconds(gateway.client.timeout.0)),
        ("many connections to a service", grpc.connections.to_string()),
        ("connections that do not begin", seconds(grpc.handshake)),
        ("many calls on one connection", grpc.streams.to_string()),
        ("large metadata", format!("{} KiB", grpc.header_bytes >> 10)),
        ("long calls at a service", seconds(grpc.call)),
        ("peers that vanish", seconds(grpc.keepalive_interval)),
        ("many idempotency keys", thousands(gateway.http_idempotency_max)),
    ] {
        let row = page.lines().find(|line| line.starts_with(&format!("| {row} |"))).unwrap_or_else(|| panic!("{row}"));
        assert!(row.split('|').nth(2).unwrap().contains(&limit), "{row} is {limit}");
    }
    let helps = ["apigateway", "feed"].map(|program| {
        let output = Command::new(crate::rig::binary(program)).arg("-h").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    let quoted = page.split('`').skip(1).step_by(2).filter(|text| text.starts_with('-') && !text.starts_with("--"));
    let named: Vec<_> = quoted.map(|flag| flag.split('=').next().unwrap()).collect();
    assert!(named.len() > 20, "{named:?}");
    for flag in named {
        assert!(helps.iter().any(|help| help.contains(&format!("  {flag} "))), "{flag} is no flag");
    }
}

#[test]
fn a_head_has_as_many_fields_and_bytes_as_the_document_says() {
    let (system, described) = (System::start(1), described_limits());
    let number = |name: &str| usize::try_from(described[name].as_u64().unwrap()).unwrap();
    let status = |head: String| {
        let mut http = Http::connect(system.port()).unwrap();
        http.send(head.as_bytes()).unwrap();
        http.answer(false).unwrap().status
    };
    let fields = |count: usize| format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    assert_eq!(status(fields(number("head_fields"))), 200);
    assert_eq!(status(fields(number("head_fields") + 1)), 431);
    let bytes = |count: usize| {
        let (before, after) = ("GET /healthz HTTP/1.1\r\nHost: x\r\nA: ", "\r\n\r\n");
        format!("{before}{}{after}", "b".repeat(count - before.len() - after.len()))
    };
    assert_eq!(status(bytes(number("head_bytes"))), 200);
    assert_eq!(status(bytes(number("head_bytes") + 1)), 431);
}
