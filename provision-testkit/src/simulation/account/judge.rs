//! What stands against a mutating call, at the moment it is sent.

use provision_core::{Effect, Timestamp};

use super::{Account, Ahead, Back, Findings};
use crate::simulation::world::{Ask, Request};

impl Account {
    /// What stands against a delete of the watch.
    fn judge_watch(&mut self, request: &Request, found: &mut Findings) {
        let path = request.who.path.as_str();
        let step = self.step(path);
        if let Ask::Delete { id } = &request.ask
            && step.back == Back::None
            && step.noted.last().is_some_and(|(live, _)| live.as_str() == id)
        {
            found.push(("S15", format!("the watch deletes {id}, which {path} lives by")));
        }
    }

    /// What stands against a mutating call of this run.
    pub(in super::super) fn judge_call(
        &mut self,
        request: &Request,
        now: Timestamp,
        found: &mut Findings,
    ) {
        let who = &request.who;
        let path = who.path.as_str();
        if who.attempt == 0 {
            self.judge_watch(request, found);
            return;
        }
        let stands = self.standing(path) != Effect::None;
        let ended = self.ended;
        let step = self.step(path);
        if let Some(end) = ended {
            found.push(("S17", format!("{path} calls after the end {end:?}")));
        }
        if who.generation != step.generation {
            found.push(("S10", format!("{path} calls in generation {}", who.generation)));
        }
        match &request.ask {
            Ask::Act | Ask::Create { .. } => {
                if step.ahead == Ahead::Succeeded {
                    found.push(("S8", format!("{path} acts again after it succeeded")));
                } else if step.ahead != Ahead::Open {
                    found.push(("S4", format!("{path} acts before it is started")));
                }
                if step.body.as_ref().is_some_and(|body| *body != request.body) {
                    found.push(("S10", format!("{path} sends another body or key")));
                }
                step.body = Some(request.body.clone());
                if matches!(request.ask, Ask::Create { .. }) {
                    step.sending = Some(now);
                    if step.intent.is_none() {
                        found.push(("S4", format!("{path} creates before its intent")));
                    }
                }
            }
            Ask::UndoAct | Ask::Delete { .. } => {
                let undoing = step.undo_begun && matches!(step.back, Back::Open | Back::Waiting);
                let tidying =
                    matches!(request.ask, Ask::Delete { .. }) && step.ahead == Ahead::Open;
                if !undoing && !tidying {
                    found.push(("S4", format!("{path} is undone before that is started")));
                }
                if undoing && !stands {
                    found.push(("S12", format!("{path} is undone and cannot exist")));
                }
            }
        }
    }
}
