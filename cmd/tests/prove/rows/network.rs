//! Packets that are lost or late, for one instance only: the feed on 127.0.0.3.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use super::{Length, instances::settled};
use crate::{
    report::{Check, Outcome},
    scene::{EACH, Scene, Seen, wait},
};

pub(super) fn run(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error} (iptables, iproute2)"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(super) fn dropped(length: &Length) -> Outcome {
    let still = length.of(20, 6);
    Scene::start(&[]).under_load(move |scene, load| {
        let rules = ["INPUT -d 127.0.0.3 -j DROP", "INPUT -s 127.0.0.3 -j DROP"];
        rules.iter().for_each(|rule| run(&format!("iptables -A {rule}")));
        let struck = load.now();
        wait(still);
        let over = load.now();
        let healed = Instant::now();
        rules.iter().for_each(|rule| run(&format!("iptables -D {rule}")));
        scene.in_rotation("feed", EACH);
        Seen::default()
            .healed(healed.elapsed())
            .within("back in rotation", healed.elapsed(), Duration::from_secs(10))
            .later(settled(struck, over))
            .no_failed_reads()
            .honest_writes()
    })
}

pub(super) fn slow(length: &Length) -> Outcome {
    let still = length.of(20, 6);
    Scene::start(&["-client.balance=p2c"]).under_load(move |scene, _| {
        run("tc qdisc add dev lo root handle 1: prio");
        run("tc qdisc add dev lo parent 1:3 handle 30: netem delay 100ms 50ms loss 5%");
        for end in ["dst", "src"] {
            run(&format!("tc filter add dev lo parent 1: protocol ip u32 match ip {end} 127.0.0.3/32 flowid 1:3"));
        }
        // Time for the latencies to be learnt.
        wait(Duration::from_secs(2));
        let answered = |scene: &mut Scene| -> Vec<f64> {
            let series = "rpc_server_duration_seconds_count{code=\"OK\",method=\"GetFeeds\",service=\"feed\"}";
            scene.feeds().iter().map(|feed| feed.process.metric(series).unwrap_or(0.0)).collect()
        };
        let first = answered(scene);
        wait(still);
        let last = answered(scene);
        run("tc qdisc del dev lo root");
        let counts: Vec<_> = last.iter().zip(&first).map(|(last, first)| last - first).collect();
        let share = counts[0] / counts.iter().sum::<f64>() * 3.0;
        Seen::default()
            .check(
                "it gets at most a third of its fair share",
                share <= 1.0 / 3.0,
                format!("{share:.3} of its fair share"),
            )
            .no_failed_reads()
            .later(|records, _| {
                let writes = records.iter().filter(|record| record.write).count();
                Check::new("writes went on", writes > 0, writes.to_string())
            })
    })
}
