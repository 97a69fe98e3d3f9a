//! Waits shorter than a millisecond, which tokio's own timers round up to one or two.

use std::io;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe;

/// One timer of the kernel's, for one waiter at a time. It is read as a pipe is: when it has gone off, it has eight bytes
/// (timerfd_create(2)).
pub struct Alarm(pipe::Receiver);

impl Alarm {
    /// Fails where no file can be opened any more. To be called on a runtime.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(timer)?))
    }

    /// Sets it to go off after `wait`, in place of what it was set to. Zero: it doesn't go off.
    pub fn set(&self, wait: Duration) -> io::Result<()> {
        let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = Timespec::try_from(wait).map_err(io::Error::other)?;
        let once = Itimerspec { it_interval: nothing, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Waits until it goes off. Nothing is lost if the caller stops waiting.
    pub async fn rings(&self) -> io::Result<()> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome.map(|_| ()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn it_goes_off_once_for_each_time_it_is_set_and_not_before() {
        let alarm = Alarm::new().expect("a file can be opened");
        for wait in [Duration::from_micros(200), Duration::from_micros(1)] {
            let began = Instant::now();
            alarm.set(wait).expect("it is ours");
            alarm.rings().await.expect("it goes off");
            assert!(began.elapsed() >= wait);
        }
        alarm.set(Duration::from_secs(3600)).expect("it is ours");
        tokio::select! {
            biased;
            _ = alarm.rings() => panic!("long before its time"),
            () = tokio::task::yield_now() => {}
        }
    }
}
