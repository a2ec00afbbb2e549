//! Faults at random, two at a time, for as long as it takes to believe it.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    Length,
    fake::{Fakes, Mode},
    network::run,
};
use crate::{
    report::Outcome,
    rig::Process,
    scene::{EACH, Scene, Seen, signal, wait},
};

/// What is done, and undone some seconds later. Of three feeds the third is touched by none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillFeed,
    StopFeed,
    FreezeFeed,
    DropPackets,
    LosePackets,
    Unavailable,
    RestartProfile,
    FreezeProfile,
    KillTopic,
    KillEtcd,
    FreezeEtcd,
    WipeEtcd,
    RevokeLeases,
    DeleteKey,
    NonsenseKeys,
    SlowClients,
}

use Fault::*;

const FAULTS: [Fault; 16] = [
    KillFeed,
    StopFeed,
    FreezeFeed,
    DropPackets,
    LosePackets,
    Unavailable,
    RestartProfile,
    FreezeProfile,
    KillTopic,
    KillEtcd,
    FreezeEtcd,
    WipeEtcd,
    RevokeLeases,
    DeleteKey,
    NonsenseKeys,
    SlowClients,
];

/// Whom a fault is done to; two faults of one pair never hit the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// By way of its packets.
    FirstFeed,
    SecondFeed,
    OneMoreFeed,
    Profile,
    Topic,
    Etcd,
    Gateway,
}

/// What is there while a fault lasts.
struct Means {
    fakes: Fakes,
    slow: Vec<TcpStream>,
}

impl Fault {
    fn victim(self) -> Victim {
        match self {
            DropPackets | LosePackets => Victim::FirstFeed,
            KillFeed | StopFeed | FreezeFeed => Victim::SecondFeed,
            Unavailable => Victim::OneMoreFeed,
            RestartProfile | FreezeProfile => Victim::Profile,
            KillTopic => Victim::Topic,
            KillEtcd | FreezeEtcd | WipeEtcd | RevokeLeases | DeleteKey | NonsenseKeys => Victim::Etcd,
            SlowClients => Victim::Gateway,
        }
    }

    /// Needs an etcd that answers.
    fn asks_etcd(self) -> bool {
        self == Unavailable
    }

    fn goes_with(self, other: Self) -> bool {
        let etcd = |fault: Self| fault.victim() == Victim::Etcd;
        let clash = (self.asks_etcd() && etcd(other)) || (other.asks_etcd() && etcd(self));
        self.victim() != other.victim() && !clash
    }

    fn process(self) -> usize {
        match self.victim() {
            Victim::SecondFeed => 1,
            Victim::Profile => EACH,
            _ => 2 * EACH,
        }
    }

    fn strike(self, scene: &mut Scene, means: &mut Means) {
        match self {
            KillFeed | KillTopic => signal(&scene.services[self.process()], Signal::KILL),
            StopFeed | RestartProfile => signal(&scene.services[self.process()], Signal::TERM),
            FreezeFeed | FreezeProfile => signal(&scene.services[self.process()], Signal::STOP),
            DropPackets => packets("-A", ""),
            LosePackets => packets("-A", LOSS),
            Unavailable => means.fakes.register(scene),
            KillEtcd => scene.etcd[0].kill(),
            FreezeEtcd => scene.etcd[0].freeze(),
            WipeEtcd => scene.etcd[0].wipe(),
            RevokeLeases => {
                for lease in scene.etcd[0].leases() {
                    scene.etcd[0].ctl(&["lease", "revoke", &lease]);
                }
            }
            DeleteKey => {
                let key = format!("/services/feed/{}", scene.services[2].addr);
                scene.etcd[0].ctl(&["del", &key]);
            }
            NonsenseKeys => {
                for number in 0..20 {
                    scene.etcd[0].ctl(&["put", &format!("/services/topic/nonsense-{number}"), "nonsense"]);
                }
            }
            SlowClients => {
                let connect = |_| TcpStream::connect(("127.0.0.1", scene.gateway.port)).unwrap();
                means.slow = (0..500).map(connect).collect();
                means.slow.iter_mut().for_each(|stream| stream.write_all(b"GET / HT").unwrap());
            }
        }
    }

    fn mend(self, scene: &mut Scene, means: &mut Means) {
        match self {
            KillFeed | KillTopic | StopFeed | RestartProfile => scene.services[self.process()].restart(),
            FreezeFeed | FreezeProfile => signal(&scene.services[self.process()], Signal::CONT),
            DropPackets => packets("-D", ""),
            LosePackets => packets("-D", LOSS),
            Unavailable => means.fakes.forget(scene),
            KillEtcd | WipeEtcd => scene.etcd[0].restart(),
            FreezeEtcd => scene.etcd[0].thaw(),
            RevokeLeases | DeleteKey => {}
            NonsenseKeys => {
                scene.etcd[0].ctl(&["del", "--prefix", "/services/topic/nonsense-"]);
            }
            SlowClients => means.slow.clear(),
        }
    }
}

const LOSS: &str = " -m statistic --mode random --probability 0.05";

fn packets(verb: &str, which: &str) {
    for way in ["-d", "-s"] {
        run(&format!("iptables {verb} INPUT {way} 127.0.0.3{which} -j DROP"));
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    mebibytes: f64,
    /// Without the connections of its callers, which are the load's.
    descriptors: f64,
    threads: f64,
}

impl Held {
    fn by(process: &Process) -> Self {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count();
        let callers = process.metric("http_connections").unwrap_or(0.0);
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
        };
        Self {
            mebibytes: field("VmRSS:") / 1024.0,
            descriptors: descriptors as f64 - callers,
            threads: field("Threads:"),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            mebibytes: self.mebibytes.max(other.mebibytes),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
        }
    }
}

/// The most that one process of each name holds.
fn held(scene: &Scene) -> BTreeMap<String, Held> {
    let mut most = BTreeMap::<String, Held>::new();
    for process in scene.services.iter().map(|one| &one.process).chain([&scene.gateway]) {
        let held = most.entry(process.name.clone()).or_default();
        *held = held.most(Held::by(process));
    }
    most
}

pub(super) fn random_pairs(length: &Length) -> Outcome {
    const ROUND: Duration = Duration::from_secs(15);
    let rounds = length.of(600, 60).as_secs() / ROUND.as_secs();
    let seed = std::env::var("PROVE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut means = Means { fakes: Fakes::start(1, Mode::Unavailable), slow: Vec::new() };
    Scene::start(length, &[]).under_load(move |scene, load| {
        let before = held(scene);
        let (mut done, mut panics, mut slowest) = (BTreeMap::<String, usize>::new(), 0, Duration::ZERO);
        for _ in 0..rounds {
            let began = Instant::now();
            let first = FAULTS[random.usize(..FAULTS.len())];
            let fits: Vec<_> = FAULTS.into_iter().filter(|other| first.goes_with(*other)).collect();
            let pair = [first, fits[random.usize(..fits.len())]];
            println!("prove:   after {:.1?}: {pair:?}", load.now());
            pair.iter().for_each(|fault| fault.strike(scene, &mut means));
            wait(Duration::from_secs(random.u64(3..8)));
            // A restart throws the log away.
            panics += panicked(scene);
            let mended = Instant::now();
            pair.iter().for_each(|fault| fault.mend(scene, &mut means));
            for name in ["feed", "profile", "topic"] {
                scene.in_rotation(name, EACH);
            }
            slowest = slowest.max(mended.elapsed());
            pair.iter().for_each(|fault| *done.entry(format!("{fault:?}")).or_default() += 1);
            wait(ROUND.saturating_sub(began.elapsed()));
        }
        panics += panicked(scene);
        let seen = Seen::default()
            .healed(slowest)
            .check("seed, rounds and faults", true, format!("seed {seed}, {rounds} rounds, {done:?}"))
            .check("no panic line in any log", panics == 0, panics.to_string())
            .no_failed_reads()
            .honest_writes();
        before.iter().zip(held(scene).values()).fold(seen, |seen, ((name, before), after)| {
            seen.check(
                &format!("{name}: memory at most 64 MiB more, descriptors and threads as before"),
                after.mebibytes <= before.mebibytes + 64.0
                    && after.descriptors <= before.descriptors + 8.0
                    && after.threads <= before.threads,
                format!("{before:?}, then {after:?}"),
            )
        })
    })
}

fn panicked(scene: &Scene) -> usize {
    let processes = scene.services.iter().map(|one| &one.process).chain([&scene.gateway]);
    processes.filter(|process| process.log().contains("panic")).count()
}
