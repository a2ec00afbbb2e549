//! Whether this process wants traffic, and if not, why.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

type Check = dyn Fn() -> Result<String, String> + Send + Sync;

/// Named readiness checks; a process is ready when all pass and it is not draining. Cheap to clone.
///
/// ```
/// let readiness = monitor::debug::Readiness::default();
/// readiness.add("etcd", || Ok("revision 7".into()));
/// assert_eq!(readiness.report(), (true, "[+] etcd: revision 7\n".to_owned()));
/// readiness.drain();
/// assert!(!readiness.is_ready());
/// ```
#[derive(Clone, Default)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    checks: Mutex<Vec<(&'static str, Arc<Check>)>>,
    draining: AtomicBool,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.checks().into_iter().map(|(name, _)| name).collect();
        f.debug_struct("Readiness").field("checks", &names).field("draining", &self.is_draining()).finish()
    }
}

impl Readiness {
    /// Ok(text) is shown beside the name as its state, Err(text) as the reason it is not ready. A check answers at once,
    /// from what is known; one that panics fails.
    pub fn add(&self, name: &'static str, check: impl Fn() -> Result<String, String> + Send + Sync + 'static) {
        self.inner.checks.lock().unwrap_or_else(PoisonError::into_inner).push((name, Arc::new(check)));
    }

    /// From now on not ready ("draining").
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::Release);
    }

    /// Whether all checks pass and nothing drains.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.checks().iter().all(|(_, check)| run(check).is_ok())
    }

    /// (ready, one line per check: `[+] name: text` / `[-] name: text`)
    #[must_use]
    pub fn report(&self) -> (bool, String) {
        let mut results: Vec<_> = self.checks().iter().map(|(name, check)| (*name, run(check))).collect();
        if self.is_draining() {
            results.push(("drain", Err("draining".into())));
        }
        let ready = results.iter().all(|(_, result)| result.is_ok());
        (ready, results.iter().map(|(name, result)| line(name, result)).collect())
    }

    fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Acquire)
    }

    /// The checks as they are now: they run without the lock, so that one may take its time or add another.
    fn checks(&self) -> Vec<(&'static str, Arc<Check>)> {
        self.inner.checks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn run(check: &Arc<Check>) -> Result<String, String> {
    catch_unwind(AssertUnwindSafe(|| check())).unwrap_or_else(|_| Err("the check panicked".into()))
}

fn line(name: &str, result: &Result<String, String>) -> String {
    let (sign, text) = match result {
        Ok(text) => ('+', text),
        Err(text) => ('-', text),
    };
    // One line per check, whatever the text of an error contains.
    format!("[{sign}] {name}: {}\n", text.replace(|letter: char| letter.is_control(), " "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    #[test]
    fn without_checks_a_process_is_ready() {
        assert_eq!(Readiness::default().report(), (true, String::new()));
    }

    #[test]
    fn one_failing_check_is_enough_and_each_has_its_line() {
        let readiness = Readiness::default();
        readiness.add("feed", || Ok("2 instances".into()));
        readiness.clone().add("etcd", || Err("connection refused\nby peer".into()));
        let report = "[+] feed: 2 instances\n[-] etcd: connection refused by peer\n";
        assert_eq!(readiness.report(), (false, report.to_owned()));
        assert!(!readiness.is_ready());
    }

    #[test]
    fn draining_is_shown_and_stays() {
        let readiness = Readiness::default();
        readiness.add("etcd", || Ok("fine".into()));
        readiness.drain();
        assert_eq!(readiness.report(), (false, "[+] etcd: fine\n[-] drain: draining\n".to_owned()));
    }

    #[test]
    fn a_check_that_panics_fails_and_harms_nobody() {
        let readiness = Readiness::default();
        readiness.add("mad", || panic!("mad"));
        assert_eq!(readiness.report(), (false, "[-] mad: the check panicked\n".to_owned()));
        readiness.add("fine", || Ok("fine".into()));
        assert!(readiness.report().1.ends_with("[+] fine: fine\n"));
    }

    #[test]
    fn a_poisoned_lock_does_no_harm() {
        let readiness = Readiness::default();
        let other = readiness.clone();
        std::thread::spawn(move || {
            let _held = other.inner.checks.lock().unwrap();
            panic!("while holding the lock");
        })
        .join()
        .unwrap_err();
        readiness.add("fine", || Ok("fine".into()));
        assert!(readiness.is_ready());
    }
}
