//! However `up` ends, all that it started ends, too.

use rustix::process::Signal;

use super::Up;
use crate::rig::{kill, wait_for};

#[test]
fn every_stop_signal_stops_all_with_code_0() {
    for signal in [Signal::TERM, Signal::HUP] {
        let mut up = Up::start(&[]).ready();
        kill(up.pid(), signal);
        assert_eq!(up.exited().code(), Some(0), "{signal:?}");
        assert!(up.out().ends_with("| all stopped\n"), "{signal:?}: {}", up.out());
        up.nothing_is_left();
    }
}

#[test]
fn terminal_that_is_closed_stops_all() {
    let mut up = Up::start_on_terminal(&[]).ready();
    let pid = up.pid();
    // With `script` its terminal is gone; the kernel says so by SIGHUP, and nothing can be written any more.
    up.child.kill().unwrap();
    up.child.wait().unwrap();
    wait_for("the end of up", || super::name(pid).is_none().then_some(()));
    up.nothing_is_left();
}

#[test]
fn second_ctrl_c_ends_up_at_once_and_with_it_all_processes() {
    let mut up = Up::start(&[]).ready();
    let children = up.children();
    let (feed, _) = children.iter().find(|(_, name)| name == "feed").unwrap();
    // One that does not stop keeps `up` waiting.
    kill(*feed, Signal::STOP);
    kill(up.pid(), Signal::INT);
    wait_for("the stop begins", || up.out().contains("apigateway ends after").then_some(()));
    kill(up.pid(), Signal::INT);
    assert_eq!(up.exited().code(), Some(1));
    assert!(!up.out().contains("all stopped"), "{}", up.out());
    kill(*feed, Signal::CONT);
    up.nothing_is_left();
}
