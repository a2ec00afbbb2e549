//! The live topology page, in a real browser over a real system.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
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

/// Calls all services some hundred times a second until told to stop.
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
        thread::sleep(Duration::from_millis(10));
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
        browser.go(&format!("http://127.0.0.1:{debug}/"));
        let _stop = StopOnDrop(&stop);
        shows_every_instance_at_work(&browser, &system);
        curl_gets_the_same(&browser, &system);
        keyboard_and_screen_reader_reach_every_instance(&browser);
        fits_a_phone_and_the_dark(&browser);
        a_killed_instance_turns_and_leaves(&browser, &mut system);
        hostile_values_stay_text(&browser, &system);
        assert_eq!(browser.console("SEVERE"), Vec::<Value>::new());
        stop.store(true, Ordering::Relaxed);
        traffic.join().unwrap();
        system.gateway.signal(rustix::process::Signal::KILL);
        wait_for("the page says that it is not live", || {
            let said = browser.script("return document.getElementById('link').textContent");
            (said == "no news from the gateway, trying again").then_some(())
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
    scheme("dark");
    assert_ne!(browser.script(back), light);
    let size = json!({"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", size);
    let wide = browser.script("return document.documentElement.scrollWidth");
    assert_eq!(wide, 390, "nothing is cut off at the side");
    scheme("light");
    picture(browser, "live-phone.png");
    browser.devtools("Emulation.clearDeviceMetricsOverride", json!({}));
}

fn a_killed_instance_turns_and_leaves(browser: &Browser, system: &mut System) {
    let features = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
    browser.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
    let killed = system.services.remove(0);
    let addr = format!("127.0.0.1:{}", killed.port);
    let at = Instant::now();
    drop(killed); // kill -9
    wait_for("the killed instance turns", || {
        let state = feeds(browser).into_iter().find(|[_, shown, ..]| *shown == addr).map(|[_, _, state, _]| state);
        (state.as_deref() == Some("unreachable")).then_some(())
    });
    let turned = at.elapsed();
    assert!(turned < Duration::from_secs(2), "{turned:?}");
    picture(browser, "live-dark.png");
    wait_for("the killed instance leaves", || {
        Some(feeds(browser)).filter(|feeds| feeds.len() == 2 && feeds.iter().all(|[_, shown, ..]| *shown != addr))
    });
    println!("turned after {turned:?}, left after {:?}", at.elapsed());
    let changes = browser.script("return document.getElementById('changes').innerText");
    let changes = changes.as_str().unwrap();
    assert!(changes.contains(&format!("feed {addr} is unreachable, was serving")), "{changes}");
    assert!(changes.contains(&format!("feed {addr} left the list")), "{changes}");
}

fn hostile_values_stay_text(browser: &Browser, system: &System) {
    let markup = "<img src=x onerror=\"document.title='taken'\"></script><script>document.title='taken'</script>";
    let value = json!({"addr": "127.0.0.1:9", "zone": markup, "version": "\u{202e}1.0", "weight": 7}).to_string();
    system.etcd.ctl(&["put", "/services/topic/<b>hostile", &value]);
    let zone = "return [...document.querySelectorAll('dt')].filter(name => name.textContent === 'zone').map(name => name.nextSibling.textContent)";
    wait_for("the hostile instance is shown", || {
        browser.script(zone).as_array().unwrap().contains(&json!(markup)).then_some(())
    });
    assert_eq!(
        browser.script("return [document.title, document.querySelectorAll('img, main script').length]"),
        json!(["microservice-app, live", 0])
    );
    let text = get(system.gateway.debug, "/").unwrap().text();
    assert!(text.contains("weight 7") && text.contains("version ?1.0") && !text.contains('\u{202e}'), "{text}");
}
