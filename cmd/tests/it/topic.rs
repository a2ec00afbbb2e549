//! The topic service, called through its gateway.

use crate::rig::{Process, System, get, kill, put, wait_for};

#[test]
fn topic_is_stored_and_viewed_and_degraded_when_nobody_answers() {
    let mut system = System::start(1);
    let port = system.port();
    let topic = r#"{"topic_id": 9, "subject": "tea", "content": "is hot"}"#;
    assert_eq!(put(port, "/api/topic/create_topic", topic).unwrap().status, 200);
    let view = |id: u32| get(port, &format!("/api/topic/view?topic_id={id}")).unwrap();
    let tea = serde_json::json!({"topic_id": 9, "subject": "tea", "content": "is hot"});
    assert_eq!((view(9).status, view(9).json()), (200, tea.clone()));
    assert_eq!(view(8).status, 404);

    let place = system.services.iter().position(|service| service.name == "topic").unwrap();
    let mut dead = system.services.remove(place);
    kill(dead.pid(), rustix::process::Signal::KILL);
    dead.exited();
    let stale = view(9);
    assert_eq!((stale.status, stale.json()), (200, tea));
    assert!(stale.header("x-degraded").is_some_and(|how| how.starts_with("stale; ")), "{stale:?}");
    assert_eq!(put(port, "/api/topic/create_topic", topic).unwrap().status, 503);

    // Another takes its place, and knows nothing: its store was memory.
    system.services.push(Process::start("topic", &[&system.etcd_flag()]).ready());
    wait_for("the new one is asked", || (view(9).status == 404).then_some(()));
}
