//! Packets that are lost or late, for one instance only, on an address of its own. They are late by a proxy: few kernels have netem.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Length, instances::settled};
use crate::{
    report::Outcome,
    rig::{Process, free_port},
    scene::{EACH, Scene, Seen, wait},
};

pub(super) fn run(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error} (iptables, iproute2)"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(super) fn dropped(length: &Length) -> Outcome {
    unreachable(length, &["INPUT -d 127.0.0.3 -j DROP", "INPUT -s 127.0.0.3 -j DROP"])
}

pub(super) fn one_way(length: &Length) -> Outcome {
    unreachable(length, &["INPUT -s 127.0.0.3 -j DROP"])
}

pub(super) fn reset(length: &Length) -> Outcome {
    unreachable(length, &["INPUT -p tcp -d 127.0.0.3 -j REJECT --reject-with tcp-reset"])
}

/// The first feed's packets meet these rules for a while.
fn unreachable(length: &Length, rules: &'static [&'static str]) -> Outcome {
    let still = length.of(20, 6);
    Scene::start(length, &[]).under_load(move |scene, load| {
        rules.iter().for_each(|rule| run(&format!("iptables -A {rule}")));
        let struck = load.now();
        wait(still);
        let over = load.now();
        let healed = Instant::now();
        rules.iter().for_each(|rule| run(&format!("iptables -D {rule}")));
        scene.in_rotation("feed", EACH);
        let healed = healed.elapsed();
        Seen::default()
            .healed(healed)
            .within("back in rotation", healed, Duration::from_secs(10))
            .later(settled(length, struck, over))
            .no_failed_reads()
            .honest_writes()
    })
}

/// Forwards a port to an instance; each way takes 50 to 150 ms while it is slow.
struct Late {
    addr: String,
    slow: Arc<AtomicBool>,
}

impl Late {
    /// Listens on 127.0.0.4, where nobody else is.
    fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.4:0").unwrap();
        let late = Self { addr: listener.local_addr().unwrap().to_string(), slow: Arc::default() };
        let slow = Arc::clone(&late.slow);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else { continue };
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                for (from, to) in [(client, server), back] {
                    forward(from, to, Arc::clone(&slow));
                }
            }
        });
        late
    }
}

/// One way of one connection: what is read is written when its time has come, in order.
fn forward(mut from: TcpStream, mut to: TcpStream, slow: Arc<AtomicBool>) {
    let (send, receive) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
    to.set_nodelay(true).unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let delay = if slow.load(Ordering::SeqCst) { fastrand::u64(50..=150) } else { 0 };
            let due = Instant::now() + Duration::from_millis(delay);
            if send.send((due, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receive {
            wait(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

pub(super) fn slow(length: &Length) -> Outcome {
    let still = length.of(20, 6);
    Scene::start(length, &["-client.balance=p2c"]).under_load(move |scene, _| {
        // One more feed, reached by way of a slow network only.
        let (etcd, store) = (format!("-etcd.addr={}", scene.etcd[0].endpoint()), format!("-store.url={}", scene.store));
        let port = free_port();
        let late = Late::start(format!("127.0.0.1:{port}"));
        let advertise = format!("-advertise.addr={}", late.addr);
        let feed = Process::start_on("feed", port, &[&etcd, &store, &advertise]).ready();
        scene.in_rotation("feed", EACH + 1);
        late.slow.store(true, Ordering::SeqCst);
        let lost = ["INPUT -d 127.0.0.4", "INPUT -s 127.0.0.4"]
            .map(|way| format!("{way} -m statistic --mode random --probability 0.05 -j DROP"));
        lost.iter().for_each(|rule| run(&format!("iptables -A {rule}")));
        // Time for the latencies to be learnt.
        wait(Duration::from_secs(2));
        let answered = |scene: &mut Scene| -> Vec<f64> {
            let series = "rpc_server_duration_seconds_count{code=\"OK\",method=\"GetFeeds\",service=\"feed\"}";
            let feeds = scene.feeds().iter().map(|feed| &feed.process).chain([&feed]);
            feeds.map(|feed| feed.metric(series).unwrap_or(0.0)).collect()
        };
        let first = answered(scene);
        wait(still);
        let last = answered(scene);
        lost.iter().for_each(|rule| run(&format!("iptables -D {rule}")));
        assert!(feed.stop().success());
        scene.in_rotation("feed", EACH);
        let counts: Vec<_> = last.iter().zip(&first).map(|(last, first)| last - first).collect();
        let share = counts[EACH] / counts.iter().sum::<f64>() * counts.len() as f64;
        Seen::default()
            .check(
                "it gets at most a third of its fair share",
                share <= 1.0 / 3.0,
                format!("{share:.3} of its fair share"),
            )
            .no_failed_reads()
            .honest_writes()
    })
}
