//! A fan-out over a list: each item has its own steps and memo, and one that fails is undone alone.

use provision_core::saga::ItemKey;
use serde::{Deserialize, Serialize};

use super::{
    Entry, Place, RemoveEntry, Report, RunStatus, Saga, SagaId, Subject, Thing, Trial, World, entry,
};

const SAGA: SagaId<String, String> = SagaId::new("cluster", 1);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Node(String);

impl ItemKey for Node {
    fn item_key(&self) -> String {
        self.0.clone()
    }
}

/// Two nodes of a disk and an entry each; the second one's entry is refused for good.
#[derive(Debug, Clone, Copy)]
struct Cluster;

impl Subject for Cluster {
    type Input = String;
    type Output = String;
    type World = World;

    fn world(&self) -> World {
        let world = World::new();
        world.block("put beta-up");
        world
    }

    fn saga(&self, world: &World) -> Saga<String, String> {
        let saga = Saga::define(SAGA, |s| {
            let region = entry(s, world, "region");
            let nodes = s
                .each("nodes", region, |_, _| ["alpha", "beta"].map(|n| Node(n.into())).into())
                .keyed()
                .at_least(1)
                .body(|item| {
                    let disk = Thing::keyed(world);
                    let disk = item.resource("disk", disk).input((), |node, ()| node.0.clone());
                    item.step("up", Entry(world.clone()), RemoveEntry(world.clone()))
                        .after(disk)
                        .input((), |node, ()| format!("{}-up", node.0))
                });
            s.step("close", Entry(world.clone()), RemoveEntry(world.clone())).input(
                nodes,
                |name, nodes| {
                    let up: Vec<_> = nodes.into_iter().filter_map(Result::ok).collect();
                    format!("{name}-{}", up.join("-"))
                },
            )
        });
        saga.unwrap()
    }

    fn input(&self) -> String {
        "acme".to_owned()
    }
}

/// One of two items fails and is undone alone.
// covers: S7, S8, S12, S13
pub async fn a_fan_out_with_a_failing_item_survives_every_crash<P: Place>(
    trial: &Trial<P>,
) -> Report {
    let report = trial.harness(Cluster).run().await;
    trial.check(report, &[RunStatus::PartlySucceeded, RunStatus::RolledBack])
}
