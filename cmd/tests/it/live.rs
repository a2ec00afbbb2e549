//! The live topology page, in a real browser over a real system.

mod trouble;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    browser::Browser,
    rig::{Http, System, get, put, run_from, wait_for},
};

const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';
const DOWN: char = '\u{e015}';
const UP: char = '\u{e013}';
const HOME: char = '\u{e011}';

/// Calls all services some dozens of times a second until told to stop: so few that five attempts are more than 1 in 100.
fn traffic(port: u16, stop: &AtomicBool) {
    let mut http = Http::connect(port).unwrap();
    let targets = [
        "feed/get_feeds?user_id=1&size=2",
        "feed/get_feeds?user_id=2&size=2",
        "profile/get_profile?user_id=1",
        "topic/view?topic_id=1",
    ];
    while !stop.load(Ordering::Relaxed) {
        for target in targets {
            assert_eq!(http.request("GET", &format!("/api/{target}"), &[], b"").unwrap().status, 200);
        }
        #[allow(clippy::disallowed_methods)] // the load's rate
        thread::sleep(Duration::from_millis(50));
    }
}

/// Every instance that the page shows: service, address, state, line of figures.
fn shown(browser: &Browser) -> Vec<[String; 4]> {
    let shown = browser.script(
        "return [...document.querySelectorAll('.service')].flatMap(service => \
           [...service.querySelectorAll('.instances > li')].map(one => \
             ['h3', 'b', 'summary .word', 'summary > .soft'].map((part, at) => \
               (at ? one : service).querySelector(part).textContent)))",
    );
    serde_json::from_value(shown).unwrap()
}

fn feeds(browser: &Browser) -> Vec<[String; 4]> {
    shown(browser).into_iter().filter(|[service, ..]| service == "feed").collect()
}

/// How the page says that it stands with the gateway.
fn told(browser: &Browser) -> String {
    serde_json::from_value(browser.script("return document.getElementById('link').textContent")).unwrap()
}

/// The median of what was measured.
fn median<T: Copy + PartialOrd>(mut measured: Vec<T>) -> T {
    measured.sort_by(|one, other| one.partial_cmp(other).unwrap());
    measured[measured.len() / 2]
}

/// The address of the instance that has the focus.
fn focused(browser: &Browser) -> String {
    let name = browser
        .script("return document.activeElement.querySelector('b')?.textContent ?? document.activeElement.tagName");
    name.as_str().unwrap().to_owned()
}

/// Keeps a picture where the documentation's are copied from.
fn picture(browser: &Browser, name: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live");
    std::fs::create_dir_all(&folder).unwrap();
    let png = browser.screenshot();
    assert!(png.len() < 150_000, "{name}: {} bytes", png.len());
    std::fs::write(folder.join(name), png).unwrap();
}

#[test]
fn the_page_follows_the_system_and_everybody_can_read_it() {
    let mut system = System::start(3);
    for (target, body) in [
        ("feed/create_feed", r#"{"id": 100, "user_id": 1, "content": "hello world"}"#),
        ("profile/create_profile", r#"{"user_id": 1, "name": "Ann", "company": "Acme", "title": "engineer"}"#),
        ("topic/create_topic", r#"{"topic_id": 1, "subject": "tea", "content": "is hot"}"#),
    ] {
        assert_eq!(put(system.port(), &format!("/api/{target}"), body).unwrap().status, 200);
    }
    let (port, debug, stop) = (system.port(), system.gateway.debug, AtomicBool::new(false));
    thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic(port, &stop));
        let browser = Browser::start();
        let _stop = StopOnDrop(&stop);
        trouble::one_page_too_many_is_told_why(&browser, debug);
        shows_every_instance_at_work(&browser, &system);
        shows_all_figures(&browser, debug);
        news_come_twice_a_second(&browser);
        curl_gets_the_same(&browser, &system);
        keyboard_and_screen_reader_reach_every_instance(&browser);
        fits_a_phone_and_the_dark(&browser);
        trouble::a_killed_instance_turns_and_leaves(&browser, &mut system);
        trouble::a_frozen_instance_is_ejected_and_comes_back(&browser, &system);
        trouble::a_service_without_instances_is_failing_and_its_replies_are_degraded(&browser, &mut system);
        trouble::changes_show_within_a_second(&browser, &system);
        trouble::hostile_values_stay_text(&browser, &system);
        assert_eq!(browser.console("SEVERE"), Vec::<Value>::new());
        stop.store(true, Ordering::Relaxed);
        traffic.join().unwrap();
        system.gateway.signal(rustix::process::Signal::KILL);
        wait_for("the page says that it is not live", || {
            (told(&browser) == "no news from the gateway, trying again").then_some(())
        });
    });
}

/// Lets the traffic end when an assertion fails, too.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn shows_every_instance_at_work(browser: &Browser, system: &System) {
    let works = |[_, _, state, figures]: &[String; 4]| {
        state == "serving"
            && !figures.starts_with("0/s")
            && figures.contains("errors 0\u{a0}%, p99 ")
            && figures.contains("breaker closed, weight 1, leased")
    };
    let instances = system.services.len();
    let shown = wait_for("every instance at work", || {
        Some(shown(browser)).filter(|shown| shown.len() == instances && shown.iter().all(works))
    });
    for service in &system.services {
        let addr = format!("127.0.0.1:{}", service.port);
        assert!(shown.iter().any(|[name, shown, ..]| *name == service.name && *shown == addr), "{addr}: {shown:?}");
    }
    let services = system.services.iter().map(|service| service.name.as_str()).collect::<BTreeSet<_>>().len();
    wait_for("edges to all services and instances are good, and one is declared", || {
        let edges = browser.script(
            "return [...document.querySelectorAll('#edges path')].map(path => path.getAttribute('class') || path.dataset.tone)",
        );
        let edges: Vec<String> = serde_json::from_value(edges).unwrap();
        let count = |name: &str| edges.iter().filter(|edge| *edge == name).count();
        let all = services + instances;
        (count("good") == all && count("flow") == all && count("declared") == 1).then_some(())
    });
}

fn shows_all_figures(browser: &Browser, debug: u16) {
    let names = ["requests", "errors", "p99", "in flight", "connections"];
    let figures =
        browser.script("return [...document.querySelectorAll('#gateway dl > *')].map(one => one.textContent)");
    let figures: Vec<String> = serde_json::from_value(figures).unwrap();
    let (shown, values): (Vec<_>, Vec<_>) = figures.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).unzip();
    assert_eq!(shown, names);
    assert!(values[0].ends_with("/s") && values[0] != "0/s", "{values:?}");
    assert_eq!(values[1], "0\u{a0}%");
    assert!(values[2].ends_with(" ms") || values[2].ends_with(" s"), "{values:?}");
    assert!(values[3].parse::<u32>().is_ok() && values[4].parse().is_ok_and(|open: u32| open >= 1), "{values:?}");

    let known = get(debug, "/instances").unwrap().json();
    let lists = browser.script("return [...document.querySelectorAll('.list')].map(one => one.textContent)");
    let lists: Vec<String> = serde_json::from_value(lists).unwrap();
    assert_eq!(lists.len(), known.as_object().unwrap().len());
    for (list, service) in lists.iter().zip(shown_services(browser)) {
        let (count, revision) = (known[&service]["instances"].as_array().unwrap().len(), &known[&service]["revision"]);
        let age = list.strip_prefix(&format!("{count} of {count} serving; list ")).unwrap_or_else(|| panic!("{list}"));
        let age = age.strip_suffix(&format!(" old, revision {revision}")).unwrap_or_else(|| panic!("{list}"));
        assert!(age.ends_with(" ms") || age.trim_end_matches(" s").parse().is_ok_and(|age: f64| age < 60.0), "{list}");
    }
}

fn shown_services(browser: &Browser) -> Vec<String> {
    serde_json::from_value(browser.script("return [...document.querySelectorAll('h3')].map(one => one.textContent)"))
        .unwrap()
}

fn news_come_twice_a_second(browser: &Browser) {
    browser.script("window.came = []; source.addEventListener('message', () => window.came.push(performance.now()))");
    let came = wait_for("ten events", || {
        let came: Vec<f64> = serde_json::from_value(browser.script("return window.came")).unwrap();
        Some(came).filter(|came| came.len() >= 10)
    });
    let gap = median(came.windows(2).map(|pair| pair[1] - pair[0]).collect());
    println!("from one event to the next: {gap:.0} ms");
    assert!(gap < 1000.0, "{came:?}");
}

fn curl_gets_the_same(browser: &Browser, system: &System) {
    let document = include_str!("../../../docs/live.md");
    let text = run_from(document, "curl localhost", (6060, system.gateway.debug));
    for [service, addr, state, _] in shown(browser) {
        let of_service =
            text.split(&format!("\n{service}: good\n")).nth(1).unwrap_or_else(|| panic!("{service}: {text}"));
        let line = of_service.lines().take_while(|line| !line.is_empty()).find(|line| line.contains(&addr)).unwrap();
        assert!(line.contains(&format!("  {state} ")) && line.contains("breaker closed, weight 1, lease "), "{line}");
    }
    assert!(text.contains("profile asks feed itself"), "{text}");
}

fn keyboard_and_screen_reader_reach_every_instance(browser: &Browser) {
    let addrs: Vec<_> = shown(browser).into_iter().map(|[_, addr, ..]| addr).collect();
    browser.press(&[TAB]);
    let mut walked = vec![focused(browser)];
    for _ in 1..addrs.len() {
        browser.press(&[DOWN]);
        walked.push(focused(browser));
    }
    assert_eq!(walked, addrs);
    browser.press(&[UP, HOME, TAB]);
    assert_eq!(focused(browser), addrs[1]);
    browser.press(&[ENTER]);
    let details = "return document.activeElement.parentElement.open && document.activeElement.parentElement.querySelector('dl').textContent";
    assert!(browser.script(details).as_str().unwrap().starts_with("lease"));
    // News come, and nothing moves under the reader.
    let revealed = browser.script("window.seen = heard; return 1");
    wait_for("further news", || browser.script("return heard > window.seen").as_bool().filter(|news| *news));
    assert_eq!((revealed, focused(browser)), (json!(1), addrs[1].clone()));
    assert!(browser.script(details).is_string());
    browser.press(&[ENTER]);

    let tree = browser.devtools("Accessibility.getFullAXTree", json!({}));
    let nodes: Vec<(&str, &str)> = (tree["nodes"].as_array().unwrap().iter())
        .filter(|node| node["ignored"] == false)
        .map(|node| (node["role"]["value"].as_str().unwrap_or(""), node["name"]["value"].as_str().unwrap_or("")))
        .collect();
    for (role, name) in [
        ("main", "Topology"),
        ("region", "Gateway"),
        ("heading", "gateway"),
        ("list", "Services"),
        ("heading", "feed"),
        ("list", "Instances of feed"),
        ("log", ""),
        ("status", ""),
    ] {
        assert!(nodes.contains(&(role, name)), "{role} {name}: {nodes:?}");
    }
    for addr in &addrs {
        let told = nodes.iter().any(|(role, name)| {
            *role == "DisclosureTriangle"
                && name.contains(addr)
                && name.contains("serving")
                && name.contains("in flight")
        });
        assert!(told, "{addr}: {nodes:?}");
    }
    assert!(!nodes.iter().any(|(_, name)| name.contains('●')), "signs are for the eye");
}

fn fits_a_phone_and_the_dark(browser: &Browser) {
    browser.script("document.activeElement.blur()");
    picture(browser, "live.png");
    let back = "return getComputedStyle(document.body).backgroundColor";
    let light = browser.script(back);
    let scheme = |value: &str| {
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        browser.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
    };
    texts_are_readable(browser);
    scheme("dark");
    assert_ne!(browser.script(back), light);
    texts_are_readable(browser);
    let size = json!({"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", size);
    let wide = browser.script("return document.documentElement.scrollWidth");
    assert_eq!(wide, 390, "nothing is cut off at the side");
    scheme("light");
    picture(browser, "live-phone.png");
    browser.devtools("Emulation.clearDeviceMetricsOverride", json!({}));
}

/// Every colour of text has at least 4.5 to 1 against what it stands on (WCAG 2.2, success criterion 1.4.3).
fn texts_are_readable(browser: &Browser) {
    let ratios = browser.script(
        "const names = [...document.styleSheets[0].cssRules[0].style].filter(name => name.startsWith('--')); \
         const style = getComputedStyle(document.documentElement); \
         const luminance = name => { \
           const [r, g, b] = style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/g).map(pair => parseInt(pair, 16) / 255) \
             .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4); \
           return 0.2126 * r + 0.7152 * g + 0.0722 * b; \
         }; \
         const backs = ['--back', '--card'], texts = names.filter(name => ![...backs, '--line', '--focus'].includes(name)); \
         return texts.flatMap(text => backs.map(back => { \
           const [low, high] = [luminance(text), luminance(back)].sort((one, other) => one - other); \
           return [`${text} on ${back}`, (high + 0.05) / (low + 0.05)]; \
         }))",
    );
    let ratios: Vec<(String, f64)> = serde_json::from_value(ratios).unwrap();
    assert!(ratios.len() >= 14 && ratios.iter().all(|(_, ratio)| *ratio >= 4.5), "{ratios:?}");
}
