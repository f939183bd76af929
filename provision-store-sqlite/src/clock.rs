//! The store's clock: leases by the machine's monotonic clock, due times by a wall clock that never
//! goes back.
//!
//! All processes that share the file run on one machine, so its clocks since the boot are the same
//! for all of them, and no change of the wall clock ends or prolongs a lease (S20). A worker counts
//! its lease by a clock that stands still while the machine sleeps, and so does the store: else it
//! would end leases that their owners, just woken, still believe in (S6). The wall clock is carried
//! on by one that counts sleep.

use std::{
    fmt::Debug,
    fs,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use provision_core::id::Timestamp;

/// A reading of the machine's clocks since its boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Names this boot; another name means that every process from before is dead.
    pub id: String,
    /// Time since the boot, sleeping included.
    pub elapsed: Duration,
    /// Time since the boot that the machine was awake: what leases are counted by. It must be the
    /// clock of [`std::time::Instant`], by which workers count theirs.
    pub awake: Duration,
}

/// Where time comes from; a test brings its own.
pub trait Machine: Debug + Send + Sync + 'static {
    /// The wall clock. It may jump.
    fn wall(&self) -> Timestamp;

    /// The clocks since the boot; `None` where the system has none that can be read.
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
        let id = self.boot_id.clone()?;
        let (elapsed, awake) = since_boot()?;
        Some(Boot { id, elapsed, awake })
    }
}

/// With the machine's sleep, and without.
#[cfg(target_os = "linux")]
fn since_boot() -> Option<(Duration, Duration)> {
    use rustix::time::{ClockId, clock_gettime};

    let read = |clock| {
        let time = clock_gettime(clock);
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
    };
    Some((read(ClockId::Boottime)?, read(ClockId::Monotonic)?))
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Option<(Duration, Duration)> {
    None
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One reading of the store's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// For due times and everything people read.
    pub(crate) wall: Timestamp,
    /// Milliseconds since the boot, by which the wall clock is carried on.
    pub(crate) boot_ms: u64,
    /// Milliseconds that the machine was awake since the boot, for leases.
    pub(crate) awake_ms: u64,
    /// Empty where there is no such clock; then both are the wall clock.
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

    /// Whether another name of the boot is one of this very boot: a container may be shown a name of its
    /// own. Its clock then went on, and it began at the same moment.
    fn is_this_boot(&self, wall_ms: u64, boot_ms: u64) -> bool {
        let (here, there) =
            (wall_ms.saturating_sub(boot_ms), self.wall_ms.saturating_sub(self.boot_ms));
        !self.boot.is_empty() && boot_ms >= self.boot_ms && here.abs_diff(there) <= SAME_BOOT_MS
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

/// Two boots of one machine do not begin within this: to start it takes longer.
const SAME_BOOT_MS: u64 = 2_000;

/// Makes one clock, which never goes back, of the machine's.
#[derive(Debug)]
pub(crate) struct StoreClock {
    machine: std::sync::Arc<dyn Machine>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    anchor: Anchor,
    /// The machine's name of its boot, and the one under which the file knows the same boot.
    known_as: Option<(String, String)>,
}

impl State {
    /// The name of the boot in the file: leases of one kernel's clock are judged by that clock,
    /// whatever name of the boot their owners are shown.
    fn name(&mut self, own: &str, kept: Option<&Anchor>, wall_ms: u64, boot_ms: u64) -> String {
        if let Some(kept) = kept
            && kept.boot != own
            && kept.is_this_boot(wall_ms, boot_ms)
        {
            self.known_as = Some((own.to_owned(), kept.boot.clone()));
        }
        match &self.known_as {
            Some((of, name)) if of == own => name.clone(),
            _ => own.to_owned(),
        }
    }
}

impl StoreClock {
    pub(crate) fn new(machine: std::sync::Arc<dyn Machine>) -> Self {
        Self { machine, state: Mutex::default() }
    }

    /// Reads the clock; never less than any reading before, nor than what `kept` in the file says.
    pub(crate) fn read(&self, kept: Option<&Anchor>) -> Reading {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wall = self.machine.wall().as_millis();
        let machine = self.machine.boot();
        let (boot, boot_ms) = match &machine {
            Some(boot) => {
                let boot_ms = millis(boot.elapsed);
                (state.name(&boot.id, kept, wall, boot_ms), boot_ms)
            }
            None => (String::new(), wall),
        };
        let kept_wall = kept.map_or(0, |kept| kept.counted_on(&boot, boot_ms));
        let wall = wall.max(state.anchor.counted_on(&boot, boot_ms)).max(kept_wall);
        // Without such clocks, leases are judged by what this one says, which never goes back.
        let (boot_ms, awake_ms) =
            machine.map_or((wall, wall), |boot| (boot_ms, millis(boot.awake)));
        state.anchor = Anchor { boot: boot.clone(), boot_ms, wall_ms: wall };
        Reading { wall: Timestamp::from_millis(wall), boot_ms, awake_ms, boot }
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
            let elapsed = Duration::from_millis(self.boot.load(Ordering::Relaxed));
            Some(Boot { id, elapsed, awake: elapsed })
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

    // covers: S6, S20
    #[test]
    fn another_name_of_the_same_boot_is_no_other_boot() {
        let machine = Arc::new(Fake::default());
        machine.set(6 * HOUR + 1_000, 8_000);
        machine.boots.store(1, Ordering::Relaxed);
        let clock = StoreClock::new(Arc::<Fake>::clone(&machine));
        let kept = Anchor { boot: "boot 0".into(), boot_ms: 5_000, wall_ms: 6 * HOUR };
        assert_eq!(clock.read(Some(&kept)).boot, "boot 0", "began at the same moment");
        assert_eq!(clock.read(None).boot, "boot 0", "and is remembered");
        for (what, began) in [("began later", 4_000_u64), ("went back", 9_000)] {
            let clock = StoreClock::new(Arc::<Fake>::clone(&machine));
            let wall_ms = if began == 9_000 { 6 * HOUR + 2_000 } else { 6 * HOUR - 9_000 };
            let kept = Anchor { boot: "boot 0".into(), boot_ms: began, wall_ms };
            assert_eq!(clock.read(Some(&kept)).boot, "boot 1", "{what}");
        }
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
        if let (Some(boot), Some(later)) = (boot, later) {
            assert!(boot.elapsed <= later.elapsed && boot.awake <= later.awake);
            assert!(boot.awake <= later.elapsed, "who is awake does not sleep");
        }
    }

    /// A machine whose only clock is the wall's.
    #[derive(Debug)]
    struct Bootless(u64);

    impl Machine for Bootless {
        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(self.0)
        }

        fn boot(&self) -> Option<Boot> {
            None
        }
    }

    // covers: S20, L2
    #[test]
    fn without_a_boot_clock_leases_follow_the_clock_of_the_file() {
        let kept = Anchor { boot: String::new(), boot_ms: 6 * HOUR, wall_ms: 6 * HOUR };
        let now = StoreClock::new(Arc::new(Bootless(5 * HOUR))).read(Some(&kept));
        assert_eq!(
            (now.wall.as_millis(), now.awake_ms, now.boot_ms),
            (6 * HOUR, 6 * HOUR, 6 * HOUR)
        );
        let now = StoreClock::new(Arc::new(Bootless(7 * HOUR))).read(Some(&kept));
        assert_eq!((now.wall.as_millis(), now.awake_ms), (7 * HOUR, 7 * HOUR));
    }
}
