//! What `monitor/` ships, on a real Prometheus and a real Alertmanager: rules, dashboards, and a call that arrives.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use cmd_store::testing::Folder;
use rustix::process::Signal;
use serde_json::Value;

use crate::rig::{Http, Process, SOON, System, free_port, get, wait_for};

/// Where the shipped files are.
fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("monitor").join(path)
}

fn run(program: &str, args: &[&str], input: &str) -> String {
    let spawned =
        Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{program}: {error}: make test-needs installs it"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {said}");
    said
}

#[test]
fn shipped_files_are_valid_and_every_alert_fires_and_is_silent_when_it_should() {
    let path = |path| shipped(path).to_str().unwrap().to_owned();
    for config in ["prometheus/prometheus.yml", "prometheus/prometheus.yml.2"] {
        run("promtool", &["check", "config", "--syntax-only", &path(config)], "");
    }
    run("promtool", &["check", "rules", &path("prometheus/rules.yml")], "");
    let tests = ["prometheus/rules_test.yml", "prometheus/rules_slow_test.yml"].map(path);
    run("promtool", &["test", "rules", &tests[0], &tests[1]], "");
    run("amtool", &["check-config", &path("alertmanager/alertmanager.yml")], "");
    let rules = fs::read_to_string(path("prometheus/rules.yml")).unwrap();
    let tests = tests.map(|file| fs::read_to_string(file).unwrap()).concat();
    let manual = include_str!("../../../docs/operations.md");
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let cases: Vec<_> = tests.split("alertname: ").filter(|case| case.starts_with(&format!("{alert}\n"))).collect();
        let silent = cases.iter().filter(|case| case.contains("exp_alerts: []")).count();
        assert!(silent >= 1 && cases.len() > silent, "{alert} has a case for firing and one for silence");
        assert!(manual.contains(&format!("### {alert}\n")), "docs/operations.md explains {alert}");
    }
}

/// The PromQL of all rules and dashboards.
fn expressions() -> Vec<String> {
    let rules = fs::read_to_string(shipped("prometheus/rules.yml")).unwrap();
    let mut lines = rules.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(text) = line.trim().strip_prefix("expr: ") {
            let mut text = text.trim_start_matches(">-").to_owned();
            while let Some(more) = lines.next_if(|next| next.starts_with("          ")) {
                text += more;
            }
            found.push(text);
        }
    }
    assert!(found.len() > 20);
    found.extend(panels().into_iter().map(|(_, expression)| expression));
    found
}

/// Each query of each dashboard, with its panel's name; variables ask for the series whose label they list.
fn panels() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in ["grafana/dashboards/services.json", "grafana/dashboards/slo.json", "grafana/docker_dashboard.json"] {
        let board: Value = serde_json::from_str(&fs::read_to_string(shipped(file)).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            let rows = panel["panels"].as_array().map_or(0, Vec::len);
            assert_eq!(rows, 0, "{file}: {} hides panels from this test", panel["title"]);
            let queries = panel["targets"].as_array().map_or(0, Vec::len);
            assert!(panel["type"] == "row" || queries > 0, "{file}: {} asks nothing", panel["title"]);
            for target in panel["targets"].as_array().into_iter().flatten() {
                found.push((format!("{file}: {}", panel["title"]), target["expr"].as_str().unwrap().to_owned()));
            }
        }
        for variable in board["templating"]["list"].as_array().unwrap() {
            let definition = variable["definition"].as_str().unwrap();
            assert_eq!(variable["query"]["query"], definition);
            let inner = definition.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
            let (series, label) = inner.rsplit_once(',').unwrap();
            found.push((format!("{file}: ${}", variable["name"]), format!("count by ({label}) ({series})")));
        }
    }
    found
}

/// The metrics that an expression names.
fn metrics(expression: &str) -> BTreeSet<String> {
    // Without texts, matchers, ranges and lists of labels, what is left is metrics, functions and operators.
    let mut plain = String::new();
    let (mut depth, mut quote) = (0, None);
    for letter in expression.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth -= 1,
            (None, _) if depth == 0 => plain.push(letter),
            (None, _) => {}
        }
    }
    let mut rest = plain.as_str();
    let mut without_lists = String::new();
    while let Some(at) = ["by (", "on ("].iter().filter_map(|word| rest.find(word)).min() {
        let (before, after) = rest.split_at(at);
        without_lists += before;
        rest = after.split_once(')').unwrap().1;
    }
    without_lists += rest;
    let word = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':');
    let mut found = BTreeSet::new();
    let mut chars = without_lists.as_str();
    while let Some(start) = chars.find(word) {
        let tail = &chars[start..];
        let end = tail.find(|letter| !word(letter)).unwrap_or(tail.len());
        let (name, next) = tail.split_at(end);
        chars = next;
        let function = next.trim_start().starts_with('(');
        let operator = matches!(name, "and" | "or" | "unless" | "sum" | "count" | "max" | "min" | "on" | "by");
        if !function && !operator && !name.starts_with(|letter: char| letter.is_ascii_digit()) {
            found.insert(name.to_owned());
        }
    }
    found
}

#[test]
fn every_metric_named_in_rules_and_dashboards_exists() {
    let ours: BTreeSet<&str> = monitor::names::ALL.iter().map(|name| name.name).collect();
    let rules = fs::read_to_string(shipped("prometheus/rules.yml")).unwrap();
    let recorded: BTreeSet<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    for expression in expressions() {
        let named = metrics(&expression);
        assert!(!named.is_empty(), "{expression}");
        for name in named {
            let base = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let known = ours.contains(name.as_str())
                || base.is_some_and(|base| ours.contains(base) && base.ends_with("_seconds"))
                || recorded.contains(name.as_str())
                || ["container_", "machine_", "process_"].iter().any(|prefix| name.starts_with(prefix))
                || matches!(name.as_str(), "up" | "ALERTS");
            assert!(known, "{name} in {expression}");
        }
    }
}

#[test]
fn the_reference_lists_every_metric_as_it_is_defined() {
    let text = include_str!("../../../docs/observability.md");
    let listed: Vec<_> = text.lines().skip_while(|line| !line.starts_with("| metric | labels")).skip(2).collect();
    let listed: Vec<_> = listed.into_iter().take_while(|line| line.starts_with('|')).collect();
    let row = |name: &monitor::names::Name| {
        let labels: Vec<_> = name.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {} | {} |", name.name, labels.join(", "), name.help)
    };
    let defined: Vec<_> = monitor::names::ALL.iter().map(row).collect();
    assert_eq!(listed, defined, "docs/observability.md should have:\n{}", defined.join("\n"));
}

#[test]
fn promtool_finds_nothing_in_any_processs_metrics() {
    let system = System::start(1);
    for process in system.services.iter().chain([&system.gateway]) {
        run("promtool", &["check", "metrics"], &get(process.debug, "/metrics").unwrap().text());
    }
}

#[test]
fn prometheus_finds_all_instances_of_a_scaled_service() {
    let system = System::start_all(3, &[], &["-advertise.debug=on"]);
    let folder = Folder::new();
    let shipped = fs::read_to_string(shipped("prometheus/prometheus.yml")).unwrap();
    let job = shipped.split_once("  - job_name: app\n").unwrap().1;
    let discovery = job.split_once("    http_sd_configs:\n").unwrap().1.split_once("    file_sd_configs:").unwrap().0;
    let discovery = discovery.replace("192.168.50.14:6060", &format!("127.0.0.1:{}", system.gateway.debug));
    // One of the three is named, too, as the shipped file names the first of each: it must not be scraped twice.
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n  - job_name: app\n    \
         static_configs: [{{targets: ['127.0.0.1:{}'], labels: {{program: feed}}}}]\n    http_sd_configs:\n{discovery}",
        system.services[0].debug
    );
    let prometheus = Prometheus::start(&folder, &config);
    let up = |program: &str| prometheus.query(&format!("up{{job=\"app\", program=\"{program}\"}} == 1")).len();
    wait_for("all five are scraped", || ([up("feed"), up("profile"), up("topic")] == [3, 1, 1]).then_some(()));
    // A fourth is found while Prometheus runs, and one that leaves is forgotten.
    let fourth = Process::start("feed", &[&system.etcd_flag(), "-advertise.debug=on"]).ready();
    wait_for("the fourth is scraped", || (up("feed") == 4).then_some(()));
    assert!(fourth.stop().success());
    let left = || prometheus.query("up{job=\"app\", program=\"feed\"}").len();
    wait_for("the fourth is forgotten", || (left() == 3).then_some(()));
}

/// What cadvisor shows of two containers and their host.
const CADVISOR: &str = include_str!("../cadvisor.txt");

/// Answers every request with what `respond` makes of its head and body, until the test ends.
fn serve(respond: impl Fn(&str, &str) -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            let (head, body) = loop {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head
                        .lines()
                        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if body.len() >= length.unwrap_or(0) {
                        break (head.to_owned(), body.to_owned());
                    }
                }
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break (String::new(), String::new()),
                    Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                }
            };
            let answer = respond(&head, &body);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            let _ = stream.write_all(format!("{head}{answer}").as_bytes());
        }
    });
    port
}

struct Prometheus(Process);

impl Prometheus {
    /// With this configuration; its files are in `folder`.
    fn start(folder: &Folder, config: &str) -> Self {
        let (port, path) = (free_port(), folder.path().join("prometheus.yml"));
        fs::write(&path, config).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", path.display())).arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()));
        let process = Process::adopt("prometheus", port, port, command);
        wait_for("prometheus", || get(port, "/-/ready").ok().filter(|answer| answer.status == 200));
        Self(process)
    }

    /// The series that a query gives.
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get(self.0.port, &format!("/api/v1/query?query={encoded}")).unwrap();
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        answer.json()["data"]["result"].as_array().unwrap().clone()
    }
}

/// Prometheus and Alertmanager with the shipped rules and routes, quicker, and the notifications that came.
struct Watching {
    prometheus: Prometheus,
    _alertmanager: Process,
    told: Arc<Mutex<Vec<Value>>>,
    _folder: Folder,
}

impl Watching {
    fn start(system: &System) -> Self {
        let folder = Folder::new();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let told: Arc<Mutex<Vec<Value>>> = Arc::default();
        let webhook = serve({
            let told = Arc::clone(&told);
            move |head, body| {
                assert!(head.contains("Bearer secret"), "{head}");
                told.lock().unwrap().push(serde_json::from_str(body).unwrap());
                String::new()
            }
        });
        let cadvisor = serve(|_, _| CADVISOR.to_owned());
        let token = write("token", "secret".into());
        let routes = fs::read_to_string(shipped("alertmanager/alertmanager.yml")).unwrap();
        let routes = routes.replace("http://alerts:9099/", &format!("http://127.0.0.1:{webhook}/"));
        let routes = routes.replace("/etc/alertmanager/token", &token).replace("group_wait: 10s", "group_wait: 1s");
        let routes =
            routes.replace("group_interval: 1m", "group_interval: 1s").replace("group_wait: 1m", "group_wait: 1s");
        let (port, routes) = (free_port(), write("alertmanager.yml", routes));
        let mut command = Command::new("prometheus-alertmanager");
        command.arg(format!("--config.file={routes}")).arg(format!("--storage.path={}", folder.path().display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--cluster.listen-address=");
        let alertmanager = Process::adopt("alertmanager", port, port, command);

        let rules = fs::read_to_string(shipped("prometheus/rules.yml")).unwrap();
        let rules = rules.lines().map(|line| if line.trim().starts_with("for: ") { "        for: 1s" } else { line });
        let rules = write("rules.yml", rules.collect::<Vec<_>>().join("\n"));
        let app = system.services.iter().chain([&system.gateway]);
        let app: String = app
            .map(|process| {
                format!(
                    "      - targets: ['127.0.0.1:{}']\n        labels: {{program: {}}}\n",
                    process.debug, process.name
                )
            })
            .collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: ['{rules}']\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]}}\n\
             scrape_configs:\n  - job_name: monitor\n    static_configs:\n      - targets: ['127.0.0.1:{cadvisor}']\n\
             \x20 - job_name: app\n    static_configs:\n{app}"
        );
        let prometheus = Prometheus::start(&folder, &config);
        Self { prometheus, _alertmanager: alertmanager, told, _folder: folder }
    }

    /// The series that a query gives.
    fn query(&self, query: &str) -> Vec<Value> {
        self.prometheus.query(query)
    }

    /// Waits for a notification.
    fn told(&self, status: &str, alert: &str, service: &str) {
        wait_for(&format!("{alert} of {service} {status}"), || {
            self.told.lock().unwrap().iter().find_map(|note| {
                let alerts = note["alerts"].as_array().unwrap();
                alerts.iter().find(|one| {
                    one["status"] == status
                        && one["labels"]["alertname"] == alert
                        && one["labels"]["service"] == service
                })?;
                Some(())
            })
        });
    }
}

#[test]
fn dashboards_show_data_and_a_killed_feed_is_told_and_told_off() {
    let mut system = System::start(1);
    let watching = Watching::start(&system);
    let mut http = Http::connect(system.port()).unwrap();
    let mut ask = |target: &str| http.request("GET", target, &[], b"").unwrap().status;
    // Some of everything, again and again, until each panel has something to show.
    let mut lacking = Vec::new();
    let mut shown = || {
        for _ in 0..20 {
            ask("/api/feed/get_feeds?user_id=1&size=2");
            ask("/api/profile/get_profile?user_id=1");
            ask("/api/topic/view?topic_id=1");
        }
        let empty = panels().into_iter().filter(|(_, expression)| {
            let query = expression.replace("$__rate_interval", "10s").replace("$service", ".*").replace("$name", ".*");
            watching.query(&query).is_empty()
        });
        let empty: Vec<_> = empty.collect();
        let done = empty.is_empty();
        lacking = empty;
        done
    };
    let deadline = Instant::now() + SOON;
    while !shown() && Instant::now() < deadline {}
    assert!(lacking.is_empty(), "panels without data: {lacking:#?}");

    let feed = system.services.iter().position(|service| service.name == "feed").unwrap();
    system.services[feed].signal(Signal::KILL);
    system.services[feed].exited();
    watching.told("firing", "NobodyRegistered", "feed");
    let (port, debug) = (system.services[feed].port, system.services[feed].debug);
    let mut command = Command::new(crate::rig::binary("feed"));
    command
        .arg(format!("-addr=127.0.0.1:{port}"))
        .arg(format!("-debug.addr=127.0.0.1:{debug}"))
        .arg(system.etcd_flag());
    system.services[feed] = Process::adopt("feed", port, debug, command).ready();
    watching.told("resolved", "NobodyRegistered", "feed");
}
