//! What the live page shows of trouble.

use std::time::{Duration, Instant};

use client_core::directory::registrar::LEASE_TTL;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{feeds, median, picture, shown, told};
use crate::{
    browser::Browser,
    rig::{Http, System, get, wait_for},
};

/// The card of the service feed.
#[derive(Debug, serde::Deserialize)]
struct Card {
    word: String,
    /// The tone of the edge that leads to it.
    edge: String,
    shares: String,
    list: String,
}

fn card(browser: &Browser) -> Card {
    // The edges to the services begin where the first one does: at the gateway.
    let card = browser.script(
        "const edges = [...document.querySelectorAll('#edges path[class=\"\"]')]; \
         const start = edge => edge.getAttribute('d').split('C')[0]; \
         const own = edges.filter(edge => start(edge) === start(edges[0])); \
         const cards = [...document.querySelectorAll('.service > .card')]; \
         const at = cards.findIndex(card => card.querySelector('h3').textContent === 'feed'); \
         const text = part => cards[at].querySelector(part).textContent; \
         return { word: text('.word'), edge: own[at].dataset.tone, shares: text('.shares'), list: text('.list') }",
    );
    serde_json::from_value(card).unwrap()
}

fn state(browser: &Browser, addr: &str) -> Option<String> {
    feeds(browser).into_iter().find(|[_, shown, ..]| shown == addr).map(|[_, _, state, _]| state)
}

pub(super) fn one_page_too_many_is_told_why(browser: &Browser, debug: u16) {
    let watch = |_| {
        let mut http = Http::connect(debug).unwrap();
        http.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(http.answer(true).unwrap().status, 200);
        http
    };
    let others: Vec<_> = (0..16).map(watch).collect();
    browser.go(&format!("http://127.0.0.1:{debug}/"));
    let refused = "refused: 16 pages are open, or the gateway stops; trying again";
    wait_for("the page says that it is refused", || (told(browser) == refused).then_some(()));
    drop(others);
    wait_for("the page has a place", || (told(browser) == "live").then_some(()));
    let errors = browser.console("SEVERE");
    let expected = |error: &Value| error["message"].as_str().unwrap().contains("/events - Failed to load resource");
    assert!(!errors.is_empty() && errors.iter().all(expected), "{errors:?}");
}

pub(super) fn a_killed_instance_turns_and_leaves(browser: &Browser, system: &mut System) {
    let features = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
    browser.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
    let killed = system.services.remove(0);
    let addr = format!("127.0.0.1:{}", killed.port);
    let at = Instant::now();
    drop(killed); // kill -9
    wait_for("the killed instance turns", || (state(browser, &addr).as_deref() == Some("unreachable")).then_some(()));
    let turned = at.elapsed();
    assert!(turned < Duration::from_secs(2), "{turned:?}");
    picture(browser, "live-dark.png");
    wait_for("the killed instance leaves", || {
        Some(feeds(browser)).filter(|feeds| feeds.len() == 2 && feeds.iter().all(|[_, shown, ..]| *shown != addr))
    });
    let left = at.elapsed();
    println!("turned after {turned:?}, left after {left:?}");
    assert!(left < LEASE_TTL + Duration::from_secs(2), "{left:?}");
    let changes = browser.script("return document.getElementById('changes').innerText");
    let changes = changes.as_str().unwrap();
    assert!(changes.contains(&format!("feed {addr} is unreachable, was serving")), "{changes}");
    assert!(changes.contains(&format!("feed {addr} left the list")), "{changes}");
}

pub(super) fn a_frozen_instance_is_ejected_and_comes_back(browser: &Browser, system: &System) {
    let frozen = system.services.iter().find(|service| service.name == "feed").unwrap();
    let addr = format!("127.0.0.1:{}", frozen.port);
    let stands = |wanted: &str, edge: &str| {
        let card = card(browser);
        let found = state(browser, &addr).as_deref() == Some(wanted) && (&*card.word, &*card.edge) == (edge, edge);
        found.then_some(card)
    };
    frozen.signal(Signal::STOP);
    let card = wait_for("it is out, and what it did not answer is asked again", || stands("ejected", "retrying"));
    assert!(card.list.starts_with("1 of 2 serving; "), "{card:?}");
    assert!(!card.shares.contains("retried 0\u{a0}%"), "{card:?}");
    frozen.signal(Signal::CONT);
    wait_for("it is in again", || stands("serving", "good"));
}

pub(super) fn a_service_without_instances_is_failing_and_its_replies_are_degraded(
    browser: &Browser,
    system: &mut System,
) {
    let feeds = || system.services.iter().filter(|service| service.name == "feed");
    feeds().for_each(|feed| feed.signal(Signal::STOP));
    let stands = |tone: &str, serving: &str| {
        let card = card(browser);
        let degraded =
            card.shares.starts_with("errors 0\u{a0}%, degraded ") && !card.shares.contains("degraded 0\u{a0}%");
        degraded && (&*card.word, &*card.edge) == (tone, tone) && card.list.starts_with(serving)
    };
    wait_for("what both do not answer is degraded", || stands("degraded", "0 of 2 serving").then_some(()));
    wait_for("they left, and nobody serves", || stands("failing", "0 of 0 serving").then_some(()));
    system.services.retain(|service| service.name != "feed"); // kill -9
}

pub(super) fn changes_show_within_a_second(browser: &Browser, system: &System) {
    let took = (2..7).map(|weight| {
        let value = json!({"addr": "127.0.0.1:9", "weight": weight}).to_string();
        system.etcd.ctl(&["put", "/services/topic/changing", &value]);
        let at = Instant::now();
        let told = format!("weight {weight}, no lease");
        wait_for(&told, || shown(browser).iter().any(|[.., figures]| figures.contains(&told)).then_some(()));
        at.elapsed()
    });
    let took = took.collect::<Vec<_>>();
    println!("from a change to its picture: {took:?}");
    assert!(median(took.clone()) < Duration::from_secs(1), "{took:?}");
    system.etcd.ctl(&["del", "/services/topic/changing"]);
}

pub(super) fn hostile_values_stay_text(browser: &Browser, system: &System) {
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
