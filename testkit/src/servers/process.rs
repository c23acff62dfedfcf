//! A child process that takes signals and never outlives its test.
//!
//! It is std's child rather than tokio's: `Drop` must kill and *reap* without a runtime, so that
//! the data folder can be removed right after. If the test process itself is killed, `Drop` does
//! not run. Therefore the child stays in the test's process group, which is what nextest and
//! Ctrl-C signal as a whole.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::folder::Folder;
use crate::eventually;

/// A process that can be started again after it ended.
#[derive(Debug, Default)]
pub(crate) struct Process {
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Starts `command`, with its output in the folder's log.
    pub(crate) fn start(&self, command: &mut Command, folder: &Folder) {
        let program = command.get_program().to_owned();
        let mut child = self.lock();
        assert!(reap(&mut child).is_none(), "{} is still running", program.display());
        let spawned = folder.open_log().and_then(|log| {
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
        });
        *child = Some(
            spawned.unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display())),
        );
    }

    pub(crate) fn is_running(&self) -> bool {
        reap(&mut self.lock()).is_some()
    }

    /// Sends `signal`; does nothing if the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        // Its id cannot belong to another process: it is not reaped, and we hold the lock.
        if let Some(child) = reap(&mut self.lock()) {
            kill_process(Pid::from_child(child), signal)
                .unwrap_or_else(|error| panic!("cannot send {signal:?}: {error}"));
        }
    }

    /// SIGSTOP, and waits until every thread has stopped: on a busy machine some run on for a while.
    pub(crate) async fn pause(&self) {
        self.signal(Signal::STOP);
        eventually("the process stops after SIGSTOP", STOP_DEADLINE, || async {
            self.lock().as_ref().is_none_or(|child| is_stopped(child.id()))
        })
        .await;
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(&self) {
        self.signal(Signal::TERM);
        // A paused process gets SIGTERM only when it goes on.
        self.signal(Signal::CONT);
        self.ended("the process stops after SIGTERM").await;
    }

    /// SIGKILL, and waits for the end.
    pub(crate) async fn kill(&self) {
        self.signal(Signal::KILL);
        self.ended("the process ends after SIGKILL").await;
    }

    async fn ended(&self, what: &str) {
        eventually(what, STOP_DEADLINE, || async { !self.is_running() }).await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        // A panic while the lock is held leaves a child that still has to be killed.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = child.take() {
            // SIGKILL ends a paused process too, so the wait is short.
            let _: Result<(), _> = child.kill();
            let _: Result<ExitStatus, _> = child.wait();
        }
    }
}

/// Whether no thread of the process runs. Where the system does not say it, the signal has to do.
fn is_stopped(process: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.flatten().all(|thread| {
        // The state follows the name, which is in brackets and may have any characters in it.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        state.is_none_or(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
    })
}

/// The child, if it has not ended; an ended one is reaped and forgotten.
fn reap(child: &mut Option<Child>) -> Option<&mut Child> {
    if !matches!(child.as_mut()?.try_wait(), Ok(None)) {
        *child = None;
    }
    child.as_mut()
}

/// A clean stop hands over the leadership first, which takes a while on a busy machine.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
