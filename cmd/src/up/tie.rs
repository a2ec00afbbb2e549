//! Ties a child's life to `up`'s: however `up` ends, by SIGKILL too, the kernel then sends SIGTERM to the child.
//!
//! The request (`PR_SET_PDEATHSIG`) must be made by the child itself, and etcd does not make it. So `up` starts itself
//! once more, which asks for the signal and then becomes the program: the request outlives `exec`.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{self, Command},
};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::exit::Exit;

/// The first argument of `up` when it is about to become another program.
pub(super) const TIED: &str = "-tied";

/// A command that becomes `program`, tied to this process. To be spawned from the main thread: the kernel watches the
/// thread that spawned, not the process.
pub(super) fn command(program: &Path) -> Command {
    // This very binary, even when a build has replaced its file since.
    let mut command = Command::new("/proc/self/exe");
    command.arg(TIED).arg(process::id().to_string()).arg(program);
    command
}

/// Becomes the program in `args`: the parent's process number, the program, its arguments.
pub(super) fn become_program(mut args: impl Iterator<Item = OsString>) -> Exit {
    let parent = args.next().and_then(|pid| pid.to_str()?.parse().ok()).and_then(Pid::from_raw);
    let (Some(parent), Some(program)) = (parent, args.next()) else {
        return Exit::Usage(format!("flag {TIED}: is for up itself"));
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return Exit::Failed(format!("cannot tie a process to its parent: {error}"));
    }
    // It may have ended before the request was made.
    if getppid() != Some(parent) {
        return Exit::Failed("the process that started this one is gone".into());
    }
    let error = Command::new(&program).args(args).exec();
    Exit::Failed(format!("cannot start {}: {error}", Path::new(&program).display()))
}
