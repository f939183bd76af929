//! Which scenarios there are: recorded from undisturbed runs, then played one by one.

use std::{future::Future, sync::Arc};

use provision_core::RunStatus;

use super::{
    Flaw, Place, Point, Report, Script, Stage, Subject, Upset, judge::Expected, report::MISSED,
    scenario::Performed,
};

/// Tries a saga at every point at which something can go wrong.
#[derive(Debug)]
pub struct Harness<S, F> {
    subject: Arc<S>,
    places: F,
    part: (usize, usize),
    excluded: Vec<(String, &'static str)>,
    every_failure: bool,
    /// What an interrupted run may come to; none where nobody interrupts.
    interrupted: Option<Vec<RunStatus>>,
    interrupted_part: (usize, usize),
    in_turn: bool,
}

/// Crashes tried after each lost answer: enough to reach past the look-up that follows it.
const CRASHES_AFTER_LOSS: usize = 8;
/// Crashes tried after each interruption: enough to reach past the write that takes it.
const CRASHES_AFTER_INTERRUPTION: usize = 8;
/// How often a point is tried that was not reached again: with a store on another thread, which
/// of two parallel steps comes first is a matter of time.
const TRIES: usize = 24;

/// A script without a crash, and what became of it.
struct Calm {
    script: Script,
    performed: Performed,
}

impl Calm {
    fn points(&self) -> Vec<Point> {
        self.performed.trace.points()
    }

    /// The one end it comes to.
    fn ends(&self) -> &[Expected] {
        std::slice::from_ref(&self.performed.found)
    }

    /// Points from where the run begins to unwind, or a step to be given up.
    fn way_back(&self) -> Vec<Point> {
        self.points().split_off(self.performed.trace.points_before_turn())
    }

    /// The points that follow a lost answer closely.
    fn after_the_loss(&self) -> Vec<Point> {
        let Upset::LoseAnswer { path, operation, .. } = &self.script.upset else {
            return Vec::new();
        };
        let label = format!("after `{operation}` of `{path}`");
        let points = self.points().into_iter().skip_while(|point| point.label != label);
        points.take(CRASHES_AFTER_LOSS).collect()
    }

    /// The point of the interruption, and those that follow it closely.
    fn after_the_interruption(&self) -> Vec<Point> {
        let mut points = self.points().split_off(self.performed.trace.points_before_interruption());
        points.truncate(CRASHES_AFTER_INTERRUPTION);
        points
    }

    fn rolls_back(&self) -> bool {
        let status = self.performed.found.status;
        matches!(status, RunStatus::RolledBack | RunStatus::RolledBackKeeping)
    }
}

/// One step failing, in three ways.
struct Refusal {
    refused: Calm,
    twice: Calm,
    afterwards: Calm,
}

impl<S, F, Fut, P> Harness<S, F>
where
    S: Subject,
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = P> + Send,
    P: Place,
{
    /// Tries a saga over stores at these places; every call gives the place of a fresh store.
    #[must_use]
    pub fn new(subject: S, places: F) -> Self {
        let subject = Arc::new(subject);
        let ((part, interrupted_part), excluded) = (((0, 1), (0, 1)), Vec::new());
        let (every_failure, interrupted, in_turn) = (true, None, false);
        Self {
            subject,
            places,
            part,
            excluded,
            every_failure,
            interrupted,
            interrupted_part,
            in_turn,
        }
    }

    /// Plays only every `of`-th crash, beginning with number `part` from 0: so that several tests
    /// share the work. Scenarios without a crash are played in each.
    #[must_use]
    pub fn part(mut self, part: usize, of: usize) -> Self {
        self.part = (part, of.max(1));
        self
    }

    /// Does not let this step fail, nor come twice by order of the harness; says why.
    #[must_use]
    pub fn except(mut self, path: &str, why: &'static str) -> Self {
        self.excluded.push((path.to_owned(), why));
        self
    }

    /// Crashes on the way back only for the failure of the last step, not of each.
    #[must_use]
    pub fn last_failure_only(mut self) -> Self {
        self.every_failure = false;
        self
    }

    /// Lets one call at a time pass: of steps that run side by side and talk to servers, which comes
    /// first would else be a matter of time, and a point might not be found again. The phase in which
    /// a run ends is not compared then. For runtimes of one thread.
    #[must_use]
    pub fn calls_in_turn(mut self) -> Self {
        self.in_turn = true;
        self
    }

    /// Lets somebody do what [`Subject::interrupt`] says, at every point of the undisturbed run, of
    /// its tear-down and of the way back from the last step; and crashes what follows closely.
    ///
    /// A run that comes to the end it had without the interruption comes to all of it. Otherwise
    /// it ends with one of these statuses.
    #[must_use]
    pub fn interrupted(mut self, ends: impl Into<Vec<RunStatus>>) -> Self {
        self.interrupted = Some(ends.into());
        self
    }

    /// Interrupts at every `of`-th of those points alone, beginning with number `part` from 0.
    #[must_use]
    pub fn interrupted_part(mut self, part: usize, of: usize) -> Self {
        self.interrupted_part = (part, of.max(1));
        self
    }

    /// Plays everything and reports.
    pub async fn run(&self) -> Report {
        Box::pin(self.all()).await
    }

    async fn all(&self) -> Report {
        let mut report = Report::default();
        let calm = self.record(Script::default(), &[], &mut report).await;
        if !report.flaws.is_empty() {
            // Nothing can be compared with a run that is wrong undisturbed.
            return report;
        }
        let torn = self.record(calm.script.torn_down(), &[], &mut report).await;
        let after = torn.performed.trace.points_before_first_end();
        let mut crashes = crashes(&calm, calm.points());
        crashes.extend(self::crashes(&torn, torn.points().into_iter().skip(after).collect()));
        let twice = Script::of(Upset::EveryStepTwice);
        let twice = self.record(twice, calm.ends(), &mut report).await;
        crashes.extend(self::crashes(&twice, twice.points()));
        let refusals = self.refusals(&calm, &mut report).await;
        let last = refusals.iter().rfind(|refusal| refusal.refused.rolls_back());
        for refusal in &refusals {
            let is_last = last.is_some_and(|last| last.refused.script == refusal.refused.script);
            if is_last {
                crashes.extend(self::crashes(&refusal.refused, refusal.refused.points()));
                crashes.extend(self::crashes(&refusal.twice, refusal.twice.way_back()));
                crashes.extend(self::crashes(&refusal.afterwards, refusal.afterwards.way_back()));
            } else if self.every_failure {
                crashes.extend(self::crashes(&refusal.refused, refusal.refused.way_back()));
            }
        }
        let lost = self.lost_answers(&calm, last.map(|last| &last.refused), &mut report).await;
        for lost in &lost {
            crashes.extend(self::crashes(lost, lost.after_the_loss()));
        }
        let undoing = torn.points().into_iter().skip(after).collect();
        let mut places = vec![(&calm, calm.points()), (&torn, undoing)];
        places.extend(last.map(|last| (&last.refused, last.refused.way_back())));
        for (calm, points) in places {
            crashes.extend(self.interruptions(calm, points, &mut report).await);
        }
        self.crash_all(crashes, &mut report).await;
        report
    }

    /// Every script that this harness would crash, so that other processes can be killed there.
    pub async fn crash_scripts(&self) -> Vec<Script> {
        let mut report = Report::default();
        let calm = self.record(Script::default(), &[], &mut report).await;
        let mut crashes = crashes(&calm, calm.points());
        let refusals = self.refusals(&calm, &mut report).await;
        if let Some(last) = refusals.iter().rfind(|refusal| refusal.refused.rolls_back()) {
            crashes.extend(self::crashes(&last.refused, last.refused.points()));
        }
        report.assert_flawless();
        crashes.into_iter().map(|(script, _)| script).collect()
    }

    async fn stage(&self) -> Stage<S, P> {
        let (subject, world) = (Arc::clone(&self.subject), self.subject.world());
        let stage = Stage::new(subject, world, (self.places)().await);
        Stage { in_turn: self.in_turn, ..stage }
    }

    /// Plays a script without a crash.
    async fn record(&self, script: Script, expected: &[Expected], report: &mut Report) -> Calm {
        let performed = self.stage().await.perform(&script, expected).await;
        count(report, &performed);
        note(report, &script, performed.flaws.clone());
        Calm { script, performed }
    }

    /// Every step refused in turn; again with every undo twice, and again after its work.
    async fn refusals(&self, calm: &Calm, report: &mut Report) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for path in self.paths(calm) {
            let script = Script::of(Upset::Refuse { path: path.clone() });
            let refused = self.record(script, &[], report).await;
            let status = refused.performed.found.status;
            if !status.is_end() {
                let flaw = format!("refusing `{path}` ends {}", status.as_str());
                note(report, &refused.script, vec![flaw]);
                continue;
            }
            let twice = Script::of(Upset::RefuseAndUndoTwice { path: path.clone() });
            let twice = self.record(twice, refused.ends(), report).await;
            let afterwards = Script::of(Upset::FailAfterwards { path });
            // What was told before the step failed stays told.
            let end = refused.performed.found.allowing(&calm.performed.found.told);
            let afterwards = self.record(afterwards, &[end], report).await;
            refusals.push(Refusal { refused, twice, afterwards });
        }
        refusals
    }

    /// The answer of every changing call lost in turn, on the way there and on the way back.
    async fn lost_answers(
        &self,
        calm: &Calm,
        last: Option<&Calm>,
        report: &mut Report,
    ) -> Vec<Calm> {
        let mut lost = Vec::new();
        for (path, operation, _) in calm.performed.trace.calls() {
            if !self.is_excluded(&path) {
                let script = Script::of(Upset::LoseAnswer { path, operation, refuse: None });
                lost.push(self.record(script, calm.ends(), report).await);
            }
        }
        let Some(last) = last else { return lost };
        let Upset::Refuse { path: refused } = &last.script.upset else { return lost };
        let unwinding = last.performed.trace.calls().into_iter().filter(|(.., forward)| !forward);
        for (path, operation, _) in unwinding {
            let refuse = Some(refused.clone());
            let script = Script::of(Upset::LoseAnswer { path, operation, refuse });
            lost.push(self.record(script, last.ends(), report).await);
        }
        lost
    }

    /// The run interrupted at each of its points in turn; answers with the crashes that follow.
    async fn interruptions(
        &self,
        calm: &Calm,
        points: Vec<Point>,
        report: &mut Report,
    ) -> Vec<Crash> {
        let Some(allowed) = &self.interrupted else { return Vec::new() };
        let (mut interrupted, mut ends) = (Vec::new(), calm.ends().to_vec());
        let (part, of) = self.interrupted_part;
        for point in points.into_iter().skip(part).step_by(of) {
            let calm = self.interruption(calm.script.interrupted_at(point), report).await;
            let found = &calm.performed.found;
            let known = ends.iter().any(|end| end.is(found));
            let may = found.status != ends[0].status && allowed.contains(&found.status);
            if !calm.performed.trace.was_interrupted() {
                report.points += 1;
                note(report, &calm.script, vec![MISSED.to_owned()]);
                continue;
            } else if !known && !may {
                let flaw = format!("it ended as {found:?}, not as {:?}", ends[0]);
                note(report, &calm.script, vec![flaw]);
                continue;
            } else if !known {
                ends.push(found.clone());
            }
            interrupted.push(calm);
        }
        // A crash may move the interruption to before or after what it was beside.
        let told = ends.iter().flat_map(|end| end.told.clone()).collect();
        let ends: Vec<_> = ends.iter().map(|end| end.allowing(&told)).collect();
        let crash = |calm: &Calm, point| (calm.script.crashing_at(point), ends.clone());
        let after = |calm: &Calm| {
            let points = calm.after_the_interruption().into_iter();
            points.map(|point| crash(calm, point)).collect::<Vec<_>>()
        };
        interrupted.iter().flat_map(after).collect()
    }

    /// Plays a script until its interruption is met, or has been missed too often.
    async fn interruption(&self, script: Script, report: &mut Report) -> Calm {
        for _ in 1..TRIES {
            let calm = self.record(script.clone(), &[], report).await;
            if calm.performed.trace.was_interrupted() || !calm.performed.flaws.is_empty() {
                return calm;
            }
        }
        self.record(script, &[], report).await
    }

    async fn crash_all(&self, crashes: Vec<Crash>, report: &mut Report) {
        let (part, of) = self.part;
        for (script, expected) in crashes.into_iter().skip(part).step_by(of) {
            report.points += 1;
            let mut performed = self.stage().await.perform(&script, &expected).await;
            count(report, &performed);
            for _ in 1..TRIES {
                if performed.trace.has_crashed() || !performed.flaws.is_empty() {
                    break;
                }
                performed = self.stage().await.perform(&script, &expected).await;
                count(report, &performed);
            }
            let mut flaws = performed.flaws;
            if performed.trace.has_crashed() {
                report.killed += 1;
            } else {
                flaws.push(MISSED.to_owned());
            }
            note(report, &script, flaws);
        }
    }

    fn is_excluded(&self, path: &str) -> bool {
        self.excluded.iter().any(|(excluded, _)| excluded == path)
    }

    fn paths(&self, calm: &Calm) -> Vec<String> {
        let mut paths = calm.performed.trace.attempted();
        paths.retain(|path| !self.is_excluded(path));
        paths
    }
}

/// A script with a crash, and how it may end.
type Crash = (Script, Vec<Expected>);

fn crashes(calm: &Calm, points: Vec<Point>) -> Vec<Crash> {
    let crash = |point| (calm.script.crashing_at(point), calm.ends().to_vec());
    points.into_iter().map(crash).collect()
}

fn count(report: &mut Report, performed: &Performed) {
    report.scenarios += 1;
    *report.ends.entry(performed.found.status).or_default() += 1;
}

fn note(report: &mut Report, script: &Script, wrong: Vec<String>) {
    if !wrong.is_empty() {
        report.flaws.push(Flaw { script: script.clone(), wrong });
    }
}
