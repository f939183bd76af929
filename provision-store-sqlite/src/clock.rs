//! The store's clock: leases by the machine's boot clock, due times by a wall clock that never
//! goes back.
//!
//! All processes that share the file run on one machine, so the boot clock is the same for all of
//! them, and no change of the wall clock ends or prolongs a lease (S20).

use std::{
    fmt::Debug,
    fs,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use provision_core::id::Timestamp;

/// A reading of the machine's boot clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Names this boot; another name means that every process from before is dead.
    pub id: String,
    /// Time since the boot, sleeping included.
    pub elapsed: Duration,
}

/// Where time comes from; a test brings its own.
pub trait Machine: Debug + Send + Sync + 'static {
    /// The wall clock. It may jump.
    fn wall(&self) -> Timestamp;

    /// The boot clock; `None` where the system has none that can be read.
    fn boot(&self) -> Option<Boot>;
}

/// The clocks of this machine: the boot clock where the system is Linux.
#[derive(Debug)]
pub struct ThisMachine {
    boot_id: Option<String>,
}

impl ThisMachine {
    /// Looks which clocks there are.
    #[must_use]
    pub fn new() -> Self {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        Self { boot_id: id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()) }
    }
}

impl Default for ThisMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine for ThisMachine {
    #[allow(clippy::disallowed_methods, reason = "this file is where the store's clock comes from")]
    fn wall(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }

    fn boot(&self) -> Option<Boot> {
        Some(Boot { id: self.boot_id.clone()?, elapsed: since_boot()? })
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Option<Duration> {
    None
}

/// One reading of the store's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// For due times and everything people read.
    pub(crate) wall: Timestamp,
    /// Milliseconds of the boot clock, for leases.
    pub(crate) boot_ms: u64,
    /// Empty where there is no boot clock; then `boot_ms` is the wall clock.
    pub(crate) boot: String,
}

/// The last reading, as a point from which time is counted on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) boot: String,
    pub(crate) boot_ms: u64,
    pub(crate) wall_ms: u64,
}

impl Anchor {
    /// The wall clock as counted on from here; without the same boot, the last reading itself.
    fn counted_on(&self, boot: &str, boot_ms: u64) -> u64 {
        if self.boot == boot {
            self.wall_ms.saturating_add(boot_ms.saturating_sub(self.boot_ms))
        } else {
            self.wall_ms
        }
    }

    /// Whether `now` is so far ahead of this anchor that the file should keep the new one.
    pub(crate) fn lags(&self, now: &Reading) -> bool {
        self.boot != now.boot
            || self.counted_on(&now.boot, now.boot_ms).saturating_add(KEEP_AHEAD_MS)
                < now.wall.as_millis()
    }
}

/// Less than this is no difference: the two clocks are read one after the other.
const KEEP_AHEAD_MS: u64 = 20;

/// Makes one clock, which never goes back, of the machine's two.
#[derive(Debug)]
pub(crate) struct StoreClock {
    machine: std::sync::Arc<dyn Machine>,
    anchor: Mutex<Anchor>,
}

impl StoreClock {
    pub(crate) fn new(machine: std::sync::Arc<dyn Machine>) -> Self {
        Self { machine, anchor: Mutex::new(Anchor::default()) }
    }

    /// Reads the clock; never less than any reading before, nor than what `kept` in the file says.
    pub(crate) fn read(&self, kept: Option<&Anchor>) -> Reading {
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let wall = self.machine.wall().as_millis();
        let (boot, boot_ms) = match self.machine.boot() {
            Some(boot) => (boot.id, u64::try_from(boot.elapsed.as_millis()).unwrap_or(u64::MAX)),
            // No boot clock: the wall clock counts on from the highest reading so far.
            None => (String::new(), wall.max(anchor.boot_ms)),
        };
        let kept_wall = kept.map_or(0, |kept| kept.counted_on(&boot, boot_ms));
        let wall = wall.max(anchor.counted_on(&boot, boot_ms)).max(kept_wall);
        *anchor = Anchor { boot: boot.clone(), boot_ms, wall_ms: wall };
        Reading { wall: Timestamp::from_millis(wall), boot_ms, boot }
    }

    /// Whether leases are judged by a boot clock.
    pub(crate) fn has_boot_clock(&self) -> bool {
        self.machine.boot().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::{Anchor, Boot, Duration, Machine, StoreClock, ThisMachine, Timestamp};

    #[derive(Debug, Default)]
    struct Fake {
        wall: AtomicU64,
        boot: AtomicU64,
        boots: AtomicU64,
    }

    impl Machine for Fake {
        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(self.wall.load(Ordering::Relaxed))
        }

        fn boot(&self) -> Option<Boot> {
            let id = format!("boot {}", self.boots.load(Ordering::Relaxed));
            Some(Boot { id, elapsed: Duration::from_millis(self.boot.load(Ordering::Relaxed)) })
        }
    }

    impl Fake {
        fn set(&self, wall: u64, boot: u64) {
            self.wall.store(wall, Ordering::Relaxed);
            self.boot.store(boot, Ordering::Relaxed);
        }
    }

    const HOUR: u64 = 3_600_000;

    // covers: S20
    #[test]
    fn a_wall_clock_that_jumps_back_goes_on_at_the_pace_of_the_boot_clock() {
        let machine = Arc::new(Fake::default());
        let clock = StoreClock::new(Arc::<Fake>::clone(&machine));
        machine.set(10 * HOUR, 1_000);
        assert_eq!(clock.read(None).wall.as_millis(), 10 * HOUR);
        machine.set(9 * HOUR, 3_000);
        let now = clock.read(None);
        assert_eq!((now.wall.as_millis(), now.boot_ms), (10 * HOUR + 2_000, 3_000));
        machine.set(12 * HOUR, 4_000);
        assert_eq!(clock.read(None).wall.as_millis(), 12 * HOUR);
    }

    // covers: S20
    #[test]
    fn another_process_and_another_boot_go_on_from_what_the_file_kept() {
        let machine = Arc::new(Fake::default());
        machine.set(5 * HOUR, 7_000);
        let kept = Anchor { boot: "boot 0".into(), boot_ms: 5_000, wall_ms: 6 * HOUR };
        let same_boot = StoreClock::new(Arc::<Fake>::clone(&machine)).read(Some(&kept));
        assert_eq!(same_boot.wall.as_millis(), 6 * HOUR + 2_000);
        machine.boots.store(1, Ordering::Relaxed);
        let clock = StoreClock::new(Arc::<Fake>::clone(&machine));
        let next_boot = clock.read(Some(&kept));
        assert_eq!((next_boot.wall.as_millis(), &*next_boot.boot), (6 * HOUR, "boot 1"));
        machine.set(5 * HOUR, 9_000);
        assert_eq!(clock.read(Some(&kept)).wall.as_millis(), 6 * HOUR + 2_000);
    }

    #[test]
    fn an_anchor_is_renewed_only_when_the_clock_ran_ahead_of_it() {
        let machine = Arc::new(Fake::default());
        let clock = StoreClock::new(Arc::<Fake>::clone(&machine));
        let kept = Anchor { boot: "boot 0".into(), boot_ms: 0, wall_ms: HOUR };
        machine.set(HOUR + 5_010, 5_000);
        assert!(!kept.lags(&clock.read(Some(&kept))));
        machine.set(HOUR + 5_030, 5_000);
        assert!(kept.lags(&clock.read(Some(&kept))));
    }

    #[test]
    fn this_machine_has_a_wall_clock() {
        let machine = ThisMachine::new();
        assert!(machine.wall() > Timestamp::from_millis(1_700_000_000_000));
        let boot = machine.boot();
        assert_eq!(boot.is_some(), machine.boot_id.is_some());
        let later = machine.boot();
        assert!(boot.map(|boot| boot.elapsed) <= later.map(|boot| boot.elapsed));
    }
}
