//! n8n: another version of a template for a workflow that is there.

use provision_adapters::{
    n8n::{
        ActivationSpec, Node, Template, UpgradeSpec, Workflow, WorkflowActivation, WorkflowMade,
        WorkflowUpgrade,
    },
    sim::{Fault, FaultRule},
};
use provision_core::{Effect, ExternalId, Found, Resource, Verdict};
use serde_json::json;

use crate::{
    n8n::{World, call, template, wanted},
    vercel::{build, settled},
};

/// The next version: the webhook of before under another path, and one more.
fn next(version: &str, path: &str) -> Template {
    let hook = |name: &str, path: &str| {
        let mut hook = Template::webhook("x", "1.0.0", path).nodes.remove(0);
        hook.name = name.to_owned();
        hook
    };
    let mut next = template();
    next.version = version.to_owned();
    next.nodes[0] = hook("Webhook", path);
    next.nodes.push(hook("Second", &format!("{path}/second")));
    next
}

/// An active workflow, and the wish for the next version of it.
async fn active(world: &World) -> (WorkflowMade, UpgradeSpec) {
    let (from, made) = world.workflow().await;
    let activation = WorkflowActivation::new(&world.n8n);
    let spec = ActivationSpec::new(made.clone());
    build(&world.host, &world.cx("activation"), &activation, &spec).await;
    let to = from.clone().with_template(next("2.0.0", "<<client>>/v2"));
    let upgrade = UpgradeSpec::new(made.id.clone(), from, to);
    (made, upgrade)
}

// covers: R1-85, S14
#[tokio::test]
async fn an_active_workflow_is_upgraded_in_place_and_put_back() {
    let world = World::start();
    let (made, spec) = active(&world).await;
    let old = made.webhook_url.clone().unwrap();
    let (upgrade, cx) = (WorkflowUpgrade::new(&world.n8n), world.cx("upgrade"));
    assert_eq!(upgrade.find(&cx, &spec).await.unwrap(), Found::Absent);
    let (id, new) = build(&world.host, &cx, &upgrade, &spec).await;

    assert_eq!((id.as_str(), &new.name), (made.id.as_str(), &made.name), "the same workflow");
    assert_eq!(new.template, "client-intake@2.0.0");
    assert_eq!(upgrade.facts(&spec).template.as_deref(), Some("client-intake@2.0.0"));
    assert_eq!(world.of("workflow").len(), 1);
    assert_eq!(call(&old, None).await, 404);
    for hook in &new.webhooks {
        assert_eq!(call(&hook.url, None).await, 403, "{} is live", hook.node);
    }
    assert_eq!(upgrade.find(&cx, &spec).await.unwrap(), Found::Ours(id.clone()));
    let other = world.cx("another-upgrade");
    assert_eq!(upgrade.find(&other, &spec).await.unwrap(), Found::Absent);
    let owned = upgrade.list_owned(&cx).await.unwrap().complete().unwrap();
    assert_eq!(owned.len(), 1, "{owned:?}");
    let workflow = Workflow::new(&world.n8n);
    let Found::Ours(found) = workflow.find(&world.cx("workflow"), &spec.from).await.unwrap() else {
        panic!("its maker knows it no more")
    };
    assert_eq!(found, id);

    for _ in 0..2 {
        upgrade.delete(&cx, &spec, &id).await.unwrap();
    }
    assert_eq!(upgrade.find(&cx, &spec).await.unwrap(), Found::Absent);
    assert_eq!(call(&old, None).await, 403, "the earlier version is live again");
    assert_eq!(call(&new.webhooks[1].url, None).await, 404);
    assert!(upgrade.list_owned(&cx).await.unwrap().complete().unwrap().is_empty());
    world.check();
}

// covers: S9, S14
#[tokio::test]
async fn an_upgrade_whose_answer_was_lost_is_found_again() {
    let world = World::start();
    let (_, spec) = active(&world).await;
    let upgrade = WorkflowUpgrade::new(&world.n8n);
    for (number, fault) in
        [Fault::DropAfter, Fault::ResetAfter, Fault::StatusAfter(500), Fault::CutBody]
            .into_iter()
            .enumerate()
    {
        let cx = world.cx(&format!("upgrade-{number}"));
        world.server.faults().add(FaultRule::new(fault.clone()).method("PUT").once());
        let intent = world.host.intend(&cx, &upgrade, &spec);
        let error = upgrade.create(&cx, &spec, &intent).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
        let Found::Ours(id) = upgrade.find(&cx, &spec).await.unwrap() else {
            panic!("{}: not found", fault.name())
        };
        settled(&cx, &upgrade, &spec, &id).await.unwrap();
        world.server.faults().add(FaultRule::new(fault.clone()).method("PUT").once());
        let error = upgrade.delete(&cx, &spec, &id).await.unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown, "{error}");
        upgrade.delete(&cx, &spec, &id).await.unwrap();
        assert_eq!(upgrade.find(&cx, &spec).await.unwrap(), Found::Absent, "{}", fault.name());
    }
    world.check();
}

// covers: S11, S12
#[tokio::test]
async fn what_others_have_written_is_not_written_over() {
    let world = World::start();
    let (made, spec) = active(&world).await;
    let upgrade = WorkflowUpgrade::new(&world.n8n);
    let cx = world.cx("upgrade");
    let (id, _) = build(&world.host, &cx, &upgrade, &spec).await;

    // The version that this wish starts from is not there any more.
    let late = world.cx("late-upgrade");
    let intent = world.host.intend(&late, &upgrade, &spec);
    let error = upgrade.create(&late, &spec, &intent).await.unwrap_err();
    assert_eq!((error.code(), error.effect()), ("other_version", Effect::None));

    // A later one stands on ours, which cannot be taken away from under it.
    let to = spec.to.clone().with_template(next("3.0.0", "<<client>>/v3"));
    let above = UpgradeSpec::new(made.id.clone(), spec.to.clone(), to);
    let (third, _) = build(&world.host, &late, &upgrade, &above).await;
    let error = upgrade.delete(&cx, &spec, &id).await.unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("upgraded_since", &Verdict::Operator));
    assert_eq!(error.effect(), Effect::None);
    assert_eq!(upgrade.find(&cx, &spec).await.unwrap(), Found::Ours(id.clone()));
    upgrade.delete(&late, &above, &third).await.unwrap();
    upgrade.delete(&cx, &spec, &id).await.unwrap();

    // Made by hand, and gone.
    let foreign = world.server.with(|sim| sim.seed_workflow("hand", "POST", "by/hand", true));
    let gone = "nothing".to_owned();
    for (workflow, code) in [(foreign, "not_ours"), (gone, "vanished")] {
        let spec = UpgradeSpec::new(workflow.clone(), spec.from.clone(), spec.to.clone());
        let intent = world.host.intend(&late, &upgrade, &spec);
        let error = upgrade.create(&late, &spec, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.verdict()), (code, &Verdict::Permanent));
        upgrade.delete(&late, &spec, &ExternalId::new(workflow)).await.unwrap();
    }
    let writes = world.server.exchanges();
    let writes = writes.iter().filter(|exchange| exchange.request.method == "PUT").count();
    assert_eq!(writes, 4, "two upgrades and two that put back");
}

#[tokio::test]
async fn a_version_that_cannot_work_is_refused_before_anything_is_sent() {
    let world = World::start();
    let spec = wanted(world.credential().await);
    let made = build(&world.host, &world.cx("workflow"), &Workflow::new(&world.n8n), &spec).await.1;
    let upgrade = WorkflowUpgrade::new(&world.n8n);
    let bad_version = Template { version: "2".to_owned(), ..template() };
    let needs = |mut template: Template, kind: &str| {
        template.nodes[1].needs = vec![kind.to_owned()];
        template
    };
    let set = Node {
        parameters: json!({"a": "<<nobody>>"}).as_object().unwrap().clone(),
        ..template().nodes[1].clone()
    };
    let cases = [
        bad_version,
        next("2.0.0", "../elsewhere"),
        needs(next("2.0.0", "v2"), "otherAuth"),
        Template { version: "2.0.0".to_owned(), ..template() }
            .then(Node { name: "X".to_owned(), ..set }),
    ];
    for template in cases {
        let to = spec.clone().with_template(template);
        let wish = UpgradeSpec::new(made.id.clone(), spec.clone(), to);
        let cx = world.cx("upgrade");
        let intent = world.host.intend(&cx, &upgrade, &wish);
        let error = upgrade.create(&cx, &wish, &intent).await.unwrap_err();
        assert_eq!((error.code(), error.effect()), ("invalid_spec", Effect::None), "{error}");
    }
    assert!(world.server.exchanges().iter().all(|exchange| exchange.request.method != "PUT"));
}
