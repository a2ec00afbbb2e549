//! A network of a test's own, where only loopback is: ports are free there, and packets are lost there alone.

use std::{
    env, fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    process::Command,
};

/// Runs this program again in a network namespace of its own, where only loopback is, and returns there. With
/// `processes` it sees no others than its own, either.
pub(crate) fn enter(processes: bool) {
    const INSIDE: &str = "TEST_HAS_A_NETWORK_OF_ITS_OWN";
    if env::var_os(INSIDE).is_some() {
        return;
    }
    let root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    // Some systems keep user namespaces to themselves; there it is asked of sudo, without a password.
    let mine = || Command::new("unshare").args(["-n", "-r", "true"]).status().is_ok_and(|status| status.success());
    let words: &[&str] = match root {
        true => &["unshare", "-n"],
        false if mine() => &["unshare", "-n", "-r"],
        false => &["sudo", "-n", "-E", "unshare", "-n"],
    };
    let mut command = Command::new(words[0]);
    // The first process inside is killed with this one, and all the others inside with that.
    command.args(&words[1..]).args(if processes { ["-p", "--kill-child", "--mount-proc"].as_slice() } else { &[] });
    command.args(["env", &format!("{INSIDE}=1"), "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    command.arg(env::current_exe().unwrap()).args(env::args().skip(1));
    panic!("unshare (util-linux), ip (iproute2): {}", command.exec());
}
