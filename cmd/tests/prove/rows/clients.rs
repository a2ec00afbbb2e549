//! Callers that do not behave, and a gateway that runs short of descriptors.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use super::{Length, instances::settled};
use crate::{
    report::Outcome,
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

pub(super) fn slow(length: &Length) -> Outcome {
    const HEADER: Duration = Duration::from_secs(3);
    const IDLE: Duration = Duration::from_secs(5);
    /// The listener's own limit.
    const WRITE: Duration = Duration::from_secs(10);
    Scene::start(length, &["-http.header.timeout=3s", "-http.idle.timeout=5s"]).under_load(|scene, load| {
        let connect = || TcpStream::connect(("127.0.0.1", scene.gateway.port)).unwrap();
        let struck = load.now();
        let mut heads: Vec<_> = (0..2000).map(|_| connect()).collect();
        let mut idle: Vec<_> = (0..2000).map(|_| connect()).collect();
        let mut deaf: Vec<_> = (0..50).map(|_| connect()).collect();
        for stream in &mut idle {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        }
        for stream in &mut deaf {
            // Asks for more than the sockets between them hold, and never reads.
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(&b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2000));
        }
        let begun = Instant::now();
        let (mut heads_cut, mut idle_cut, mut deaf_cut) = (None, None, None);
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".chunks(1);
        let (mut heads_open, mut idle_open) = (vec![true; heads.len()], vec![true; idle.len()]);
        while begun.elapsed() < WRITE * 2 && (heads_cut.is_none() || idle_cut.is_none() || deaf_cut.is_none()) {
            // Another byte of each head each half second, spread over it as clients without a common clock would; and so
            // is the looking, which must not be what the others wait for.
            let (byte, pass) = (head.next().unwrap_or(b"a"), Instant::now());
            let slow = heads.chunks_mut(20).zip(heads_open.chunks_mut(20));
            let still = idle.chunks_mut(20).zip(idle_open.chunks_mut(20));
            for (step, ((heads, heads_open), (idle, idle_open))) in (1..).zip(slow.zip(still)) {
                for (stream, open) in heads.iter_mut().zip(heads_open).filter(|(_, open)| **open) {
                    let _ = stream.write(byte);
                    *open = !closed(stream);
                }
                for (stream, open) in idle.iter_mut().zip(idle_open).filter(|(_, open)| **open) {
                    *open = !closed(stream);
                }
                wait((Duration::from_millis(5) * step).saturating_sub(pass.elapsed()));
            }
            let all_cut = |open: &[bool]| (!open.contains(&true)).then(|| begun.elapsed());
            heads_cut = heads_cut.or_else(|| all_cut(&heads_open));
            idle_cut = idle_cut.or_else(|| all_cut(&idle_open));
            let cut = scene.gateway.metric("http_connection_errors_total{reason=\"write_timeout\"}");
            deaf_cut = deaf_cut.or_else(|| (cut >= Some(50.0)).then(|| begun.elapsed()));
        }
        let over = load.now();
        // Half a second until each has sent its first byte; two ticks of the listener's clock, a quarter of a second each;
        // a third in which those who are late together get their ends by turns; half a second until it is seen here.
        let seen = [
            ("2,000 slow heads", heads_cut, HEADER),
            ("2,000 idle ones", idle_cut, IDLE),
            ("50 that never read", deaf_cut, WRITE),
        ];
        let seen = seen.into_iter().fold(Seen::default(), |seen, (who, cut, limit)| {
            let bound = limit + Duration::from_secs(2);
            let what = format!("{who} are cut at {limit:?}, seen");
            seen.within(&what, cut.unwrap_or(Duration::MAX), bound)
        });
        seen.later(settled(length, struck, over)).no_failed_reads().no_failed_writes()
    })
}

pub(super) fn descriptors(length: &Length) -> Outcome {
    Scene::start(length, &[]).under_load(|scene, _| {
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
            .no_failed_reads()
            .no_failed_writes()
    })
}
