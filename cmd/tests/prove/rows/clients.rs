//! Callers that do not behave, and a gateway that runs short of descriptors.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use super::{Length, instances::settled};
use crate::{
    report::{Check, Outcome},
    rig::{Process, binary, free_port, get, wait_for},
    scene::{Scene, Seen, wait},
};

/// Whether the other side has closed it; what it still sent is read.
pub(super) fn closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

pub(super) fn slow(_: &Length) -> Outcome {
    Scene::start(&["-http.header.timeout=3s", "-http.idle.timeout=5s"]).under_load(|scene, load| {
        let connect = || TcpStream::connect(("127.0.0.1", scene.gateway.port)).unwrap();
        let struck = load.now();
        let begun = Instant::now();
        let mut heads: Vec<_> = (0..2000).map(|_| connect()).collect();
        let mut idle: Vec<_> = (0..2000).map(|_| connect()).collect();
        let mut deaf: Vec<_> = (0..50).map(|_| connect()).collect();
        for stream in &mut idle {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        }
        for stream in &mut deaf {
            // Asks again and again, and never reads.
            let asks = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(200);
            let _ = stream.write_all(&asks);
        }
        // A byte of a head each half second.
        for number in 0..10 {
            for stream in &mut heads {
                let _ = stream.write_all(&b"GET / HTTP/1.1\r\n"[number..=number]);
            }
            wait(Duration::from_millis(500));
        }
        let over = load.now();
        let cut = |streams: &mut Vec<TcpStream>| streams.iter_mut().map(closed).filter(|cut| *cut).count();
        wait_for("all are cut", || (cut(&mut heads) == 2000 && cut(&mut idle) == 2000).then_some(()));
        let all_cut = begun.elapsed();
        Seen::default()
            .within("slow heads (3 s) and idle ones (5 s) are cut", all_cut, Duration::from_secs(15))
            .later(settled(struck, over))
            .no_failed_reads()
            .no_failed_writes()
    })
}

pub(super) fn descriptors(_: &Length) -> Outcome {
    Scene::start(&[]).under_load(|scene, _| {
        let (port, debug) = (free_port(), free_port());
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 128 && exec \"$@\"", "sh"]).arg(binary("apigateway"));
        command.arg(format!("-http.addr=127.0.0.1:{port}")).arg(format!("-debug.addr=127.0.0.1:{debug}"));
        command.arg(format!("-etcd.addr={}", scene.etcd[0].endpoint()));
        let starved = Process::adopt("apigateway", port, debug, command).ready();
        let mut streams: Vec<_> = (0..500).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        wait(Duration::from_secs(1));
        let cpu = |process: &Process| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
            let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
        };
        let (first, lines) = (cpu(&starved), starved.log().lines().count());
        wait(Duration::from_secs(5));
        let (ticks, said) = (cpu(&starved) - first, starved.log().lines().count() - lines);
        streams.truncate(20);
        let freed = Instant::now();
        wait_for("it accepts again", || get(port, "/healthz").ok().filter(|answer| answer.status == 200));
        let back = freed.elapsed();
        Seen::default()
            .check("no busy loop: at most 20 % of a core", ticks <= 100.0, format!("{:.0} % of a core", ticks / 5.0))
            .check("one log line a second at most", said <= 6, format!("{said} in 5 s"))
            .within("it accepts again", back, Duration::from_secs(1))
            .later(|_, outcome| {
                Check::new("the other gateway goes on", outcome.during.failed == 0, outcome.during.failed.to_string())
            })
            .no_failed_reads()
    })
}
