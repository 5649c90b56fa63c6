//! A runner's process, our child or not.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::descriptor;

/// A process by a descriptor: a number that is used again never stands for it.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    fd: AsyncFd<OwnedFd>,
    child: Option<Child>,
}

impl Process {
    /// A process that somebody else started.
    pub(super) fn of_stranger(pid: Pid) -> io::Result<Self> {
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, fd: descriptor::register(fd)?, child: None })
    }

    /// A process that this one started.
    pub(super) fn of_child(child: Child) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let mut process = Self::of_stranger(pid)?;
        process.child = Some(child);
        Ok(process)
    }

    /// Waits for its end. May be called again.
    pub(super) async fn ended(&self) {
        // Readable from the end on, and for ever after.
        if let Err(error) = self.fd.readable().await {
            tracing::warn!(pid = self.pid.as_raw_nonzero(), %error, "cannot wait for a runner");
        }
    }

    /// After [`ended`](Self::ended): lets the kernel forget it. Says how it ended, where that is ours to know.
    pub(super) fn reap(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.wait().ok()?;
        Some(status.to_string())
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        self.report("terminate", pidfd_send_signal(&self.fd, Signal::TERM));
    }

    /// Ends it, and whatever it started.
    pub(super) fn kill(&self) {
        // It leads a group of its own; while it has not ended the group's number is its own as well.
        if kill_process_group(self.pid, Signal::KILL).is_err() {
            self.report("kill", pidfd_send_signal(&self.fd, Signal::KILL));
        }
    }

    fn report(&self, what: &str, sent: rustix::io::Result<()>) {
        match sent {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                tracing::warn!(pid = self.pid.as_raw_nonzero(), %error, "cannot {what} a runner");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    #[tokio::test]
    async fn ends_are_noticed_whoever_started_it() {
        let child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let stranger = Process::of_stranger(Pid::from_child(&child)).unwrap();
        let mut own = Process::of_child(child).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), own.ended()).await.is_err());
        stranger.terminate();
        own.ended().await;
        stranger.ended().await;
        assert!(own.reap().unwrap().contains("15"));
        own.terminate();
    }

    #[tokio::test]
    async fn killing_takes_the_group_along() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 60"]).process_group(0).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdout.take().unwrap();
        let mut own = Process::of_child(child).unwrap();
        own.kill();
        own.ended().await;
        assert!(own.reap().unwrap().contains('9'));
        assert_eq!(pipe.read(&mut [0]).unwrap(), 0, "somebody of the group still holds the pipe");
    }
}
