//! The system under fault: etcd, three instances of each service on shared stores, a gateway, and the load.

use std::time::Duration;

use client_core::testing::Etcd;
use cmd_store::{StoreUrl, testing::Postgres};
use rustix::process::Signal;

use crate::{
    load::{Class, Load, READERS, Record, WRITER},
    report::{Check, Outcome, Window},
    rig::{Http, Process, free_port, get, wait_for},
    rows::Length,
};

/// Of the requests that should have gone well and did not, so many are told of one by one.
const TOLD: usize = 5;
/// Instances of each service.
pub(crate) const EACH: usize = 3;

/// Everything that runs.
pub(crate) struct Scene {
    pub(crate) etcd: Vec<Etcd>,
    pub(crate) gateway: Process,
    /// Feeds first.
    pub(crate) services: Vec<Instance>,
    /// Where they keep everything.
    pub(crate) store: String,
    /// Not SQLite: a process that is stopped in the middle of a commit keeps the others from the file.
    _postgres: Postgres,
    /// How long the load goes on before and after a fault.
    calm: Duration,
}

/// One service's process, and how it was started.
pub(crate) struct Instance {
    pub(crate) process: Process,
    pub(crate) addr: String,
    args: Vec<String>,
}

impl Instance {
    fn start(name: &str, port: u16, args: Vec<String>, host: &str) -> Self {
        let addr = format!("{host}:{port}");
        let process = Process::start_on(name, port, &refs(&args));
        Self { process, addr, args }
    }

    /// Starts it again, as it was; it must have ended.
    pub(crate) fn restart(&mut self) {
        let (name, port) = (self.process.name.clone(), self.process.port);
        self.process.exited();
        self.process = Process::start_on(&name, port, &refs(&self.args));
    }
}

fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

impl Scene {
    pub(crate) fn start(length: &Length, gateway: &[&str]) -> Self {
        Self::start_on(length, vec![Etcd::start()], gateway)
    }

    /// The first feed listens on 127.0.0.3, so that packets to and from it can be told from all others.
    pub(crate) fn start_on(length: &Length, etcd: Vec<Etcd>, gateway: &[&str]) -> Self {
        let postgres = Postgres::start();
        let StoreUrl::Postgres(store) = postgres.database("app") else { panic!("a database has a URL") };
        let endpoints: Vec<_> = etcd.iter().map(Etcd::endpoint).collect();
        let registry = format!("-etcd.addr={}", endpoints.join(","));
        let mut services = Vec::new();
        for name in ["feed", "profile", "topic"] {
            for _ in 0..EACH {
                let host = if services.is_empty() { "127.0.0.3" } else { "127.0.0.1" };
                let port = free_port();
                let args = vec![registry.clone(), format!("-store.url={store}"), format!("-addr={host}:{port}")];
                services.push(Instance::start(name, port, args, host));
            }
        }
        let args: Vec<&str> = [registry.as_str()].into_iter().chain(gateway.iter().copied()).collect();
        let gateway = Process::start("apigateway", &args).ready();
        let scene =
            Self { etcd, gateway, services, store: store.to_string(), _postgres: postgres, calm: length.of(5, 2) };
        for name in ["feed", "profile", "topic"] {
            scene.in_rotation(name, EACH);
        }
        scene.fill();
        scene
    }

    /// What reads will ask for.
    fn fill(&self) {
        let mut http = Http::connect(self.gateway.port).unwrap();
        let mut put = |target: &str, body: String| {
            assert_eq!(http.request("PUT", target, &[], body.as_bytes()).unwrap().status, 200, "{body}");
        };
        for user in 1..=READERS {
            for id in [1, 2] {
                put("/api/feed/create_feed", format!(r#"{{"id": {id}, "user_id": {user}, "content": "kept"}}"#));
            }
            let profile = format!(r#"{{"user_id": {user}, "name": "kept", "company": "", "title": ""}}"#);
            put("/api/profile/create_profile", profile);
            let topic = format!(r#"{{"topic_id": {user}, "subject": "kept", "content": ""}}"#);
            put("/api/topic/create_topic", topic);
        }
    }

    pub(crate) fn feeds(&mut self) -> &mut [Instance] {
        &mut self.services[..EACH]
    }

    /// Instances of a service as the gateway has them: known, and of these in rotation.
    pub(crate) fn count(&self, service: &str) -> (usize, usize) {
        let instances = get(self.gateway.debug, "/instances").unwrap().json()[service]["instances"].clone();
        let instances = instances.as_array().unwrap().clone();
        let ready = instances.iter().filter(|one| one["ready"] == true && one["breaker"] == "closed").count();
        (instances.len(), ready)
    }

    /// Waits until so many instances are known and in rotation.
    pub(crate) fn in_rotation(&self, service: &str, count: usize) {
        wait_for(&format!("{count} of {service} in rotation"), || {
            (self.count(service) == (count, count)).then_some(())
        });
    }

    /// Whether every instance's key stands in etcd.
    pub(crate) fn all_registered(&self) -> bool {
        let keys = self.etcd[0].keys("/services/");
        self.services.iter().all(|one| keys.iter().any(|key| key.ends_with(&format!("/{}", one.addr))))
    }

    /// How often the gateway has an address among a service's instances.
    pub(crate) fn count_of(&self, service: &str, addr: &str) -> usize {
        let instances = get(self.gateway.debug, "/instances").unwrap().json()[service]["instances"].clone();
        instances.as_array().unwrap().iter().filter(|one| one["addr"] == addr).count()
    }

    /// The sum of the gateway's metrics that begin with `series` and hold `label`.
    pub(crate) fn gateway_sum(&self, series: &str, label: &str) -> f64 {
        let text = get(self.gateway.debug, "/metrics").unwrap().text();
        let lines = text.lines().filter(|line| line.starts_with(series) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Calls of the gateway to services, and attempts made for them.
    fn attempts(&self) -> (f64, f64) {
        (self.gateway_sum("rpc_client_duration_seconds_count{", ""), self.gateway_sum("rpc_client_attempts_total{", ""))
    }

    /// Runs the load, before, during and after `fault`, which tells what it saw; then looks for what was acknowledged.
    pub(crate) fn under_load(mut self, fault: impl FnOnce(&mut Self, &Load) -> Seen) -> Outcome {
        let load = Load::start(self.gateway.port);
        wait(Duration::from_secs(1));
        let (first, calls) = (load.now(), self.attempts());
        wait(self.calm);
        let struck = load.now();
        let seen = fault(&mut self, &load);
        let over = load.now();
        wait(self.calm);
        let (end, after) = (load.now(), self.attempts());
        let (records, acknowledged) = load.stop();
        let window = |from, to| Window::of(&records, from, to);
        let mut outcome = Outcome {
            before: window(first, struck),
            during: window(struck, over),
            after: window(over, end),
            heal: seen.heal,
            amplification: Some((after.1 - calls.1) / (after.0 - calls.0).max(1.0)),
            checks: seen.checks,
            failures: failures(&records),
        };
        for check in seen.later {
            outcome.checks.push(check(&records, &outcome));
        }
        let lost = self.lost(&acknowledged);
        outcome.checks.push(Check::new(
            "every acknowledged write is there",
            lost == 0,
            format!("{lost} of {} lost", acknowledged.len()),
        ));
        outcome
    }

    fn lost(&self, acknowledged: &[i64]) -> usize {
        let mut http = Http::connect(self.gateway.port).unwrap();
        let mut found = std::collections::BTreeSet::new();
        loop {
            let after = found.last().copied().unwrap_or(0);
            let target = format!("/api/feed/get_feeds?user_id={WRITER}&size=1000&after_id={after}");
            let answer = wait_for("a true answer", || {
                let answer = http.request("GET", &target, &[("Prefer", "handling=strict")], b"").ok()?;
                (answer.status == 200).then_some(answer)
            });
            let page = answer.json()["feeds"].as_array().unwrap().clone();
            if page.is_empty() {
                return acknowledged.iter().filter(|id| !found.contains(*id)).count();
            }
            found.extend(page.iter().map(|feed| feed["id"].as_i64().unwrap()));
        }
    }
}

/// Decides when all is over.
pub(crate) type Later = Box<dyn Fn(&[Record], &Outcome) -> Check>;

/// What a fault saw while it was done.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) heal: Option<Duration>,
    pub(crate) checks: Vec<Check>,
    pub(crate) later: Vec<Later>,
}

impl Seen {
    pub(crate) fn check(mut self, what: &str, passed: bool, measured: String) -> Self {
        self.checks.push(Check::new(what, passed, measured));
        self
    }

    pub(crate) fn later(mut self, check: impl Fn(&[Record], &Outcome) -> Check + 'static) -> Self {
        self.later.push(Box::new(check));
        self
    }

    /// A time that must not be longer than a bound.
    pub(crate) fn within(self, what: &str, took: Duration, bound: Duration) -> Self {
        self.check(&format!("{what} within {bound:?}"), took <= bound, format!("{took:.1?}"))
    }

    pub(crate) fn healed(mut self, took: Duration) -> Self {
        self.heal = Some(took);
        self
    }

    /// No read was anything but true.
    pub(crate) fn no_failed_reads(self) -> Self {
        self.later(|records, _| {
            let wrong: Vec<_> = records.iter().filter(|record| !record.write && record.class != Class::Good).collect();
            let mut measured = format!("{} of {}", wrong.len(), records.len());
            for Record { due, what, class, latency, .. } in wrong.iter().take(TOLD) {
                measured += &format!("; after {due:.1?} {what:?}: {class:?} in {latency:.0?}");
            }
            Check::new("0 failed reads, 0 degraded", wrong.is_empty(), measured)
        })
    }

    /// No write was anything but acknowledged.
    pub(crate) fn no_failed_writes(self) -> Self {
        self.later(|records, _| {
            let wrong = records.iter().filter(|record| record.write && record.class != Class::Good).count();
            Check::new("0 failed writes", wrong == 0, format!("{wrong} of {}", records.len() / 6))
        })
    }

    /// While the fault was done, nobody else's request failed. (A flood takes its share of cores that all processes here
    /// have in common, so that a read may come too late and be degraded.)
    pub(crate) fn others_unhurt(self) -> Self {
        self.later(|_, outcome| {
            let Window { requests, failed_reads, failed_writes, degraded, .. } = outcome.during;
            let failed = failed_reads + failed_writes;
            let measured = format!("{failed} failed, {degraded} degraded of {requests}");
            Check::new("others' requests: 0 failed", failed == 0, measured)
        })
    }

    /// Writes were acknowledged, or refused with the words that they may have happened, or did not.
    pub(crate) fn honest_writes(self) -> Self {
        self.refused_writes(&[503, 504], &["may have happened", "did not happen"])
    }

    /// Writes were acknowledged, or refused with one of these statuses and some of these words.
    pub(crate) fn refused_writes(self, statuses: &'static [u16], words: &'static [&'static str]) -> Self {
        self.later(move |records, _| {
            let honest = |class: &Class| match class {
                Class::Good => true,
                Class::Refused(status, detail) => {
                    statuses.contains(status) && words.iter().any(|words| detail.contains(words))
                }
                Class::Degraded(_) | Class::Failed(_) => false,
            };
            let wrong = records.iter().filter(|record| record.write && !honest(&record.class)).count();
            let refused = records.iter().filter(|record| matches!(record.class, Class::Refused(..))).count();
            let what = format!("writes not acknowledged are {statuses:?} and say: {}", words.join(", or: "));
            Check::new(&what, wrong == 0, format!("{refused} so, {wrong} otherwise"))
        })
    }
}

fn failures(records: &[Record]) -> std::collections::BTreeMap<String, usize> {
    let mut failures = std::collections::BTreeMap::new();
    for record in records {
        let kind = format!("{:?}", record.what);
        let text = match &record.class {
            Class::Good => continue,
            Class::Degraded(how) => format!("{kind}: degraded, {how}"),
            Class::Refused(status, detail) => format!("{kind}: {status}, {detail}"),
            Class::Failed(how) => format!("{kind}: {how}"),
        };
        *failures.entry(text).or_default() += 1;
    }
    failures
}

/// Lets the load go on for a while.
pub(crate) fn wait(time: Duration) {
    #[allow(clippy::disallowed_methods)] // the time is what is asked for, not a condition
    std::thread::sleep(time);
}

/// Sends a signal to an instance.
pub(crate) fn signal(instance: &Instance, signal: Signal) {
    instance.process.signal(signal);
}
