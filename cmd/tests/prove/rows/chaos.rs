//! Faults at random, two at a time, for as long as it takes to believe it.

use std::time::Duration;

use rustix::process::Signal;

use super::{Length, network::run};
use crate::{
    load::Class,
    report::{Check, Outcome},
    rig::Process,
    scene::{EACH, Scene, Seen, signal, wait},
};

/// What is done, and undone some seconds later. The first feed of three is never touched by more than one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    KillFeed,
    StopFeed,
    FreezeFeed,
    DropPackets,
    RestartProfile,
    KillTopic,
    KillEtcd,
    FreezeEtcd,
    RevokeLeases,
}

const FAULTS: [Fault; 9] = [
    Fault::KillFeed,
    Fault::StopFeed,
    Fault::FreezeFeed,
    Fault::DropPackets,
    Fault::RestartProfile,
    Fault::KillTopic,
    Fault::KillEtcd,
    Fault::FreezeEtcd,
    Fault::RevokeLeases,
];

impl Fault {
    /// The instance it is done to: each has its own, so that one of three lives.
    fn victim(self) -> usize {
        match self {
            Self::DropPackets => 0,
            Self::KillFeed | Self::StopFeed | Self::FreezeFeed => 1,
            Self::RestartProfile => EACH,
            _ => 2 * EACH,
        }
    }

    /// Both at once would be one fault, or a registry that nobody could use.
    fn goes_with(self, other: Self) -> bool {
        let etcd = |fault| matches!(fault, Self::KillEtcd | Self::FreezeEtcd | Self::RevokeLeases);
        let feed = |fault| matches!(fault, Self::KillFeed | Self::StopFeed | Self::FreezeFeed);
        self != other && !(etcd(self) && etcd(other)) && !(feed(self) && feed(other))
    }

    fn strike(self, scene: &mut Scene) {
        let victim = self.victim();
        match self {
            Self::KillFeed | Self::KillTopic => signal(&scene.services[victim], Signal::KILL),
            Self::StopFeed | Self::RestartProfile => signal(&scene.services[victim], Signal::TERM),
            Self::FreezeFeed => signal(&scene.services[victim], Signal::STOP),
            Self::DropPackets => packets("-A"),
            Self::KillEtcd => scene.etcd[0].kill(),
            Self::FreezeEtcd => scene.etcd[0].freeze(),
            Self::RevokeLeases => {
                for lease in scene.etcd[0].leases() {
                    scene.etcd[0].ctl(&["lease", "revoke", &lease]);
                }
            }
        }
    }

    fn mend(self, scene: &mut Scene) {
        let victim = self.victim();
        match self {
            Self::KillFeed | Self::KillTopic | Self::StopFeed | Self::RestartProfile => {
                scene.services[victim].restart()
            }
            Self::FreezeFeed => signal(&scene.services[victim], Signal::CONT),
            Self::DropPackets => packets("-D"),
            Self::KillEtcd => scene.etcd[0].restart(),
            Self::FreezeEtcd => scene.etcd[0].thaw(),
            Self::RevokeLeases => {}
        }
    }
}

fn packets(verb: &str) {
    for rule in ["INPUT -d 127.0.0.3 -j DROP", "INPUT -s 127.0.0.3 -j DROP"] {
        run(&format!("iptables {verb} {rule}"));
    }
}

/// (resident bytes, open descriptors, threads) of a process.
fn usage(process: &Process) -> (f64, usize, f64) {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    (field("VmRSS:") * 1024.0, descriptors, field("Threads:"))
}

pub(super) fn random_pairs(length: &Length) -> Outcome {
    let rounds = length.of(600, 60).as_secs() / 15;
    let seed = std::env::var("PROVE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = fastrand::Rng::with_seed(seed);
    Scene::start(&[]).under_load(move |scene, _| {
        let before = usage(&scene.gateway);
        let mut done = std::collections::BTreeMap::<String, usize>::new();
        for _ in 0..rounds {
            let first = FAULTS[random.usize(..FAULTS.len())];
            let fits: Vec<_> = FAULTS.into_iter().filter(|other| first.goes_with(*other)).collect();
            let pair = [first, fits[random.usize(..fits.len())]];
            // Leases are revoked through etcd, so that comes before etcd is away.
            pair.iter().for_each(|fault| fault.strike(scene));
            wait(Duration::from_secs(random.u64(3..8)));
            pair.iter().for_each(|fault| fault.mend(scene));
            for name in ["feed", "profile", "topic"] {
                scene.in_rotation(name, EACH);
            }
            wait(Duration::from_secs(3));
            pair.iter().for_each(|fault| *done.entry(format!("{fault:?}")).or_default() += 1);
        }
        let after = usage(&scene.gateway);
        let panics = scene.services.iter().map(|one| &one.process).chain([&scene.gateway]);
        let panics = panics.filter(|process| process.log().contains("panic")).count();
        let grown = (after.0 - before.0) / 1_048_576.0;
        Seen::default()
            .check("seed, rounds and faults", true, format!("seed {seed}, {rounds} rounds, {done:?}"))
            .check("the gateway's memory: at most 64 MiB more", grown <= 64.0, format!("{grown:.1} MiB more"))
            .check(
                "its descriptors and threads are as before",
                after.1 <= before.1 + 20 && after.2 <= before.2,
                format!("{} and {}, then {} and {}", before.1, before.2, after.1, after.2),
            )
            .check("no panic line", panics == 0, panics.to_string())
            .later(|records, _| {
                let wrong = records.iter().filter(|one| !one.write && matches!(one.class, Class::Failed(_))).count();
                Check::new("0 failed reads", wrong == 0, wrong.to_string())
            })
            .no_failed_reads()
            .honest_writes()
    })
}
